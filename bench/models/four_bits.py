"""Weights of 4 bits: products of an exported model as MatMulNBits of com.microsoft.

Each 32 weights of a column are rounded to 16 numbers around 0, as onnxruntime's own tool does by
default; tables that are gathered stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 32
VERSION = 1
"""Raise it when what is written changes: names of kept models hold it."""


def in_four_bits(source: Path, target: Path, accuracy_level: int) -> None:
    """Write the model in ``source`` to ``target``, its stored matrices in blocks of 4 bits."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    turned = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    for node in graph.node:
        if node.op_type != "MatMul":
            continue
        name = turned.get(node.input[1], node.input[1])
        if name not in stored:
            continue
        matrix = numpy_helper.to_array(stored[name])
        matrix = matrix if name != node.input[1] else matrix.T
        packed, scales = _packed(matrix)
        names = [f"{node.name or node.output[0]}_{what}" for what in ("packed", "scales")]
        for array, own in zip((packed, scales), names, strict=True):
            graph.initializer.append(numpy_helper.from_array(array, own))
        made = helper.make_node(
            "MatMulNBits", [node.input[0], *names], node.output, node.name, domain="com.microsoft",
            K=matrix.shape[1], N=len(scales), bits=4, block_size=BLOCK,
            accuracy_level=accuracy_level,
        )  # fmt: skip
        node.CopyFrom(made)
    _drop_unread(graph)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, target)


def _packed(matrix: Any) -> tuple[Any, Any]:
    """[N, K] as bytes [N, ⌈K / 32⌉, 16] and scales [N, ⌈K / 32⌉]."""
    whole = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % BLOCK)))
    blocks = whole.reshape(len(whole), -1, BLOCK)
    top = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[..., None], axis=2)
    scales = top / -8
    steps = np.rint(blocks / np.where(scales == 0, 1, scales)).clip(-8, 7) + 8
    digits = steps.astype(np.uint8)
    return digits[..., ::2] | digits[..., 1::2] << 4, scales[..., 0].astype(np.float32)


def _drop_unread(graph: Any) -> None:
    """Leave out what nobody reads any more, transposes of tables among it."""
    wanted = {output.name for output in graph.output}
    for node in graph.node:
        wanted.update(node.input)
    idle = [n for n in graph.node if n.op_type == "Transpose" and n.output[0] not in wanted]
    for node in idle:
        graph.node.remove(node)
    wanted = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(kept)
