"""Recipes of products with stored weights, in few bits or of several experts."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.ops.differential.draw import Arguments, Draw, limits


def quanta(draw: Draw, variable: str, shape: tuple[int, ...] = ()) -> Any:
    low, high = limits(draw.dtype(variable))
    numbers = draw.rng.integers(low, high + 1, shape)
    return np.asarray(numbers).astype(draw.dtype(variable).numpy)


def bits(draw: Draw) -> Arguments:
    width, block = draw.pick((4, 4, 8)), draw.pick((16, 32, 64))
    inner, columns = draw.pick((16, 40, 64, 72)), draw.whole(1, 9)
    count = -(-inner // block)
    inputs = [
        draw.weights("T1", (*draw.shape(0, 1, zero=False)[:1], draw.whole(1, 3), inner)),
        draw.rng.integers(0, 256, (columns, count, block * width // 8)).astype(np.uint8),
        np.asarray(draw.rng.uniform(0.01, 0.1, (columns, count)), draw.dtype("T1").numpy),
    ]
    packed = (columns, -(-count * width // 8))
    zeros = draw.rng.integers(0, 256, packed).astype(np.uint8)
    groups = draw.rng.integers(0, count, inner).astype(np.int32)
    if width == 4 and draw.chance(0.3):  # with all that onnxruntime reads beside them
        inputs += [None, groups]
    else:
        inputs += [draw.maybe(lambda: zeros), None]
    inputs.append(draw.maybe(lambda: draw.weights("T1", (columns,))))
    given = {"K": inner, "N": columns, "bits": width, "block_size": block}
    return Arguments(inputs, given | {"accuracy_level": draw.pick((None, 0, 1))})


def normal_bits(draw: Draw) -> Arguments:
    inner, columns, block = draw.pick((16, 40, 64)), draw.whole(1, 9), draw.pick((16, 32, 64))
    count, turned = inner * columns, draw.pick((None, 1, 0))
    width = columns if turned == 0 else inner
    inputs = [
        draw.weights("T1", (*draw.shape(0, 1, zero=False)[:1], draw.whole(1, 3), width)),
        draw.rng.integers(0, 256, -(-count // 2)).astype(np.uint8),
        np.asarray(draw.rng.uniform(0.1, 1, -(-count // block)), draw.dtype("T1").numpy),
    ]
    given = {"K": inner, "N": columns, "block_size": block, "quant_type": draw.pick((0, 1))}
    return Arguments(inputs, given | {"transB": turned})


def table(draw: Draw) -> Arguments:
    """Rows of a table of quanta, by places from either end."""
    rows, columns, block = draw.whole(1, 7), draw.pick((16, 32, 48)), draw.pick((16, 32))
    dtype = draw.dtype("T1")
    per_byte = 2 if dtype.name == "uint8" else 1
    blocks = -(-columns // block)
    make = draw.weights if dtype.is_float else partial(quanta, draw)
    stored = make("T1", (rows, columns // per_byte))
    scales = np.asarray(draw.rng.uniform(0.01, 0.1, (rows, blocks)), draw.dtype("T2").numpy)
    zeros = make("T1", (rows, -(-blocks // per_byte)))
    places = draw.rng.integers(-rows, rows, draw.shape(0, 2)).astype(draw.dtype("Tind").numpy)
    inputs = [stored, places, scales, None if dtype.is_float else draw.maybe(lambda: zeros)]
    return Arguments(inputs, {"block_size": block, "quantize_axis": draw.pick((None, 1, -1))})


def mixture(draw: Draw) -> Arguments:
    """Rows, scores that no two experts share, and their layers."""
    experts, size, inner = draw.whole(1, 5), draw.pick((3, 8, 16)), draw.pick((2, 7, 16))
    kind = draw.pick(("relu", "gelu", "silu", "identity", "swiglu"))
    wide = inner * (1 + (kind == "swiglu"))
    lead = draw.pick(((3,), (2, 2), (1,)))
    shapes = [(experts, wide, size), (experts, wide), (experts, size, inner), (experts, size)]
    parts = [draw.weights("T", shape) for shape in shapes]
    inputs = [draw.weights("T", (*lead, size)), scores(draw, int(np.prod(lead)), experts), *parts]
    for place in (3, 5):
        inputs[place] = inputs[place] if draw.chance() else None
    return Arguments(inputs, chosen_among(draw, experts, kind))


def scores(draw: Draw, rows: int, experts: int) -> Any:
    order = draw.rng.permuted(np.tile(np.arange(experts) / 2, (rows, 1)), axis=1)
    return order.astype(draw.dtype("T").numpy)


def chosen_among(draw: Draw, experts: int, kind: str) -> dict[str, Any]:
    """Attributes of a mixture."""
    given: dict[str, Any] = {"k": draw.whole(1, min(experts, 3)), "activation_type": kind}
    given |= {"normalize_routing_weights": draw.pick((None, 0, 1))}
    if kind == "swiglu":
        given |= {"swiglu_fusion": 1, "swiglu_limit": draw.pick((None, 0.5))}
        given |= {
            "activation_alpha": draw.pick((None, 1.7)),
            "activation_beta": draw.pick((0.0, 1.0)),
        }
    return given


def mixture_of_bits(draw: Draw) -> Arguments:
    """`mixture` of weights that onnxruntime multiplies in float32."""
    experts, size, inner, rows = draw.whole(1, 4), 32, draw.pick((16, 48)), draw.whole(1, 3)
    width, block = draw.pick(((4, 16), (4, None), (2, 16), (8, None)))
    kind = draw.pick(("silu", "swiglu"))
    wide = inner * (1 + (kind == "swiglu"))
    dtype = draw.dtype("T2").numpy
    layers, zeros = [], []
    for columns, terms in ((wide, size), (size, inner)):
        count = terms // block if block else 1
        packed = draw.rng.integers(0, 256, (experts, columns, terms * width // 8))
        scale = draw.rng.uniform(0.2, 1, (experts, columns, count)) / 2**width
        layers += [packed.astype(np.uint8), scale.astype(dtype) if block else scale[..., 0]]
        layers[-1] = layers[-1].astype(dtype)
        layers.append(draw.weights("T", (experts, columns)))
        last = (columns, -(-count * width // 8)) if block else (-(-columns * width // 8),)
        zeros.append(draw.rng.integers(0, 256, (experts, *last)).astype(np.uint8))
    points: list[Any] = zeros if draw.chance() else [None, None]
    inputs = [draw.weights("T", (rows, size)), scores(draw, rows, experts), *layers]
    given = {"expert_weight_bits": width, "block_size": block}
    return Arguments(
        [*inputs, None, None, None, *points], chosen_among(draw, experts, kind) | given
    )
