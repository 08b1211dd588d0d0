"""A GRU tagger: embedding, bidirectional GRU, one score per token and tag."""

from __future__ import annotations

import torch
from torch import nn

from bench.models.seeding import draw_weights, generator
from bench.models.spec import Network, Size
from bench.models.tagger import SAMPLES, SHARPNESS


class Tagger(nn.Module):
    """tokens[N, S] → log-probabilities[N, S, tags]."""

    def __init__(self, vocabulary: int, width: int, layers: int, tags: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embed = nn.Embedding(vocabulary, width)
        self.gru = nn.GRU(width, width, layers, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, tags)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states, _ = self.gru(self.embed(tokens))
        return torch.log_softmax(self.head(states), -1)


def network(size: Size) -> Network:
    """Two layers of 2 × 256 states over 10,000 words, or one of 2 × 8 over 50."""
    full = size == "full"
    module = Tagger(10_000, 256, 2, 17) if full else Tagger(50, 8, 1, 5)
    draw_weights(module, seed=22)
    with torch.no_grad():
        module.head.weight *= SHARPNESS
    module.eval()
    axes = {0: "batch", 1: "sequence"}
    return Network(
        module,
        inputs={"tokens": axes},
        outputs={"scores": axes},
        cases=[
            (torch.randint(module.vocabulary, (n, s), generator=generator(seed)),)
            for n, s, seed in SAMPLES
        ],
        repeats=20,
    )
