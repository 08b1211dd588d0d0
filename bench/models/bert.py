"""BERT-base (Devlin et al. 2018) from transformers' configuration, and a small sibling."""

from __future__ import annotations

import torch
from torch import nn
from transformers import BertConfig, BertModel

from bench.models.seeding import draw_weights, generator
from bench.models.spec import Network, Size

# (batch, tokens, seed); the first two alike but for the seed
SMALL = ((2, 7, 1), (2, 7, 2), (1, 16, 3), (3, 5, 4))
FULL = ((2, 32, 1), (2, 32, 2), (1, 128, 3), (3, 17, 4))


class Encoder(nn.Module):
    """Token ids, mask and segment ids, each [N, S] → states[N, S, width], pooled[N, width]."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = BertModel(config)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        result = self.bert(input_ids, attention_mask, token_type_ids)
        return result.last_hidden_state, result.pooler_output


def network(size: Size) -> Network:
    """BERT-base, or two layers of width 32 over 100 words."""
    if size == "full":
        config = BertConfig()
    else:
        config = BertConfig(
            vocab_size=100,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    module = Encoder(config).eval()
    draw_weights(module, seed=6)
    axes = {0: "batch", 1: "sequence"}
    return Network(
        module,
        inputs=dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), axes),
        outputs={"last_hidden_state": axes, "pooler_output": {0: "batch"}},
        cases=[
            sentences(config.vocab_size, n, s, seed)
            for n, s, seed in (FULL if size == "full" else SMALL)
        ],
    )


def sentences(vocabulary: int, count: int, length: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Random token ids, a mask that shortens every row but the first, and segment ids."""
    tokens = torch.randint(vocabulary, (count, length), generator=generator(seed))
    lengths = length - torch.arange(count)
    mask = (torch.arange(length) < lengths[:, None]).long()
    segments = (torch.arange(length) >= length // 2).long().expand(count, length).contiguous()
    return tokens, mask, segments
