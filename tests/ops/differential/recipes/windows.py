"""Recipes of convolutions, pools and normalizations: operators over channels and spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.ops.differential.draw import Arguments, Draw

Recipe = Callable[[Draw], Arguments]

AUTO = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def windows(
    draw: Draw, spatial: Sequence[int], *, fixed: Sequence[int] | None = None
) -> dict[str, Any]:
    """Attributes of windows that fit into ``spatial``, at least once; sometimes larger than it."""
    kernel = list(fixed) if fixed is not None else [draw.whole(1, 4) for _ in spatial]
    auto = draw.pick(AUTO) if draw.chance(0.35) else None
    strides = [draw.whole(1, 3) for _ in spatial]
    dilations = [draw.pick((1, 1, 2, 3)) if draw.has("dilations") else 1 for _ in spatial]
    pads = [draw.whole(0, max(k - 1, 0)) for k in kernel] * 2
    if draw.chance():
        pads = [draw.whole(0, max(k - 1, 0)) for k in kernel + kernel]
    half = len(spatial)
    padded = auto in {None, "NOTSET"} and draw.chance(0.8)
    if auto in {"SAME_UPPER", "SAME_LOWER"} and fixed is None:
        padded = False  # such windows may be larger than the data
        spatial = [
            max(n, (k - 1) * g + 1) for n, k, g in zip(spatial, kernel, dilations, strict=True)
        ]
    for i, (extent, k) in enumerate(zip(spatial, kernel, strict=True)):
        grown = extent + (pads[i] + pads[half + i] if padded else 0)
        if (k - 1) * dilations[i] + 1 > grown:
            dilations[i] = 1
        if k > grown and fixed is None:
            kernel[i] = max(grown, 1)
        elif k > grown:
            padded, auto, pads[i], pads[half + i] = True, None, k - 1, max(pads[half + i], k - 1)
    for i, k in enumerate(kernel):  # the peers want pads below the kernel
        pads[i], pads[half + i] = (min(pads[j], k - 1) for j in (i, half + i))
    return {
        "kernel_shape": kernel,
        "strides": draw.maybe(lambda: strides),
        "dilations": dilations if max(dilations) > 1 else None,
        "pads": pads if padded else None,
        "auto_pad": auto,
    }


def image(draw: Draw, channels: int, least: int = 1) -> tuple[int, ...]:
    spatial = [draw.whole(least, 6) for _ in range(draw.pick((1, 1, 2, 2, 2, 3)))]
    while np.prod(spatial) > 80:
        spatial[int(np.argmax(spatial))] = 2
    return (draw.whole(1, 2), channels, *spatial)


def conv(draw: Draw) -> Arguments:
    group = draw.pick((1, 1, 1, 2, 3))
    channels, filters = group * draw.whole(1, 2), group * draw.whole(1, 3)
    shape = image(draw, channels)
    kernel = [draw.whole(1, 3) for _ in shape[2:]]
    given = windows(draw, shape[2:], fixed=kernel)
    if draw.chance():
        given["kernel_shape"] = None
    w = draw.weights("T", (filters, channels // group, *kernel))
    bias = draw.maybe(lambda: draw.weights("T", (filters,)))
    return Arguments([draw.array("T", shape, mild=True), w, bias], given | {"group": group})


def conv_transpose(draw: Draw) -> Arguments:
    group = draw.pick((1, 1, 1, 2))
    channels, filters = group * draw.whole(1, 2), draw.whole(1, 3)
    shape = image(draw, channels)
    shape = shape[:2] + tuple(min(n, 4) for n in shape[2:])
    spatial = shape[2:]
    kernel = [draw.whole(1, 3) for _ in spatial]
    strides = [draw.whole(1, 3) for _ in spatial]
    dilations = [draw.whole(1, 2) for _ in spatial]
    given: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": group}
    mode = draw.pick(("pads", "pads", "auto", "shape"))
    # onnxruntime wants the output padding below the stride, the standard below either
    extra = [draw.whole(0, s - 1) for s in strides]
    if draw.chance(0.4) and mode != "shape":
        given["output_padding"] = extra
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if mode == "pads":
        given["pads"] = [draw.whole(0, (r - 1) // 2) for r in reach + reach]
    elif mode == "auto":
        given["auto_pad"] = draw.pick(AUTO)
    else:
        full = [s * (n - 1) + r for s, n, r in zip(strides, spatial, reach, strict=True)]
        given["output_shape"] = [max(1, f - draw.whole(0, 2)) for f in full]
        given["auto_pad"] = draw.pick((None, "SAME_UPPER", "SAME_LOWER"))
    if draw.chance():
        given["kernel_shape"] = kernel
    w = draw.weights("T", (channels, filters, *kernel))
    bias = draw.maybe(lambda: draw.weights("T", (filters * group,)))
    return Arguments([draw.weights("T", shape), w, bias], given)


def pool(draw: Draw) -> Arguments:
    shape = image(draw, draw.whole(1, 3))
    given = windows(draw, shape[2:])
    given["ceil_mode"] = draw.pick((None, 0, 1))
    given["count_include_pad"] = draw.pick((None, 0, 1))
    given["storage_order"] = draw.pick((None, 0, 1))
    given["p"] = draw.pick((None, 1, 2, 3))
    if draw.schema.name == "LpPool" and draw.opset == 1:
        given["p"] = draw.pick((None, 1.0, 2.0))
    outputs = draw.whole(1, 2) if draw.schema.name == "MaxPool" else 1
    return Arguments([draw.array("T", shape, mild=draw.schema.name != "MaxPool")], given, outputs)


def global_pool(draw: Draw) -> Arguments:
    p = draw.pick((None, 1, 2, 3))
    return Arguments(
        [draw.array("T", image(draw, draw.whole(1, 3)), mild=True)],
        {"p": p if draw.opset > 1 or p is None else float(p)},
    )


def max_unpool(draw: Draw) -> Arguments:
    n, c, h, w = draw.whole(1, 2), draw.whole(1, 2), draw.whole(1, 3), draw.whole(1, 3)
    kernel = [draw.whole(1, 3), draw.whole(1, 3)]
    strides = [draw.whole(k, 3) for k in kernel]
    size = [(m - 1) * s + k for m, s, k in zip((h, w), strides, kernel, strict=True)]
    cells = n * c * size[0] * size[1]
    index = draw.rng.permutation(cells)[: n * c * h * w].reshape(n, c, h, w).astype(np.int64)
    x = draw.weights("T1", (n, c, h, w))
    given = {"kernel_shape": kernel, "strides": strides}
    return Arguments([x, index], given)


def lrn(draw: Draw) -> Arguments:
    shape = (draw.whole(1, 2), draw.whole(1, 6), *draw.shape(0, 2))
    given = {n: draw.maybe(lambda: draw.real(0.1, 1.5)) for n in ("alpha", "beta", "bias")}
    return Arguments([draw.weights("T", shape)], given | {"size": draw.whole(1, 7)})


def instance_norm(draw: Draw) -> Arguments:
    channels = draw.whole(1, 3)
    shape = image(draw, channels)
    scale, bias = draw.weights("T", (channels,)), draw.weights("T", (channels,))
    return Arguments(
        [draw.weights("T", shape), scale, bias],
        {"epsilon": draw.maybe(lambda: draw.real(1e-5, 0.1))},
    )


def batch_norm(draw: Draw) -> Arguments:
    channels = draw.whole(1, 3)
    shape = image(draw, channels) if draw.chance(0.8) else (draw.whole(1, 3), channels)
    variables = [formal.type_text for formal in draw.schema.inputs]
    spatial = draw.pick((None, 0, 1)) if draw.has("spatial") else None
    own = shape[1:] if spatial == 0 else (channels,)
    scale, bias, mean = (draw.weights(v, own) for v in variables[1:4])
    var = np.abs(draw.weights(variables[4], own))
    given: dict[str, Any] = {"spatial": spatial}
    given |= {"epsilon": draw.maybe(lambda: draw.real(1e-5, 0.1))}
    given |= {"momentum": draw.maybe(lambda: draw.real(0, 1))}
    outputs = 1
    if draw.opset < 7:
        given |= {"is_test": 1, "consumed_inputs": [0, 0, 0, 1, 1]}
    elif draw.opset >= 14 and draw.chance():
        given["training_mode"], outputs = 1, 3
    return Arguments([draw.weights("T", shape), scale, bias, mean, var], given, outputs)


def layer_norm(draw: Draw) -> Arguments:
    shape = draw.shape(1, zero=False)
    axis = draw.axis(len(shape))
    own = shape[axis % len(shape) :]
    variables = [formal.type_text for formal in draw.schema.inputs]
    scale = draw.weights(variables[1], draw.broadcast(own) if draw.chance(0.2) else own)
    bias = draw.maybe(lambda: draw.weights("T", own))
    given = {"axis": axis, "epsilon": draw.maybe(lambda: draw.real(1e-5, 0.1))}
    outputs = draw.whole(1, 3)
    if draw.schema.name == "RMSNormalization":
        return Arguments([draw.weights(variables[0], shape), scale], given)
    return Arguments([draw.weights("T", shape), scale, bias], given, outputs)


def group_norm(draw: Draw) -> Arguments:
    groups = draw.whole(1, 3)
    channels = groups * draw.whole(1, 3)
    shape = image(draw, channels)
    own = (groups,) if draw.opset < 21 else (channels,)
    given = {"num_groups": groups, "epsilon": draw.maybe(lambda: draw.real(1e-5, 0.1))}
    return Arguments(
        [draw.weights("T", shape), draw.weights("T", own), draw.weights("T", own)], given
    )


def mean_variance(draw: Draw) -> Arguments:
    shape = draw.shape(4, 4, zero=False)[:4]
    axes = draw.maybe(lambda: [a % len(shape) for a in draw.axes(len(shape), empty=False)])
    return Arguments([draw.weights("T", shape)], {"axes": axes})


def deform_conv(draw: Draw) -> Arguments:
    group, offset_group = draw.pick((1, 1, 2)), draw.pick((1, 1, 2))
    channels, filters = draw.pick((2, 2, 16)) * group, group * draw.whole(1, 2)
    n, h, w = draw.whole(1, 2), draw.whole(3, 5), draw.whole(3, 5)
    kernel = [draw.whole(1, 3), draw.whole(1, 3)]
    strides, dilations = (
        [draw.whole(1, 2)] * 2,
        [1, draw.whole(1, 2) if kernel[1] < 2 or w > 4 else 1],
    )
    pads = [draw.whole(0, 1) for _ in range(4)]
    cells = [
        (m + pads[i] + pads[2 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i, m in enumerate((h, w))
    ]
    taps = kernel[0] * kernel[1]
    given = {
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "group": group,
        "offset_group": offset_group,
    }
    x, weight = (
        draw.weights("T", (n, channels, h, w)),
        draw.weights("T", (filters, channels // group, *kernel)),
    )
    offset = draw.weights("T", (n, offset_group * taps * 2, *cells))
    bias = draw.maybe(lambda: draw.weights("T", (filters,)))
    mask = draw.maybe(lambda: draw.weights("T", (n, offset_group * taps, *cells)))
    return Arguments([x, weight, offset, bias, mask], given)


def roi_pool(draw: Draw) -> Arguments:
    n, c, h, w = draw.whole(1, 2), draw.whole(1, 2), draw.whole(3, 8), draw.whole(3, 8)
    count = draw.whole(1, 3)
    low = draw.rng.integers(0, 3, (count, 2))
    high = low + draw.rng.integers(0, 6, (count, 2))
    rois = np.concatenate([draw.rng.integers(0, n, (count, 1)), low, high], 1)
    given = {
        "pooled_shape": [draw.whole(1, 3), draw.whole(1, 3)],
        "spatial_scale": draw.pick((None, 1.0, 0.5)),
    }
    return Arguments([draw.weights("T", (n, c, h, w)), rois.astype(draw.dtype("T").numpy)], given)


def causal_conv(draw: Draw) -> Arguments:
    n, c, length, k = draw.whole(1, 2), draw.whole(1, 3), draw.whole(1, 5), draw.whole(1, 4)
    weight = draw.weights("T", (c, 1, k))
    bias = draw.maybe(lambda: draw.weights("T", (c,)))
    dilation = draw.whole(1, 3) if draw.has("dilation") else 1
    state = draw.maybe(lambda: draw.weights("T", (n, c, (k - 1) * dilation)))
    given: dict[str, Any] = {"activation": draw.pick((None, "none", "silu", "swish"))}
    given |= {"dilation": dilation} if draw.has("dilation") else {}
    return Arguments(
        [draw.weights("T", (n, c, length)), weight, bias, state],
        given,
        draw.whole(1, 2) if draw.schema.min_output == 1 else 2,
    )


RECIPES: dict[str, Recipe] = {
    "AveragePool": pool,
    "BatchNormalization": batch_norm,
    "CausalConvWithState": causal_conv,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DeformConv": deform_conv,
    "GlobalAveragePool": global_pool,
    "GlobalLpPool": global_pool,
    "GlobalMaxPool": global_pool,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LRN": lrn,
    "LayerNormalization": layer_norm,
    "LpPool": pool,
    "MaxPool": pool,
    "MaxRoiPool": roi_pool,
    "MaxUnpool": max_unpool,
    "MeanVarianceNormalization": mean_variance,
    "RMSNormalization": layer_norm,
}
