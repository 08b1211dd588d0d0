"""EfficientNet-B0 (Tan & Le 2019, table 1) and a small sibling."""

from __future__ import annotations

import torch
from torch import nn

from bench.models.seeding import draw_weights, pictures, settle_batchnorm
from bench.models.spec import Network, Size

Row = tuple[int, int, int, int, int]
# (expansion, taps, stride, channels, repeats), as in the paper's table
FULL: tuple[Row, ...] = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
SMALL: tuple[Row, ...] = ((1, 3, 1, 8, 1), (4, 5, 2, 12, 2), (4, 3, 2, 16, 1))
# (batch, seed); the same batch twice, so that two results can be compared.
SAMPLES = ((2, 1), (2, 2), (1, 3), (3, 4))


class Excite(nn.Module):
    """Squeeze and excitation: each channel times a gate that sees the means of all."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.SiLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x * self.gate(x)
        return y


class Block(nn.Module):
    """1×1 expansion, depthwise convolution, excitation, linear 1×1; residual where it fits."""

    def __init__(self, channels: int, out: int, expansion: int, taps: int, stride: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.body = nn.Sequential(
            *([] if expansion == 1 else convolve(channels, hidden, 1)),
            *convolve(hidden, hidden, taps, stride, hidden),
            Excite(hidden, max(1, channels // 4)),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.residual = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x)
        return x + y if self.residual else y


def convolve(
    channels: int, out: int, taps: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Convolution, normalisation, SiLU."""
    conv = nn.Conv2d(channels, out, taps, stride, taps // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.SiLU()]


def efficientnet(rows: tuple[Row, ...], stem: int, last: int, classes: int) -> nn.Module:
    """x[N, 3, H, W] → scores[N, classes]."""
    layers, channels = convolve(3, stem, 3, 2), stem
    for expansion, taps, stride, out, repeats in rows:
        for repeat in range(repeats):
            layers.append(Block(channels, out, expansion, taps, stride if repeat == 0 else 1))
            channels = out
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes)]
    return nn.Sequential(*layers, *convolve(channels, last, 1), *head)


def network(size: Size) -> Network:
    """EfficientNet-B0 at 224×224, or three stages of it at 32×32."""
    full = size == "full"
    extent = 224 if full else 32
    module = efficientnet(FULL, 32, 1280, 1000) if full else efficientnet(SMALL, 8, 32, 10)
    draw_weights(module, seed=13)
    settle_batchnorm(module, [pictures(1300 + i, 16, extent, extent) for i in range(2)])
    return Network(
        module,
        inputs={"image": {0: "batch"}},
        outputs={"scores": {0: "batch"}},
        cases=[(pictures(seed, count, extent, extent),) for count, seed in SAMPLES],
    )
