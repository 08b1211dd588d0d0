"""A WaveNet-like stack of dilated 1-D convolutions (van den Oord et al. 2016), and a sibling."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from bench.models.seeding import draw_weights, generator
from bench.models.spec import Network, Size

# (batch, samples in units, seed); the first two alike but for the seed
SAMPLES = ((2, 2, 1), (2, 2, 2), (1, 5, 3), (3, 1, 4))


class Gate(nn.Module):
    """tanh · sigmoid of a causal dilated convolution; a residual and a skipped output."""

    def __init__(self, width: int, skipped: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv = nn.Conv1d(width, 2 * width, 2, dilation=dilation)
        self.residual = nn.Conv1d(width, width, 1)
        self.skip = nn.Conv1d(width, skipped, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = self.conv(functional.pad(x, (self.dilation, 0))).chunk(2, 1)
        gated = torch.tanh(a) * torch.sigmoid(b)
        return x + self.residual(gated), self.skip(gated)


class Wave(nn.Module):
    """x[N, 1, T] → scores[N, levels, T] of the next sample."""

    def __init__(self, width: int, skipped: int, layers: int, stacks: int, levels: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, width, 1)
        self.gates = nn.ModuleList(
            Gate(width, skipped, 1 << layer) for _ in range(stacks) for layer in range(layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv1d(skipped, skipped, 1), nn.ReLU(), nn.Conv1d(skipped, levels, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        total = torch.zeros((), dtype=x.dtype)
        for gate in self.gates:
            x, skipped = gate(x)
            total = total + skipped
        scores: torch.Tensor = self.head(total)
        return scores


def network(size: Size) -> Network:
    """Three stacks of ten layers of 64 channels over 2,000 samples, or one of four of 8 over 20."""
    full = size == "full"
    module = Wave(64, 128, 10, 3, 256) if full else Wave(8, 8, 4, 1, 6)
    unit = 1000 if full else 10
    draw_weights(module, seed=24)
    module.eval()
    axes = {0: "batch", 2: "time"}
    return Network(
        module,
        inputs={"sound": axes},
        outputs={"scores": axes},
        cases=[
            (torch.randn(n, 1, t * unit, generator=generator(seed)).cumsum(2) / 5,)
            for n, t, seed in SAMPLES
        ],
    )
