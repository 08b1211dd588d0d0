"""DistilBERT (Sanh et al. 2019) from transformers' configuration, and a small sibling."""

from __future__ import annotations

import torch
from torch import nn
from transformers import DistilBertConfig, DistilBertModel

from bench.models.bert import FULL, SMALL, sentences
from bench.models.seeding import draw_weights
from bench.models.spec import Network, Size


class Encoder(nn.Module):
    """Token ids and mask, each [N, S] → states[N, S, width]."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.bert = DistilBertModel(config)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.bert(input_ids, attention_mask).last_hidden_state
        return states


def network(size: Size) -> Network:
    """DistilBERT, or two layers of width 32 over 100 words."""
    if size == "full":
        config = DistilBertConfig()
    else:
        config = DistilBertConfig(
            vocab_size=100, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64
        )
    module = Encoder(config).eval()
    draw_weights(module, seed=14)
    axes = {0: "batch", 1: "sequence"}
    samples = FULL if size == "full" else SMALL
    return Network(
        module,
        inputs=dict.fromkeys(("input_ids", "attention_mask"), axes),
        outputs={"last_hidden_state": axes},
        cases=[sentences(config.vocab_size, *sample)[:2] for sample in samples],
    )
