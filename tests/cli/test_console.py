from __future__ import annotations

import logging
import time

import pytest

from fornix.cli import console
from fornix.cli.console import (
    Page,
    bar,
    count_text,
    number_text,
    progress,
    size_text,
    styled,
    table,
    time_text,
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")


@pytest.mark.usefixtures("terminal")
def test_a_bar_appears_once_patience_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "PATIENCE", 0.01)
    with progress("thinking hard"):
        time.sleep(0.3)
    captured = capsys.readouterr()
    assert "thinking hard" in captured.err
    assert captured.out == ""


@pytest.mark.usefixtures("terminal")
def test_a_bar_tells_what_is_being_done_and_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "PATIENCE", 0.01)
    log = logging.getLogger(console.STEPS)
    with progress("beginning"):
        log.info("compiling unit %d of %d", 3, 7)
        time.sleep(0.3)
        log.info("loading in %s, %s", "others", "slowly")
        time.sleep(0.3)
    told = capsys.readouterr().err
    assert "compiling unit 3 of 7" in told
    assert "loading in others, slowly" in told
    assert not log.handlers
    assert log.level == logging.NOTSET


@pytest.mark.usefixtures("terminal")
def test_what_is_quick_shows_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("quick"):
        pass
    assert capsys.readouterr().err == ""


def test_without_a_terminal_there_is_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(console, "PATIENCE", 0.0)
    with progress("quiet"):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("terminal")
def test_an_error_behind_a_bar_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "PATIENCE", 0.0)
    bar = progress("failing")
    bar.__enter__()
    time.sleep(0.05)
    assert not bar.__exit__(KeyError, KeyError(), None)


@pytest.mark.usefixtures("terminal")
def test_a_line_that_does_not_fit_a_terminal_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    page = Page()
    page.tell([styled("x" * 100)])
    assert capsys.readouterr().out == "x" * 59 + "…\n"


def test_tables_align_and_end_without_spaces() -> None:
    rows = [["a", "1", "long"], ["bb", "10", "s"]]
    lines = table({"name": "left", "n": "right", "text": "left"}, rows)
    assert [line.plain for line in lines] == ["name   n  text", "a      1  long", "bb    10  s"]
    bare = table({" name": "left", " n": "right", " text": "left"}, rows)
    assert [line.plain for line in bare] == ["a    1  long", "bb  10  s"]


def test_bars_are_as_long_as_their_share() -> None:
    page = Page()
    assert bar(1, 4, page) in {"████", "####"}
    assert len(bar(0.5, 4, page)) == 2
    assert bar(0.0001, 4, page) in {"▏", "#"}
    assert bar(0.25 + 1 / 32, 4, page) in {"█▏", "#"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (size_text(0), "0 bytes"),
        (size_text(999), "999 bytes"),
        (size_text(83_123), "83.1 kB"),
        (size_text(2.5e9), "2.5 GB"),
        (size_text(3e12), "3 TB"),
        (count_text(999), "999"),
        (count_text(25_557_032), "25.6 M"),
        (count_text(4_000), "4 k"),
        (count_text(7_000_000_000), "7 G"),
        (time_text(1.5), "1.5 s"),
        (time_text(0.00421), "4.21 ms"),
        (time_text(3.2e-5), "32 µs"),
        (time_text(5e-8), "50 ns"),
        (number_text(None), ""),
        (number_text(1 / 3), "0.333333"),
        (number_text(7), "7"),
    ],
)
def test_numbers_are_short(found: str, expected: str) -> None:
    assert found == expected
