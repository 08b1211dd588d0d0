"""An LSTM tagger: embedding, bidirectional LSTM, one score per token and tag."""

from __future__ import annotations

import torch
from torch import nn

from bench.models.seeding import draw_weights, generator
from bench.models.spec import Network, Size

# (batch, tokens, seed); the first two alike but for the seed
SAMPLES = ((2, 7, 1), (2, 7, 2), (1, 1, 3), (3, 20, 4))
# LSTM states stay well below 1; scores of unit size need a larger head.
SHARPNESS = 6.0


class Tagger(nn.Module):
    """tokens[N, S] → log-probabilities[N, S, tags]."""

    def __init__(self, vocabulary: int, width: int, layers: int, tags: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embed = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, tags)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(self.embed(tokens))
        return torch.log_softmax(self.head(states), -1)


def network(size: Size) -> Network:
    """Two layers of 2 × 256 states over 10,000 words, or one of 2 × 8 over 50."""
    full = size == "full"
    module = Tagger(10_000, 256, 2, 17) if full else Tagger(50, 8, 1, 5)
    draw_weights(module, seed=4)
    with torch.no_grad():
        module.head.weight *= SHARPNESS
    module.eval()
    return Network(
        module,
        inputs={"tokens": {0: "batch", 1: "sequence"}},
        outputs={"scores": {0: "batch", 1: "sequence"}},
        cases=[
            (torch.randint(module.vocabulary, (n, s), generator=generator(seed)),)
            for n, s, seed in SAMPLES
        ],
        repeats=20,
    )
