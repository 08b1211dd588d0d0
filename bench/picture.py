"""Draws what `sweep` found: for every series a small panel, ratio over size.

The picture is SVG text with a style for light and one for dark pages. Both axes are logarithmic;
ratios beyond the panel stand on its border. Nothing here knows how numbers were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import log, log2
from typing import Any

Row = Mapping[str, Any]

COLUMNS = 6
WIDTH, HEIGHT = 168, 84
"""Of a panel, in pixels."""
GAP_X, GAP_Y = 26, 40
LEFT, TOP = 34, 62
HEADING = 38
"""Pixels that the name of a family takes."""
LONG = 27
"""Letters of a name that are as wide as a panel."""
LOW, HIGH = 0.25, 16.0
"""Ratios at the lower and the upper border of a panel."""
LINES = (0.5, 1, 2, 4, 8)
APART = 1e-3
"""Results that differ by more, relative to the largest, are marked as wrong."""

STYLE = """
text { font: 11px system-ui, sans-serif; fill: #3b424a }
.title { font-size: 15px; font-weight: 600 } .family { font-size: 13px; font-weight: 600 }
.long { font-size: 8.5px }
.small { font-size: 9px; fill: #6b7580 } .grid { stroke: #8c959f; stroke-opacity: .28 }
.one { stroke: #8c959f } .slow { fill: #d1242f; fill-opacity: .1 }
.t1, .t2 { fill: none; stroke-width: 1.5 } .t1 { stroke: #0b63c5 } .t2 { stroke: #c2560a }
.m1 { fill: #0b63c5 } .m2 { fill: #c2560a } .wrong { stroke: #d1242f; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #d6dce2 } .long { font-size: 8.5px }
.small { fill: #9aa4ae }
  .t1 { stroke: #6cb0ff } .t2 { stroke: #ffa657 } .m1 { fill: #6cb0ff } .m2 { fill: #ffa657 }
}
"""


def drawn(record: Mapping[str, Any]) -> str:
    """The picture of ``record``, as `sweep` writes it."""
    body: list[str] = []
    y = TOP
    for family, series in grouped(record["rows"]).items():
        body.append(label(LEFT, y + 14, family, "family"))
        y += HEADING
        for index, (name, rows) in enumerate(series.items()):
            column, line = index % COLUMNS, index // COLUMNS
            x = LEFT + column * (WIDTH + GAP_X)
            body += panel(x, y + line * (HEIGHT + GAP_Y), name, rows)
        y += -(-len(series) // COLUMNS) * (HEIGHT + GAP_Y)
    wide = LEFT + COLUMNS * (WIDTH + GAP_X)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {y}" width="{wide}">'
        f"<style>{STYLE}</style>{''.join(markers())}"
    )
    return "\n".join([head, *title(record), *body, "</svg>"]) + "\n"


def grouped(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Rows by family and series."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(row["family"], {}).setdefault(row["series"], []).append(row)
    return found


def title(record: Mapping[str, Any]) -> Iterator[str]:
    """What is shown, what the colours mean, where and when it was measured."""
    peers = sorted({name for row in record["rows"] for name in row["seconds"]} - {"fornix"})
    days = sorted({row["day"] for row in record["rows"]})
    told = " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))
    what = f"Time of {' or '.join(peers)}, the faster, ÷ time of fornix, over size"
    yield label(LEFT, 20, f"{what}: above 1, fornix is faster", "title")
    yield f'<path class="t1" d="M{LEFT} 33h22"/>' + label(LEFT + 28, 37, "1 thread")
    yield f'<path class="t2" d="M{LEFT + 90} 33h22"/>' + label(LEFT + 118, 37, "2 threads")
    yield label(LEFT + 190, 37, f"{record['machine']}; {told}")


def markers() -> Iterator[str]:
    """Dots that lines carry at their points."""
    for kind in ("1", "2"):
        yield (
            f'<marker id="d{kind}" viewBox="-2 -2 4 4" markerWidth="4" markerHeight="4" '
            f'markerUnits="userSpaceOnUse"><circle r="1.9" class="m{kind}"/></marker>'
        )


def panel(x: float, y: float, name: str, rows: Sequence[Row]) -> Iterator[str]:
    """One series."""
    sizes = sorted({row["size"] for row in rows})
    counts = rows[0]["counts"]
    yield f'<g transform="translate({x} {y})">'
    yield label(0, -5, name, "long" if len(name) > LONG else "")
    floor, even = height(LOW), height(1)
    yield f'<rect class="slow" y="{even:.1f}" width="{WIDTH}" height="{floor - even:.1f}"/>'
    for value in LINES:
        kind = "one" if value == 1 else "grid"
        yield f'<path class="{kind}" d="M0 {height(value):.1f}h{WIDTH}"/>'
        yield label(-4, height(value) + 3, f"{value:g}", "small", "end")
    yield label(0, HEIGHT + 11, f"{counts} = {sizes[0]:,}", "small")
    yield label(WIDTH, HEIGHT + 11, f"{sizes[-1]:,}", "small", "end")
    for threads in sorted({row["threads"] for row in rows}):
        yield from curve([row for row in rows if row["threads"] == threads], sizes, threads)
    yield "</g>"


def curve(rows: Sequence[Row], sizes: Sequence[int], threads: int) -> Iterator[str]:
    """The line of one number of threads; wrong results are crossed out."""
    found = [(place(row["size"], sizes), ratio, row) for row in rows if (ratio := ratio_of(row))]
    ends = " ".join(f"{x:.1f},{height(ratio):.1f}" for x, ratio, _ in found)
    kind = min(threads, 2)
    dots = "".join(f' marker-{at}="url(#d{kind})"' for at in ("start", "mid", "end"))
    yield f'<polyline class="t{kind}" points="{ends}"{dots}/>'
    for x, ratio, row in found:
        if (row["difference"] or 0) > APART:
            y = height(ratio)
            yield f'<path class="wrong" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'


def ratio_of(row: Row) -> float | None:
    """Least time of a peer ÷ time of fornix; None where either could not run."""
    peers = [seconds for engine, seconds in row["seconds"].items() if engine != "fornix"]
    own: float | None = row["seconds"].get("fornix")
    return min(peers) / own if peers and own else None


def place(size: int, sizes: Sequence[int]) -> float:
    """Pixels from the left border."""
    if len(sizes) == 1:
        return WIDTH / 2
    return WIDTH * log(size / sizes[0]) / log(sizes[-1] / sizes[0])


def height(ratio: float) -> float:
    """Pixels from the upper border."""
    inside = min(max(ratio, LOW), HIGH)
    return HEIGHT * (log2(HIGH) - log2(inside)) / (log2(HIGH) - log2(LOW))


def label(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    """Text that stands at a place."""
    return f'<text x="{x}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
