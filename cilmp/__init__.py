"""CILMP: prompt tuning of frozen vision-language models for medical images."""

__version__ = "0.1.0"
