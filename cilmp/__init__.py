"""CILMP: prompt tuning of frozen vision-language models for medical images."""

import importlib

__version__ = "0.1.0"


def __getattr__(name: str):
    """cilmp.load, with all that it imports, when it is asked for."""
    if name == "load":
        return importlib.import_module("cilmp.classifier").load
    raise AttributeError(f"module 'cilmp' has no attribute '{name}'")
