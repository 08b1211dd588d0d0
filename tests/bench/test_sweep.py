from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import onnxruntime
import pytest

from bench import picture, sweep
from bench.series import FAMILIES
from bench.sweep import FOUND, PICTURE, Point, in_order, is_wanted, read, write

SVG = "{http://www.w3.org/2000/svg}"
LARGEST = 3e7
"""Elements of an input that a series may have."""


def row(size: int = 1, threads: int = 1, **more: Any) -> dict[str, Any]:
    """A point of the first series at which fornix takes half of a peer's time."""
    found = {
        "family": "products", "series": FAMILIES["products"][0].name, "counts": "n", "size": size,
        "threads": threads, "seconds": {"fornix": 1e-6, "onnxruntime": 2e-6, "openvino": 3e-6},
        "errors": {}, "difference": 0.0, "day": "2026-01-01",
    }  # fmt: skip
    return found | more


@pytest.mark.parametrize("family", FAMILIES)
def test_the_least_model_of_every_series_runs(family: str, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for series in FAMILIES[family]:
        case = series.case(series.sizes[0])
        session = onnxruntime.InferenceSession(case.write(tmp_path), options)
        assert len(session.run(list(case.outputs), case.feeds())) == len(case.outputs)


def test_series_grow_and_have_names_of_their_own() -> None:
    for family in FAMILIES.values():
        assert len({series.name for series in family}) == len(family)
        for series in family:
            assert list(series.sizes) == sorted(set(series.sizes))
            shapes = series.case(series.sizes[-1]).inputs.values()
            assert max(map(prod, shapes)) <= LARGEST


def test_extents_that_any_may_be_are_not_declared(tmp_path: Path) -> None:
    (series,) = (s for s in FAMILIES["products"] if s.name.startswith("any rows"))
    options = onnxruntime.SessionOptions()
    (x,) = onnxruntime.InferenceSession(series.case(7).write(tmp_path), options).get_inputs()
    assert x.shape == ["n", 768]


def test_a_point_is_measured_once_unless_it_is_slow_or_failed() -> None:
    engines = ["fornix", "onnxruntime"]
    assert is_wanted(None, engines, None)
    assert not is_wanted(row(), engines, None)
    assert is_wanted(row(), [*engines, "torch"], None)
    assert not is_wanted(row(errors={"torch": "no"}), [*engines, "torch"], None)
    assert is_wanted(row(errors={"fornix": "no"}), engines, None)
    assert not is_wanted(row(), engines, 1.9)
    assert is_wanted(row(), engines, 2.1)


def test_ratio_is_that_of_the_faster_peer() -> None:
    assert picture.ratio_of(row()) == 2.0
    assert picture.ratio_of(row(seconds={"fornix": 1.0})) is None


def test_rows_keep_the_order_of_the_series_and_survive_their_file(tmp_path: Path) -> None:
    rows = [row(7, 2), row(7), row(2), row(3)]
    kept = in_order(rows)
    assert [(x["size"], x["threads"]) for x in kept] == [(2, 1), (7, 1), (7, 2)]
    path = tmp_path / "found.json"
    write(path, {"machine": "m", "rows": kept})
    assert read(path) == {"machine": "m", "rows": kept}
    assert len(path.read_text().splitlines()) == len(kept) + 2


def test_points_are_those_of_series_that_were_asked_for() -> None:
    found = list(sweep.points(["attention"], "mask"))
    (series,) = {point.series.name for point in found}
    assert "mask" in series
    assert found[0] == Point("attention", found[0].series, found[0].series.sizes[0])


def test_a_picture_has_a_panel_for_every_series() -> None:
    rows = [row(1), row(7), row(7, 2), row(1, series="b"), row(1, family="c", difference=0.5)]
    drawn = ET.fromstring(picture.drawn({"machine": "m < n", "rows": rows}))  # noqa: S314 - ours
    assert len(drawn.findall(f"{SVG}g")) == 3
    assert sum("wrong" in x.get("class", "") for x in drawn.iter(f"{SVG}path")) == 1
    assert len(list(drawn.iter(f"{SVG}polyline"))) == 4
    said = [x.text for x in drawn.iter(f"{SVG}text")]
    assert "m < n; 2026-01-01" in said
    assert "prefers-color-scheme: dark" in str(drawn.findtext(f"{SVG}style"))


def test_ratios_beyond_the_panel_stand_on_its_border() -> None:
    assert picture.height(100) == 0
    assert picture.height(0.01) == picture.HEIGHT
    assert picture.height(0.5) > picture.height(1) > picture.height(2)


def test_the_picture_in_the_guides_is_that_of_what_was_found() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture.drawn(read(FOUND))
