"""Tables of a download: CSV in an encoding that is known, never guessed, and Excel sheets."""

from __future__ import annotations

import codecs
import csv
import io

from cilmp.errors import UserError, brief

BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SHEETS = (".xlsx", ".xlsm")


def rows(content: bytes, name: str, encoding: str = "") -> list[dict[str, str]]:
    """Rows of a CSV (comma, semicolon, tab or bar) or of an XLSX's first sheet; names and values stripped of blanks.

    encoding: of a CSV that says none by a mark at its start and is not UTF-8.  UserError for two columns of one name
    and for rows that are longer than the header.
    """
    if name.lower().endswith((".xls", ".ods", ".numbers")):
        raise UserError(f"{name} is a sheet that cannot be read: save it as .xlsx or CSV.")
    cells = sheet(content, name) if name.lower().endswith(SHEETS) else lines(text(content, name, encoding), name)
    cells = [[str(cell).strip() for cell in row] for row in cells]
    header = cells[0] if cells else []
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        raise UserError(f"{name} has two columns {brief(twice)}: rename one.")
    found = []
    for number, row in enumerate(cells[1:], 2):
        if any(row[len(header) :]):
            raise UserError(
                f"Row {number} of {name} has {len(row)} cells, its header {len(header)}: quote a value with a "
                f"separator in it ({brief(row, 6)})."
            )
        if any(row):
            found.append(dict(zip(header, row + [""] * (len(header) - len(row)), strict=False)))
    return found


def text(content: bytes, name: str, encoding: str = "") -> str:
    """Decoded by what is given, its mark or UTF-8, strictly: a replaced letter may join two classes."""
    marked = next((known for bom, known in BOMS.items() if content.startswith(bom)), "")
    try:
        decoded = content.decode(encoding or marked or "utf-8").removeprefix("\ufeff")
    except LookupError:
        raise UserError(
            f"--encoding {encoding} is not known: such as utf-8, utf-16, cp1252, latin-1, gb18030."
        ) from None
    except ValueError:  # UnicodeDecodeError
        decoded = "\0"
    if "\0" in decoded:
        raise UserError(
            f"{name} is not {encoding or marked or 'UTF-8'}: name its encoding, such as --encoding cp1252 (Excel in "
            "the West), gb18030 (in China) or utf-16, or save it as UTF-8."
        )
    return decoded


def lines(text: str, name: str) -> list[list[str]]:
    header = text.split("\n", 1)[0]
    separator = max(",;\t|", key=header.count)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise UserError(f"{name} is not a CSV: {error}.") from None


def sheet(content: bytes, name: str) -> list[list]:
    try:
        import openpyxl
    except ImportError:
        raise UserError(f"{name} is an Excel file, which needs openpyxl: pip install openpyxl.") from None
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        return [["" if v is None else v for v in row] for row in book.worksheets[0].iter_rows(values_only=True)]
    except Exception as error:  # the library fails in many ways
        raise UserError(f"{name} cannot be read as an Excel file ({type(error).__name__}: {error}).") from None
