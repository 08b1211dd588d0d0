from __future__ import annotations

import math

import numpy as np

from fornix.debug.measure import gap


def test_the_worst_element_is_told_in_units_of_what_is_allowed() -> None:
    found = gap(np.array([1.0, 2.5, 3.0]), np.array([1.0, 2.0, 2.0]), np.array([1.0, 0.1, 1.0]))
    assert (found.absolute, found.relative) == (1.0, 0.5)
    assert (found.times, found.place) == (5.0, (1,))
    assert (found.found, found.wanted) == (2.5, 2.0)
    assert (found.beyond, found.count) == (1, 3)


def test_nothing_is_allowed_unless_it_is_said() -> None:
    assert gap(np.array([1.0]), np.array([1.0])).is_explained
    found = gap(np.array([1.5]), np.array([1.0]))
    assert found.times == math.inf
    assert not found.is_explained


def test_nan_is_equal_to_nan_and_infinity_to_that_of_its_sign() -> None:
    odd = np.array([np.nan, np.inf, -np.inf])
    assert gap(odd, odd).is_explained
    assert gap(np.array([np.nan]), np.array([1.0]), 9.0).fault == "NaN"
    assert gap(np.array([np.inf]), np.array([1.0]), 9.0).fault == "infinity"
    assert gap(np.array([-np.inf]), np.array([np.inf]), 9.0).fault == "infinity"


def test_other_values_are_equal_or_not() -> None:
    words = np.array(["a", "b"], object)
    assert gap(words, words).is_explained
    found = gap(np.array(["a", "c"], object), words)
    assert (found.found, found.wanted, found.place) == ("c", "b", (1,))
    assert gap({"a": 1.0}, {"a": 1.0}).is_explained
    assert gap({"a": 1.0}, {"a": 2.0}).fault == "kind"
    assert gap(None, np.zeros(1)).fault == "kind"
    assert gap(None, None).is_explained


def test_sequences_are_compared_element_by_element() -> None:
    one, other = [np.zeros(2), np.ones(2)], [np.zeros(2), np.full(2, 3.0)]
    assert gap(one, one).is_explained
    assert gap(one, other).absolute == 2.0
    assert gap(one, other[:1]).fault == "length"
    assert gap(one, np.zeros(2)).fault == "kind"


def test_shapes_have_to_be_the_same() -> None:
    assert gap(np.zeros((2, 1)), np.zeros((1, 2))).fault == "shape"
    assert gap(np.zeros((0, 2)), np.zeros((0, 2))).is_explained
