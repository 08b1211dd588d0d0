"""What subcommands print with: consoles, tables, bars, numbers for people, JSON for programs.

On a terminal output has colours and fits the width; anywhere else it is plain and no line is
broken, so that it can be searched and cut. Text from models is always escaped (`styled`).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from fornix.cli.command import printable

PLAIN_WIDTH = 1_000_000
"""Columns of output that is no terminal: no line is ever broken."""

PATIENCE = 1.0
"""Seconds after which a bar shows that something is going on."""

BLOCKS = "▏▎▍▌▋▊▉█"


class Page(Console):
    """A console that leaves text as it is."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)
        if not self.is_terminal:
            self.width = PLAIN_WIDTH

    @property
    def has_blocks(self) -> bool:
        """Whether what it writes to can show block characters."""
        return self.encoding.lower().startswith("utf")

    def on_broken_pipe(self) -> None:
        """Leave it to `fornix.cli.command`, which ends quietly."""
        raise BrokenPipeError

    def tell(self, lines: Iterable[Text]) -> None:
        """Print ``lines``, none broken: what does not fit is cut."""
        for line in lines:
            self.print(line, no_wrap=True, overflow="ellipsis")

    def say(self, *parts: str | Text) -> None:
        """Print ``parts`` with one space between."""
        self.print(Text(" ").join(x if isinstance(x, Text) else styled(x) for x in parts))


def styled(text: object, style: str = "") -> Text:
    """``text``, which may come from a model, ready to print."""
    return Text().append(printable(str(text)), style)


def table(headers: Mapping[str, str], rows: Sequence[Sequence[str | Text]]) -> list[Text]:
    """The lines of a table; ``headers`` gives "left" or "right" for each column.

    Headers that begin with a space are not shown; a table of such has no line of headers.
    """
    cells = [[x if isinstance(x, Text) else styled(x) for x in row] for row in rows]
    if any(not name.startswith(" ") for name in headers):
        cells.insert(0, [styled(name.strip(), "dim") for name in headers])
    widths = [max((x.cell_len for x in column), default=0) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        for cell, width, side in zip(row, widths, headers.values(), strict=True):
            space = width - cell.cell_len
            cell.pad_left(space) if side == "right" else cell.pad_right(space)
        line = Text("  ").join(row)
        line.rstrip()
        lines.append(line)
    return lines


def bar(share: float, width: int, page: Page) -> str:
    """A bar of ``share`` of ``width`` columns, in eighths where the page has blocks."""
    if not page.has_blocks:
        return "#" * max(1, round(share * width))
    eighths = max(1, round(share * width * 8))
    return "█" * (eighths // 8) + (BLOCKS[eighths % 8 - 1] if eighths % 8 else "")


def echo_json(document: object) -> None:
    """Print ``document`` as JSON, in ASCII."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


STEPS = "fornix.progress"
"""The logger to which whatever takes long says what it is at, at level INFO."""


class Steps(logging.Handler):
    """Shows what the last record says; two numbers in it are how far, and of how many."""

    def __init__(self, display: Progress, task: TaskID) -> None:
        super().__init__()
        self.display, self.task = display, task

    def emit(self, record: logging.LogRecord) -> None:
        """Change the bar."""
        match record.args:
            case (int(done), int(total)):
                far: tuple[int, int | None] = (done, total)
            case _:
                far = (0, None)
        text = record.getMessage()
        self.display.update(self.task, description=text, completed=far[0], total=far[1])


@contextmanager
def progress(description: str) -> Iterator[None]:
    """A bar on stderr while the block runs, once it takes long, if stderr is a terminal."""
    page = Page(stderr=True)
    if not page.is_terminal:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    display = Progress(*columns, console=page, transient=True)
    steps = Steps(display, display.add_task(description, total=None))
    log = logging.getLogger(STEPS)
    level = log.level
    log.addHandler(steps)
    log.setLevel(logging.INFO)
    timer = threading.Timer(PATIENCE, display.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        log.removeHandler(steps)
        log.setLevel(level)
        timer.cancel()
        timer.join()
        if display.live.is_started:
            display.stop()


def size_text(count: float) -> str:
    """``count`` bytes for people: ``83.1 kB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def count_text(count: int) -> str:
    """``count`` for people: ``25.6 M``."""
    for unit, factor in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return str(count)


def time_text(seconds: float) -> str:
    """``seconds`` for people: ``4.21 ms``."""
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def number_text(value: Any) -> str:
    """A number for people, six digits at most; nothing for None."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
