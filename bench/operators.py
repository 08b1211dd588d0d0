"""Operators in PyTorch, as the peers of `micro`; run in torch's worker, so it imports little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

Call = Callable[..., Tensor]


def make(kind: str, path: str, attributes: dict[str, Any]) -> Call:
    """The operator ``kind`` with the weights of the model at ``path``."""
    import onnx

    weights = {
        tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        for tensor in onnx.load(path).graph.initializer
    }
    return OPERATORS[kind](weights, attributes)


def matmul(weights: dict[str, Tensor], _attributes: dict[str, Any]) -> Call:
    if "w" not in weights:
        return torch.matmul
    w = weights["w"]
    if "b" in weights:
        return lambda x: torch.addmm(weights["b"], x, w)
    return lambda x: x @ w


def conv(weights: dict[str, Tensor], attributes: dict[str, Any]) -> Call:
    w, b = weights["w"], weights.get("b")
    call = F.conv1d if w.ndim == 3 else F.conv2d
    relu, before = attributes.pop("relu", False), attributes.pop("before", 0)

    def run(x: Tensor) -> Tensor:
        y = call(F.pad(x, (before, 0)) if before else x, w, b, **attributes)
        return torch.relu_(y) if relu else y

    return run


def transposed(weights: dict[str, Tensor], attributes: dict[str, Any]) -> Call:
    w = weights["w"]
    return lambda x: F.conv_transpose2d(x, w, **attributes)


def pool(_weights: dict[str, Tensor], attributes: dict[str, Any]) -> Call:
    if attributes.pop("of") == "max":
        return lambda x: F.max_pool2d(x, **attributes)
    return lambda x: F.avg_pool2d(x, **attributes)


def layer_norm(weights: dict[str, Tensor], _attributes: dict[str, Any]) -> Call:
    w, b = weights["w"], weights["b"]
    return lambda x: F.layer_norm(x, w.shape, w, b)


def embedding(weights: dict[str, Tensor], _attributes: dict[str, Any]) -> Call:
    w = weights["w"]
    return lambda i: F.embedding(i, w)


def resize(_weights: dict[str, Tensor], attributes: dict[str, Any]) -> Call:
    corners = {"align_corners": False} if attributes["mode"] == "bilinear" else {}
    every = {**attributes, **corners}
    return lambda x: F.interpolate(x, **every)


def attention(_weights: dict[str, Tensor], _attributes: dict[str, Any]) -> Call:
    return F.scaled_dot_product_attention


def scale_shift(weights: dict[str, Tensor], _attributes: dict[str, Any]) -> Call:
    w, b = weights["w"], weights["b"]
    return lambda x: torch.relu(x * w + b)


ORDER = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}
"""The gates of torch's layers by their numbers in ONNX."""


def recurrent(weights: dict[str, Tensor], attributes: dict[str, Any]) -> Call:
    kind, hidden = attributes["kind"], attributes["hidden"]
    scale = weights["s"]
    w, r, b = (weights[name] * scale for name in ("w", "r", "b"))
    ways, count = w.shape[0], len(ORDER[kind])
    layer = getattr(torch.nn, kind)(w.shape[2], hidden, bidirectional=ways == 2)

    def turned(rows: Tensor) -> Tensor:
        return torch.cat([rows.chunk(count)[k] for k in ORDER[kind]])

    for way, end in enumerate(("", "_reverse")[:ways]):
        first, second = b[way].chunk(2)
        layer.load_state_dict(
            {
                f"weight_ih_l0{end}": turned(w[way]), f"weight_hh_l0{end}": turned(r[way]),
                f"bias_ih_l0{end}": turned(first), f"bias_hh_l0{end}": turned(second),
            },
            strict=False,
        )  # fmt: skip
    return lambda x: layer(x)[0].unflatten(2, (ways, hidden)).transpose(1, 2)


def plain(call: Callable[..., Tensor]) -> Callable[[dict[str, Tensor], dict[str, Any]], Call]:
    """A function of torch, its arguments after the tensors by name."""
    return lambda _weights, attributes: lambda *x: call(*x, **attributes)


OPERATORS: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], Call]] = {
    "matmul": matmul,
    "conv": conv,
    "transposed": transposed,
    "pool": pool,
    "global": plain(lambda x: x.mean((2, 3), keepdim=True)),
    "softmax": plain(torch.softmax),
    "layer_norm": layer_norm,
    "gelu": plain(F.gelu),
    "transpose": plain(lambda x, perm: x.permute(perm).contiguous()),
    "embedding": embedding,
    "resize": resize,
    "sum": plain(torch.sum),
    "mean": plain(torch.mean),
    "max": plain(lambda x, dim: x.amax(dim)),
    "argmax": plain(torch.argmax),
    "topk": plain(lambda x, k: torch.topk(x, k)[0]),
    "cumsum": plain(torch.cumsum),
    "add": plain(torch.add),
    "exp": plain(torch.exp),
    "tanh": plain(torch.tanh),
    "silu": plain(F.silu),
    "gate": plain(lambda a, b: torch.tanh(a) * torch.sigmoid(b)),
    "chain": scale_shift,
    "concat": plain(lambda *x: torch.cat(x, 1)),
    "attention": attention,
    "recurrent": recurrent,
}
