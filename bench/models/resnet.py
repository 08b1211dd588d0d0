"""ResNet-50 (He et al. 2015, table 1, with the stride in the 3×3 layer) and a small sibling."""

from __future__ import annotations

import torch
from torch import nn

from bench.models.seeding import draw_weights, pictures, settle_batchnorm
from bench.models.spec import Network, Size

EXPANSION = 4


class Bottleneck(nn.Module):
    """relu(shortcut(x) + body(x)), where body is 1×1, 3×3, 1×1."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * EXPANSION
        self.body = nn.Sequential(
            *convolve(channels, width, 1),
            nn.ReLU(),
            *convolve(width, width, 3, stride),
            nn.ReLU(),
            *convolve(width, out, 1),
        )
        same = stride == 1 and channels == out
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*convolve(channels, out, 1, stride))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.shortcut(x) + self.body(x))


def convolve(channels: int, out: int, taps: int, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the extent (but for the stride), and its normalisation."""
    pad = taps // 2
    return [nn.Conv2d(channels, out, taps, stride, pad, bias=False), nn.BatchNorm2d(out)]


def resnet(depths: tuple[int, ...], width: int, classes: int) -> nn.Module:
    """x[N, 3, H, W] → scores[N, classes]; stage i has ``depths[i]`` blocks of width·2ⁱ."""
    layers: list[nn.Module] = [*convolve(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = width
    for stage, depth in enumerate(depths):
        for block in range(depth):
            stride = 2 if block == 0 and stage > 0 else 1
            layers.append(Bottleneck(channels, width << stage, stride))
            channels = (width << stage) * EXPANSION
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers, *head)


def network(size: Size) -> Network:
    """ResNet-50 at 224×224, or one block per stage of width 8 at 48×48."""
    full = size == "full"
    extent = 224 if full else 48
    module = resnet((3, 4, 6, 3), 64, 1000) if full else resnet((1, 1, 1, 1), 8, 10)
    draw_weights(module, seed=1)
    settle_batchnorm(module, [pictures(100 + i, 16, extent, extent) for i in range(2)])
    return Network(
        module,
        inputs={"image": {0: "batch"}},
        outputs={"scores": {0: "batch"}},
        cases=[(pictures(seed, count, extent, extent),) for count, seed in SAMPLES],
    )


# (batch, seed); the same batch twice, so that two results can be compared.
SAMPLES = ((2, 1), (2, 2), (1, 3), (3, 4))
