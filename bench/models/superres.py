"""A super-resolution network (EDSR baseline, Lim et al. 2017) and a small sibling."""

from __future__ import annotations

import torch
from torch import nn

from bench.models.seeding import draw_weights, pictures
from bench.models.spec import Network, Size


class Residual(nn.Module):
    """Two 3×3 convolutions around a rectifier, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + self.body(x)
        return y


class Enlarger(nn.Module):
    """x[N, 3, H, W] → y[N, 3, factor·H, factor·W]."""

    def __init__(self, width: int, blocks: int, factor: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(
            *(Residual(width) for _ in range(blocks)), nn.Conv2d(width, width, 3, padding=1)
        )
        self.tail = nn.Sequential(
            nn.Conv2d(width, width * factor**2, 3, padding=1),
            nn.PixelShuffle(factor),
            nn.Conv2d(width, 3, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        y: torch.Tensor = self.tail(x + self.body(x))
        return y


def network(size: Size) -> Network:
    """16 blocks of 64 channels, doubling 96×96, or two of 8 channels at 12×12; extents vary."""
    full = size == "full"
    module = Enlarger(64, 16, 2) if full else Enlarger(8, 2, 2)
    unit = 24 if full else 3
    draw_weights(module, seed=12)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, Residual):
                layer.body[2].weight *= DAMPING
    module.eval()
    axes = {0: "batch", 2: "height", 3: "width"}
    return Network(
        module,
        inputs={"image": axes},
        outputs={"enlarged": {0: "batch", 2: "rows", 3: "columns"}},
        cases=[(pictures(seed, n, h * unit, w * unit),) for n, h, w, seed in SAMPLES],
    )


# Without normalisation every block adds its branch to the variance.
DAMPING = 0.3
# (batch, height and width in units, seed); the first two alike but for the seed
SAMPLES = ((2, 4, 4, 1), (2, 4, 4, 2), (1, 4, 5, 3), (1, 2, 2, 4))
