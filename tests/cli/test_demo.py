from __future__ import annotations

import re

import numpy as np
import pytest

from fornix.cli.console import Page
from fornix.cli.demo import ASCII_SHADES, SIDE, caption, enlarged, pictures
from tests.cli.command import call

COUNT = 12


def test_every_picture_is_told_with_reading_probability_and_the_truth() -> None:
    told = call("demo", "--json").json
    assert set(told) == {"accuracy", "seconds_per_picture", "pictures"}
    assert len(told["pictures"]) == COUNT
    _, labels = pictures()
    for entry, label in zip(told["pictures"], labels, strict=True):
        assert set(entry) == {"label", "prediction", "probability", "correct"}
        assert entry["label"] == label
        assert 0.1 < entry["probability"] <= 1
        assert entry["correct"] is bool(entry["prediction"] == label)
    right = sum(entry["correct"] for entry in told["pictures"])
    assert told["accuracy"] == right / COUNT >= 0.9
    assert 0 < told["seconds_per_picture"] < 1


def test_plain_output_draws_with_characters_four_side_by_side() -> None:
    outcome = call("demo")
    assert outcome.code == 0
    assert "\x1b" not in outcome.out
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) == 4 * SIDE + 3 * 3
    drawn = [line for line in lines if set(line) <= set(ASCII_SHADES) and line.strip()]
    assert len(drawn) == 3 * 8
    assert len(re.findall(r"\d  \d+\.\d%", outcome.out)) == COUNT
    assert re.fullmatch(r"\d+ of 12 right, .* per picture \(12 at once\)", lines[-1])


def test_a_terminal_gets_grey_half_blocks_as_wide_as_it_is() -> None:
    wide = {
        "FORCE_COLOR": "1",
        "COLUMNS": "200",
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }
    out = call("demo", **wide).out
    assert "▀" in out
    assert "38;2;0;0;0" in out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()
    assert plain[0] == "   ".join(["▀" * SIDE] * 10)
    narrow = call("demo", **{**wide, "COLUMNS": "20"}).out
    assert re.sub(r"\x1b\[[0-9;]*m", "", narrow).splitlines()[0] == "▀" * SIDE


def test_a_terminal_without_colours_gets_characters() -> None:
    out = call("demo", FORCE_COLOR="1", TERM="dumb", COLUMNS="80").out
    assert "▀" not in out


def test_a_wrong_reading_says_what_is_right() -> None:
    reading = {"prediction": 3, "probability": 0.625, "label": 8, "correct": False}
    text = caption(reading)
    assert (text.plain.strip(), str(text.style)) == ("3  62.5% not 8", "bold red")
    right = caption({**reading, "label": 3, "correct": True})
    assert (right.plain, str(right.style)) == ("3  62.5%".ljust(SIDE), "green")


def test_enlarging_keeps_constants_and_interpolates_between_centres() -> None:
    assert enlarged(np.full((8, 8), 0.3)) == pytest.approx(np.full((SIDE, SIDE), 0.3))
    ramp = np.broadcast_to(np.arange(8.0), (8, 8))
    inner = enlarged(ramp)[0, 1:-1]
    assert np.diff(inner) == pytest.approx(0.5)


def test_a_page_that_is_no_terminal_breaks_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    Page().say("word " * 1000)
    assert capsys.readouterr().out.count("\n") == 1
