"""What benchmarks/gpu.py found, as Markdown: how each part ended, and its rows as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def markdown(whole: Mapping) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in whole["facts"].items())
    lines = ["# On this device", "", facts, ""]
    if whole["missing"]:
        lines += [f"Missing packages: {', '.join(whole['missing'])}", ""]
    lines += table([{key: part[key] for key in ("part", "ended", "seconds")} for part in whole["parts"]])
    for part in whole["parts"]:
        lines += ["", f"## {part['part']}", ""]
        for result in part.get("results", ()):
            lines += [f"{result['device']}, {result['precision']}", "", *table(result["rows"])]
        if not part.get("results") or part["ended"] != "well":
            lines += ["```", *part.get("said", ()), "```"]
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Mapping]) -> list[str]:
    """Columns as the first row has them; what is no number and no text stands in gpu.json alone."""
    if not rows:
        return []
    columns = [key for key, value in rows[0].items() if not isinstance(value, dict | list)]
    lines = [columns, ["---"] * len(columns), *([cell(row.get(column)) for column in columns] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")
