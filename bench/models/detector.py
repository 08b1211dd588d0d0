"""A YOLO-like detector: one pass over three scales, then non-maximum suppression in the graph.

The suppression is added to what torch exports, as detectors are prepared for use; the truth about
it is the plain loop below.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional

from bench.models.seeding import draw_weights, generator, settle_batchnorm
from bench.models.spec import Network, Size

STRIDES = (8, 16, 32)
# Suppression: boxes kept per class, overlap from which one suppresses another
KEPT, OVERLAP = 10, 0.5
# Scores per image above the least one. So few that no two are as near to each other as two correct
# evaluations may be: that would change their order.
CANDIDATES = 40
# Sigmoids of unit logits; of larger ones they crowd at 1.
SHYNESS = 0.4
# (batch, seed); the same batch twice, so that two results can be compared.
SAMPLES = ((2, 1), (2, 2), (1, 3), (3, 4))


def convolve(channels: int, out: int, taps: int = 3, stride: int = 1) -> nn.Module:
    """Convolution, normalisation, SiLU."""
    conv = nn.Conv2d(channels, out, taps, stride, taps // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.SiLU())


class Split(nn.Module):
    """Half of the channels pass ``depth`` residual bottlenecks; all that arises is joined."""

    def __init__(self, channels: int, out: int, depth: int) -> None:
        super().__init__()
        half = out // 2
        self.enter = convolve(channels, out, 1)
        self.body = nn.ModuleList(
            nn.Sequential(convolve(half, half), convolve(half, half)) for _ in range(depth)
        )
        self.leave = convolve((2 + depth) * half, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.body:
            parts.append(parts[-1] + block(parts[-1]))
        y: torch.Tensor = self.leave(torch.cat(parts, 1))
        return y


class Pyramid(nn.Module):
    """Max pools of growing reach, joined (fast spatial pyramid pooling)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = convolve(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.leave = convolve(2 * channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        y: torch.Tensor = self.leave(torch.cat(parts, 1))
        return y


class Detector(nn.Module):
    """x[N, 3, E, E] → boxes[N, M, 4] as corners in pixels, scores[N, classes, M]."""

    def __init__(self, width: int, depth: int, classes: int, extent: int) -> None:
        super().__init__()
        a, b, c, d = width, 2 * width, 4 * width, 8 * width
        self.stem = nn.Sequential(
            convolve(3, a // 2, stride=2), convolve(a // 2, a, stride=2), Split(a, a, depth)
        )
        self.down = nn.ModuleList(
            nn.Sequential(convolve(x, y, stride=2), Split(y, y, depth))
            for x, y in ((a, b), (b, c), (c, d))
        )
        self.pyramid = Pyramid(d)
        self.up = nn.ModuleList((Split(d + c, c, depth), Split(c + b, b, depth)))
        self.heads = nn.ModuleList(
            nn.Sequential(convolve(x, b), nn.Conv2d(b, 4 + classes, 1)) for x in (b, c, d)
        )
        self.classes = classes
        self.extent = extent
        self.register_buffer("centre", centres(extent)[0])
        self.register_buffer("stride", centres(extent)[1])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        levels = []
        for down in self.down:
            x = down(x)
            levels.append(x)
        top = self.pyramid(levels[2])
        middle = self.up[0](torch.cat([twice(top), levels[1]], 1))
        bottom = self.up[1](torch.cat([twice(middle), levels[0]], 1))
        found = torch.cat(
            [
                head(level).flatten(2)
                for head, level in zip(self.heads, (bottom, middle, top), strict=True)
            ],
            2,
        )
        sides, logits = found.split([4, self.classes], 1)
        reach = functional.softplus(sides).transpose(1, 2) * self.stride
        corners = torch.cat([self.centre - reach[..., :2], self.centre + reach[..., 2:]], -1)
        return corners, torch.sigmoid(logits)


def twice(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def centres(extent: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The centre[M, 2] of every cell in pixels and the stride[M, 1] of its scale."""
    places, strides = [], []
    for stride in STRIDES:
        steps = (torch.arange(extent // stride) + 0.5) * stride
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        places.append(torch.stack([x.flatten(), y.flatten()], 1))
        strides.append(torch.full((len(places[-1]), 1), float(stride)))
    return torch.cat(places), torch.cat(strides)


def network(size: Size) -> Network:
    """Width 32 at 640×640 with 80 classes, or width 8 at 64×64 with 3."""
    full = size == "full"
    extent = 640 if full else 64
    module = Detector(32, 1, 80, extent) if full else Detector(8, 1, 3, extent)
    draw_weights(module, seed=25)
    batches = [even(2500 + i, 4, extent) for i in range(2)]
    settle_batchnorm(module, batches)
    with torch.no_grad():
        for head in module.heads:
            head[1].weight[4:] *= SHYNESS
        scores = module(batches[0])[1].flatten(1)
    least = float(scores.sort(1, descending=True).values[:, CANDIDATES].mean())
    suppression = Suppression(module, least)
    return Network(
        module,
        inputs={"image": {0: "batch"}},
        outputs={"all_boxes": {0: "batch"}, "all_scores": {0: "batch"}},
        cases=[(even(seed, count, extent),) for count, seed in SAMPLES],
        finish=suppression.add,
        truth=suppression,
    )


def even(seed: int, count: int, extent: int) -> torch.Tensor:
    """Random pictures of one contrast and grain, so that each has about as many candidates."""
    stream = generator(seed)
    patches = torch.randn(count, 3, 9, 9, generator=stream)
    grain = torch.randn(count, 3, extent, extent, generator=stream)
    x = functional.interpolate(patches, (extent, extent), mode="nearest") + 0.3 * grain
    return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)


class Suppression:
    """What the graph ends in: selected[K, 3] (image, class, box), boxes[K, 4], scores[K].

    Of each class at most `KEPT` boxes with scores above ``least`` stay, none of which overlaps a
    better one by more than `OVERLAP`.
    """

    names = ("selected", "boxes", "scores")

    def __init__(self, module: nn.Module, least: float) -> None:
        self.module = module
        self.least = least

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        boxes, scores = self.module(x)
        chosen = [
            (batch, kind, index)
            for batch in range(len(scores))
            for kind in range(scores.shape[1])
            for index in survivors(boxes[batch].numpy(), scores[batch, kind].numpy(), self.least)
        ]
        selected = torch.tensor(chosen, dtype=torch.int64).reshape(-1, 3)
        n, c, m = selected.T
        return selected, boxes[n, m], scores[n, c, m]

    def add(self, path: Path) -> None:
        """Let the model at ``path`` end in it."""
        model = onnx.load(path)
        add_suppression(model.graph, self.least)
        onnx.save(model, path)


def survivors(boxes: np.ndarray, scores: np.ndarray, least: float) -> list[int]:
    """Indices of the boxes that no better one overlaps, the best first."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if len(kept) == KEPT or scores[index] <= np.float32(least):
            break
        if all(overlap(boxes[index], boxes[other]) <= OVERLAP for other in kept):
            kept.append(int(index))
    return kept


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = np.prod(np.maximum(high - low, 0))
    return float(common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common))


def add_suppression(graph: onnx.GraphProto, least: float) -> None:
    """Let ``graph`` select among all_boxes and all_scores."""
    constants = {
        "nms_kept": np.array([KEPT]),
        "nms_overlap": np.array([OVERLAP], np.float32),
        "nms_least": np.array([least], np.float32),
        "nms_columns": np.array([0, 2]),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(x, k) for k, x in constants.items())
    parameters = ("nms_kept", "nms_overlap", "nms_least")
    graph.node.extend(
        [
            helper.make_node(
                "NonMaxSuppression", ["all_boxes", "all_scores", *parameters], ["selected"]
            ),
            helper.make_node("Gather", ["selected", "nms_columns"], ["nms_places"], axis=1),
            helper.make_node("GatherND", ["all_boxes", "nms_places"], ["boxes"]),
            helper.make_node("GatherND", ["all_scores", "selected"], ["scores"]),
        ]
    )
    del graph.output[:]
    outputs = (
        ("selected", TensorProto.INT64, ["found", 3]),
        ("boxes", TensorProto.FLOAT, ["found", 4]),
        ("scores", TensorProto.FLOAT, ["found"]),
    )
    graph.output.extend(helper.make_tensor_value_info(*output) for output in outputs)
