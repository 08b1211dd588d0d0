"""A small U-Net (Ronneberger et al. 2015) with padded convolutions, and a smaller sibling."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from bench.models.seeding import draw_weights, pictures, settle_batchnorm
from bench.models.spec import Network, Size


class UNet(nn.Module):
    """x[N, 3, H, W] → scores[N, classes, H, W]; H and W are multiples of 2^levels."""

    def __init__(self, width: int, levels: int, classes: int) -> None:
        super().__init__()
        widths = [width << level for level in range(levels + 1)]
        pairs = list(pairwise(widths))
        self.stem = twice(3, width)
        self.down = nn.ModuleList(twice(a, b) for a, b in pairs)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(pairs))
        self.up = nn.ModuleList(twice(2 * a, a) for a, _ in reversed(pairs))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = [self.stem(x)]
        for down in self.down:
            skips.append(down(self.pool(skips[-1])))
        y = skips.pop()
        for grow, up in zip(self.grow, self.up, strict=True):
            y = up(torch.cat([skips.pop(), grow(y)], 1))
        scores: torch.Tensor = self.head(y)
        return scores


def twice(channels: int, out: int) -> nn.Sequential:
    """Two 3×3 convolutions, each normalised and rectified."""
    layers: list[nn.Module] = []
    for inner in (channels, out):
        layers += [nn.Conv2d(inner, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)


def network(size: Size) -> Network:
    """Width 32, four levels at 256×256, or width 4, two levels at 16×16; batch and extent vary."""
    full = size == "full"
    module = UNet(32, 4, 4) if full else UNet(4, 2, 3)
    unit = 64 if full else 4
    draw_weights(module, seed=3)
    settle_batchnorm(module, [pictures(300 + i, 4, 4 * unit, 4 * unit) for i in range(2)])
    axes = {0: "batch", 2: "height", 3: "width"}
    return Network(
        module,
        inputs={"image": axes},
        outputs={"scores": axes},
        cases=[(pictures(seed, n, h * unit, w * unit),) for n, h, w, seed in SAMPLES],
    )


# (batch, height and width in units, seed); the first two alike but for the seed
SAMPLES = ((2, 4, 4, 1), (2, 4, 4, 2), (1, 3, 5, 3), (1, 2, 2, 4))
