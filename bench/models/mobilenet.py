"""MobileNetV2 (Sandler et al. 2018, table 2) and a small sibling."""

from __future__ import annotations

import torch
from torch import nn

from bench.models.seeding import draw_weights, pictures, settle_batchnorm
from bench.models.spec import Network, Size

# (expansion, channels, repeats, stride), as in the paper's table
FULL = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
SMALL = ((1, 8, 1, 1), (4, 12, 2, 2), (4, 16, 2, 2))
# (batch, seed); the same batch twice, so that two results can be compared.
SAMPLES = ((2, 1), (2, 2), (1, 3), (3, 4))


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise 3×3, linear 1×1; added to the input where the shapes agree."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels * expansion
        expand = [] if expansion == 1 else convolve(channels, hidden, 1)
        self.body = nn.Sequential(
            *expand,
            *convolve(hidden, hidden, 3, stride, groups=hidden),
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
    """Convolution, normalisation, relu6."""
    conv = nn.Conv2d(channels, out, taps, stride, taps // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU6()]


def mobilenet(
    table: tuple[tuple[int, int, int, int], ...], stem: int, last: int, classes: int
) -> nn.Module:
    """x[N, 3, H, W] → scores[N, classes]."""
    layers, channels = convolve(3, stem, 3, 2), stem
    for expansion, out, repeats, stride in table:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            layers.append(InvertedResidual(channels, out, expansion, step))
            channels = out
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(last, classes)]
    return nn.Sequential(*layers, *convolve(channels, last, 1), *head)


def network(size: Size) -> Network:
    """MobileNetV2 at 224×224, or three stages of it at 32×32."""
    full = size == "full"
    extent = 224 if full else 32
    module = mobilenet(FULL, 32, 1280, 1000) if full else mobilenet(SMALL, 8, 32, 10)
    draw_weights(module, seed=2)
    settle_batchnorm(module, [pictures(200 + i, 16, extent, extent) for i in range(2)])
    return Network(
        module,
        inputs={"image": {0: "batch"}},
        outputs={"scores": {0: "batch"}},
        cases=[(pictures(seed, count, extent, extent),) for count, seed in SAMPLES],
    )
