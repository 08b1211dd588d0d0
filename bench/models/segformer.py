"""SegFormer-B0 (Xie et al. 2021) from transformers' configuration, and a small sibling."""

from __future__ import annotations

import torch
from torch import nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from bench.models.seeding import draw_weights, pictures, settle_batchnorm
from bench.models.spec import Network, Size

# (batch, seed); the same batch twice, so that two results can be compared.
SAMPLES = ((2, 1), (2, 2), (1, 3), (3, 4))


class Segmenter(nn.Module):
    """x[N, 3, H, W] → scores[N, classes, H/4, W/4]."""

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__()
        self.segformer = SegformerForSemanticSegmentation(config)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.segformer(image).logits
        return scores


def network(size: Size) -> Network:
    """SegFormer-B0 at 512×512 with 150 classes, or four narrow stages at 32×32."""
    # Settling the statistics trains for a moment, and chance must not have a part in it.
    still = {
        "drop_path_rate": 0.0,
        "classifier_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if size == "full":
        config, extent = SegformerConfig(num_labels=150, **still), 512
    else:
        config, extent = SegformerConfig(
            depths=[1, 1, 1, 1],
            hidden_sizes=[8, 8, 16, 16],
            num_attention_heads=[1, 2, 2, 4],
            mlp_ratios=[2, 2, 2, 2],
            decoder_hidden_size=16,
            num_labels=5,
            **still,
        ), 32  # fmt: skip
    module = Segmenter(config)
    draw_weights(module, seed=21)
    settle_batchnorm(module, [pictures(2100 + i, 4, extent, extent) for i in range(2)])
    return Network(
        module,
        inputs={"pixel_values": {0: "batch"}},
        outputs={"logits": {0: "batch"}},
        cases=[(pictures(seed, count, extent, extent),) for count, seed in SAMPLES],
    )
