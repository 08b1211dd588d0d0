"""A CRNN that reads lines of text (Shi et al. 2015), and a small sibling."""

from __future__ import annotations

import torch
from torch import nn

from bench.models.seeding import draw_weights, pictures, settle_batchnorm
from bench.models.spec import Network, Size

HEIGHT = 32
# LSTM states stay well below 1; scores of unit size need a larger head.
SHARPNESS = 6.0
# (batch, width, seed); the first two alike but for the seed
SAMPLES = ((2, 40, 1), (2, 40, 2), (1, 100, 3), (3, 24, 4))


class Reader(nn.Module):
    """x[N, 1, 32, W] → log-probabilities[N, W/4, characters]."""

    def __init__(self, width: int, states: int, characters: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *convolve(1, width), nn.MaxPool2d(2),
            *convolve(width, 2 * width), nn.MaxPool2d(2),
            *convolve(2 * width, 4 * width), *convolve(4 * width, 4 * width),
            nn.MaxPool2d((2, 1)),
            *convolve(4 * width, 8 * width), *convolve(8 * width, 8 * width),
            nn.MaxPool2d((2, 1)),
            nn.Conv2d(8 * width, 8 * width, (2, 1)), nn.BatchNorm2d(8 * width), nn.ReLU(),
        )  # fmt: skip
        self.lstm = nn.LSTM(8 * width, states, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * states, characters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        columns = self.features(x).squeeze(2).transpose(1, 2)
        states, _ = self.lstm(columns)
        return torch.log_softmax(self.head(states), -1)


def convolve(channels: int, out: int) -> list[nn.Module]:
    """A 3×3 convolution, normalised and rectified."""
    return [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


def network(size: Size) -> Network:
    """Width 64 and 2 × 256 states over 96 characters, or width 4 and 2 × 8; line length varies."""
    module = Reader(64, 256, 96) if size == "full" else Reader(4, 8, 10)
    draw_weights(module, seed=23)
    settle_batchnorm(module, [pictures(2300 + i, 8, HEIGHT, 64, 1) for i in range(2)])
    with torch.no_grad():
        module.head.weight *= SHARPNESS
    return Network(
        module,
        inputs={"image": {0: "batch", 3: "width"}},
        outputs={"scores": {0: "batch", 1: "steps"}},
        cases=[(pictures(seed, n, HEIGHT, w, 1),) for n, w, seed in SAMPLES],
        repeats=10,
    )
