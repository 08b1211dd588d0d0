"""Recipes of the layers of diffusion models that com.microsoft has."""

from __future__ import annotations

from tests.ops.differential.draw import Arguments, Draw


def group_norm(draw: Draw) -> Arguments:
    groups, size, last = draw.whole(1, 3), draw.whole(1, 3), draw.pick((0, 1))
    channels, places = groups * size, (draw.whole(1, 4), draw.whole(1, 4))
    batch = draw.whole(1, 2)
    shape = (batch, *places, channels) if last else (batch, channels, *places)
    inputs = [draw.weights("T", shape), *(draw.weights("M", (channels,)) for _ in range(2))]
    given = {"groups": groups, "channels_last": last, "activation": draw.pick((0, 1))}
    return Arguments(inputs, given)


def skip_group_norm(draw: Draw) -> Arguments:
    x, *others = (arguments := group_norm(draw)).inputs
    last, rank = arguments.attributes["channels_last"], x.ndim
    batch, channels = x.shape[0], others[0].shape[0]
    places = (1,) * (rank - 2)
    same = (batch, *places, channels) if last else (batch, channels, *places)
    skip = draw.weights("T", draw.pick((x.shape, same, (batch, channels))))
    bias = draw.maybe(lambda: draw.weights("T", (channels,)))
    return Arguments([x, *others, skip, bias], arguments.attributes, draw.pick((1, 2)))


def nhwc_conv(draw: Draw) -> Arguments:
    group, channels, filters = draw.whole(1, 2), draw.whole(1, 3), draw.whole(1, 3)
    taps, size = (tuple(draw.whole(least, 3 + least) for _ in range(2)) for least in (1, 4))
    given = {"group": group, "kernel_shape": list(taps), "pads": [draw.whole(0, 1)] * 4}
    given |= {"strides": [draw.whole(1, 2), draw.whole(1, 2)]}
    inputs = [
        draw.weights("T", (draw.whole(1, 2), *size, group * channels)),
        draw.weights("T", (group * filters, *taps, channels)),
        draw.maybe(lambda: draw.weights("T", (group * filters,))),
    ]
    return Arguments(inputs, given)


def bias_add(draw: Draw) -> Arguments:
    shape = draw.shape(1)
    return Arguments([draw.weights("T", own) for own in (shape, shape[-1:], shape)])


def bias_split(draw: Draw) -> Arguments:
    shape = (draw.whole(1, 2), draw.whole(1, 4), 2 * draw.whole(1, 9))
    return Arguments([draw.weights("T", own) for own in (shape, shape[-1:])])
