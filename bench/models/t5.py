"""T5-small (Raffel et al. 2020) from transformers' configuration, and a small sibling."""

from __future__ import annotations

import torch
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration

from bench.models.seeding import draw_weights, generator
from bench.models.spec import Network, Size

# (batch, tokens read, tokens written, seed); the first two alike but for the seed
SAMPLES = ((2, 9, 4, 1), (2, 9, 4, 2), (1, 16, 1, 3), (3, 5, 7, 4))
FULL = ((2, 32, 8, 1), (2, 32, 8, 2), (1, 64, 16, 3), (3, 17, 3, 4))


class Translator(nn.Module):
    """Tokens and mask [N, S] of what is read, tokens[N, T] of what is written → scores."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.t5 = T5ForConditionalGeneration(config)

    def forward(
        self, tokens: torch.Tensor, mask: torch.Tensor, written: torch.Tensor
    ) -> torch.Tensor:
        result = self.t5(
            input_ids=tokens, attention_mask=mask, decoder_input_ids=written, use_cache=False
        )
        scores: torch.Tensor = result.logits
        return scores


def network(size: Size) -> Network:
    """T5-small, encoder and decoder in one, or two layers of width 32 over 100 words."""
    if size == "full":
        config = T5Config(num_layers=6)
    else:
        config = T5Config(
            vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_decoder_layers=2,
            num_heads=4,
        )  # fmt: skip
    module = Translator(config).eval()
    draw_weights(module, seed=20)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith(".q.weight"):
                weight *= config.d_kv**-0.5  # T5 does not scale its scores
    read, wrote = {0: "batch", 1: "sequence"}, {0: "batch", 1: "written"}
    return Network(
        module,
        inputs={"input_ids": read, "attention_mask": read, "decoder_input_ids": wrote},
        outputs={"logits": wrote},
        cases=[feed(config, *sample) for sample in (FULL if size == "full" else SAMPLES)],
    )


def feed(
    config: T5Config, count: int, length: int, written: int, seed: int
) -> tuple[torch.Tensor, ...]:
    """Random tokens, and a mask that shortens every row but the first."""
    stream = generator(seed)
    tokens = torch.randint(config.vocab_size, (count, length), generator=stream)
    mask = (torch.arange(length) < (length - torch.arange(count))[:, None]).long()
    return tokens, mask, torch.randint(config.vocab_size, (count, written), generator=stream)
