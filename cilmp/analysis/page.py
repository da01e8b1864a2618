"""HTML: one page without scripts or addresses outside of itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from cilmp.results.tables import LEGEND, Listing, Table

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 62rem; margin: 0 auto;
  padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; border-bottom: 2px solid #111; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
nav a { margin-right: 1rem; display: inline-block; } .quiet { color: #444; font-size: .9rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ccc; text-align: right; white-space: nowrap; }
th.label, td.label { text-align: left; } thead th { border-bottom: 2px solid #111; }
td.long { white-space: normal; min-width: 16rem; text-align: left; }
td.missing { color: #555; font-style: italic; }
figure { margin: .5rem 0 1rem; } figure img { max-width: 100%; height: auto; }
figure.several { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: .5rem; }
figure.several figcaption { grid-column: 1 / -1; }
figcaption { font-size: .85rem; color: #444; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .8rem; padding: 0;
  list-style: none; }
.gallery img, .gallery .gone { width: 100%; aspect-ratio: 1; object-fit: contain; background: #eee;
  border: 1px solid #999; }
.gallery .gone { display: grid; place-items: center; font-size: .8rem; padding: .4rem; }
.gallery li { font-size: .85rem; line-height: 1.35; break-inside: avoid; }
@media (max-width: 40rem) { body { padding: .7rem; font-size: 15px; } th, td { padding: .25rem .45rem; } }
@media print { body { max-width: none; font-size: 10pt; } nav { display: none; } .wide { overflow: visible; }
  figure, table, .gallery li { break-inside: avoid; } h2, h3 { break-after: avoid; }
  th, td { white-space: normal; overflow-wrap: normal; padding: .2rem .35rem; font-size: 8.5pt; }
  td.long { overflow-wrap: anywhere; min-width: 0; } }
"""


def page(title: str, subtitle: str, sections: Sequence[tuple[str, str]]) -> str:
    """sections: (heading, HTML)."""
    links = "".join(f'<a href="#s{i}">{escape(name)}</a>' for i, (name, _) in enumerate(sections))
    body = "".join(
        f'<section id="s{i}"><h2>{escape(name)}</h2>{html}</section>' for i, (name, html) in enumerate(sections)
    )
    whole = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><header><h1>{escape(title)}</h1>"
        f'<p class="quiet">{escape(subtitle)}</p><nav aria-label="Sections">{links}</nav></header>'
        f"<main>{body}</main></body></html>\n"
    )
    return whole.encode(errors="replace").decode()  # names of files need not be Unicode


def quiet(line: str) -> str:
    return f'<p class="quiet">{escape(line)}</p>'


def table(t: Table) -> str:
    ranks, marks = t.ranks(), {0: "<b>{}</b>", 1: "<u>{}</u>"}
    head = [f'<th class="label" scope="col">{escape(name)}</th>' for name in t.labels]
    head += [f'<th scope="col">{escape(name)}</th>' for name in t.columns]
    rows, seen = [], ()
    for i, (labels, cells) in enumerate(t.rows):
        line = []
        for k, label in enumerate(labels):
            repeated = k < len(labels) - 1 and labels[: k + 1] == seen[: k + 1]
            line.append(f'<td class="label">{"" if repeated else escape(label)}</td>')
        seen = labels
        for j, cell in enumerate(cells):
            text = escape(t.shown(cell, "±"))
            kind = ' class="missing"' if text == "missing" else ""
            line.append(f"<td{kind}>{marks.get(ranks.get((i, j)), '{}').format(text)}</td>")
        rows.append(f"<tr>{''.join(line)}</tr>")
    notes = [*t.notes, *([] if isinstance(t, Listing) else [LEGEND["md"]])]
    return (
        f'<div class="wide"><table><caption>{escape(t.title)}</caption><thead><tr>{"".join(head)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>" + "".join(map(quiet, notes))
    )


def figure(heading: str, pictures: Mapping[str, str], caption: str) -> str:
    """Pictures, {what it shows: data: address}, side by side where there is room."""
    shown = "".join(f'<img src="{address}" alt="{escape(alt, quote=True)}">' for alt, address in pictures.items())
    kind = ' class="several"' if len(pictures) > 1 else ""
    return f"<h3>{escape(heading)}</h3><figure{kind}>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def gallery(items: Iterable[tuple[str | None, str, Sequence[str]]]) -> str:
    """(data: address or None, what the image is, lines below it)."""
    cells = []
    for address, name, lines in items:
        shown = f'<img src="{address}" alt="{escape(name, quote=True)}">' if address else ""
        shown = shown or f'<div class="gone">no image at {escape(name)}</div>'
        cells.append(f"<li>{shown}{'<br>'.join(map(escape, lines))}</li>")
    return f'<ul class="gallery">{"".join(cells)}</ul>'


def definitions(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """A table of words."""
    cells = "".join(f'<th class="label" scope="col">{escape(h)}</th>' for h in head)
    lines = ["".join(f'<td class="label long">{escape(str(c))}</td>' for c in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
