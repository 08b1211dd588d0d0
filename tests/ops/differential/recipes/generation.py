"""Recipes of what com.microsoft does between the steps of a decoder, and of what it had early."""

from __future__ import annotations

import numpy as np

from tests.ops.differential.draw import Arguments, Draw


def repeats(draw: Draw) -> Arguments:
    batch, count, size = draw.whole(1, 3), draw.whole(1, 9), draw.whole(2, 6)
    ids = draw.rng.integers(0, min(size, 3), (batch, count))
    scores = draw.rng.standard_normal((batch, size))
    return Arguments([ids, scores.astype(np.float32)], {"ngram_size": draw.whole(1, 4)})


def bifurcation(draw: Draw) -> Arguments:
    source, current = (draw.rng.integers(0, 4, draw.whole(1, 8)) for _ in range(2))
    first = draw.whole(0, len(source))
    predicted = np.append(source[first:], 1)
    predicted[draw.whole(0, len(predicted) - 1)] += draw.pick((0, 1))
    least = draw.whole(1, 3)
    given = {"min_ngram_size": least, "max_ngram_size": least + draw.whole(0, 3)}
    return Arguments([source, current, np.array([first]), draw.maybe(lambda: predicted)], given, 2)


def parts(draw: Draw) -> Arguments:
    shape = draw.shape(1, 3, zero=False)[:3]
    depth = draw.whole(1, len(shape))
    lead = draw.shape(0, 2, zero=False)[:2]
    places = [draw.rng.integers(-n, n, lead) for n in shape[:depth]]
    return Arguments(
        [draw.array("T", shape), np.stack(places, -1).astype(draw.dtype("Tind").numpy)]
    )


def margins(draw: Draw) -> Arguments:
    shape = [n + 2 for n in draw.shape(1, 3, zero=False)[:3]]
    pads = draw.rng.integers(-1, 2, 2 * len(shape))
    value = draw.maybe(lambda: draw.weights("T", ()))
    mode = draw.pick((None, "constant", "edge", "reflect"))
    return Arguments([draw.weights("T", tuple(shape)), pads, value], {"mode": mode})


def sampled(draw: Draw) -> Arguments:
    shape = (draw.whole(1, 2), draw.whole(1, 3), draw.whole(2, 6), draw.whole(2, 6))
    grid = draw.rng.uniform(-1.2, 1.2, (shape[0], draw.whole(1, 4), draw.whole(1, 4), 2))
    given = {"mode": draw.pick((None, "bilinear", "nearest", "bicubic"))}
    given |= {"padding_mode": draw.pick((None, "zeros", "border", "reflection"))}
    x = draw.rng.standard_normal(shape)
    return Arguments(
        [np.asarray(part, np.float32) for part in (x, grid)],
        given | {"align_corners": draw.pick((0, 1))},
    )


def unfolded(draw: Draw) -> Arguments:
    shape = draw.shape(1, 3, zero=False)[:3]
    axis = draw.axis(len(shape))
    given = {"dim": axis, "size": draw.whole(1, shape[axis]), "step": draw.whole(1, 3)}
    return Arguments([draw.array("T", shape)], given)
