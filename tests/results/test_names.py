"""Names that mean something to a spreadsheet, a typesetter, a terminal: written as they are, and obeyed by none."""

import csv
import io

import pytest

from cilmp.results import sheets
from cilmp.results.tables import ESCAPES, Cell, Table


@pytest.mark.parametrize("name, written", [
    ("=cmd|'/C calc'!A0", "'=cmd|'/C calc'!A0"), ("+1+1", "'+1+1"), ("-2+3", "'-2+3"), ("@SUM(A1)", "'@SUM(A1)"),
    ("\t=1", "'\t'=1"), ("\r=1", "' =1"), ("a\r\n=1", "a =1"), ("＝1+1", "'＝1+1"), ("a;=1+1", "a;'=1+1"),
    ("-", "'-"), ("-inf", "'-inf"), ("=1", "'=1"),
    ("benign", "benign"), ("a=b", "a=b"), ("grade -1", "grade -1"), ("-1.5", "-1.5"), ("+2e-05", "+2e-05"),
    ("'=1", "'=1"), ("b\udce9nin", r"b\udce9nin"), (-1.5, "-1.5"), (7, "7"),
])  # fmt: skip
def test_a_sheet_holds_no_formula(name, written):
    out = io.StringIO(newline="")
    sheets.writer(out)([name])
    assert list(csv.reader(io.StringIO(out.getvalue(), newline=""))) == [[written]]


def test_a_table_s_labels_are_text_in_csv_and_its_numbers_numbers():
    table = Table("t", ["=trainer"], ["+x"], [(("@a",), [Cell({1: -2.5})])])
    assert table.csv().splitlines()[1].split(",") == ["t", "'@a", "'+x", "-2.5", "", "1", "1"]


@pytest.mark.parametrize("format, name, written", [
    ("latex", r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
    ("latex", "$x_1$ ~^", r"\$x\_1\$ \textasciitilde{}\textasciicircum{}"),
    ("md", "a|b<script>", r"a\|b&lt;script>"),
    ("text", "a\x1b[2Jb\nc", "a [2Jb c"),
])  # fmt: skip
def test_names_are_written_as_they_are(format, name, written):
    assert ESCAPES[format](name) == written
    assert written in Table(name, ["trainer"], ["x"], [((name,), [Cell({1: 1.0})])]).render(format)
