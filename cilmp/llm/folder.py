"""The authors' layout, `llm_representations/<set>/<class>.pth`, as one verified file."""

from __future__ import annotations

from pathlib import Path

from cilmp.errors import UserError
from cilmp.llm.extract import stamp
from cilmp.llm.store import Knowledge, tensor


def imported(folder: Path, model: str = "", dataset: str = "") -> Knowledge:
    """Every <class>.pth of a folder, a tensor (layers, width) each."""
    files = sorted(folder.glob("*.pth")) if folder.is_dir() else []
    if not files:
        inner = sorted(f.name for f in folder.iterdir() if f.is_dir()) if folder.is_dir() else []
        hint = f" Import one of its folders: {', '.join(inner)}." if inner else " Check the path."
        raise UserError(f"No .pth files in {folder}.{hint}")
    facts = {"dataset": dataset or folder.resolve().name, "model": model, "imported": "one .pth per class"}
    return Knowledge([file.stem for file in files], [tensor(file).float() for file in files], facts | stamp())
