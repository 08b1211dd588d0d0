"""ViT-B/16 (Dosovitskiy et al. 2020) from transformers' configuration, and a small sibling."""

from __future__ import annotations

import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from bench.models.seeding import draw_weights, pictures
from bench.models.spec import Network, Size

# (batch, seed); the same batch twice, so that two results can be compared.
SAMPLES = ((2, 1), (2, 2), (1, 3), (3, 4))


class Classifier(nn.Module):
    """x[N, 3, H, W] → scores[N, classes]."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.vit = ViTForImageClassification(config)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.vit(image).logits
        return scores


def network(size: Size) -> Network:
    """ViT-B/16 at 224×224 with 1,000 classes, or two layers of width 32 at 32×32."""
    if size == "full":
        config = ViTConfig(num_labels=1000)
    else:
        config = ViTConfig(
            image_size=32,
            patch_size=8,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            num_labels=10,
        )
    module = Classifier(config).eval()
    draw_weights(module, seed=5)
    extent = config.image_size
    return Network(
        module,
        inputs={"pixel_values": {0: "batch"}},
        outputs={"logits": {0: "batch"}},
        cases=[(pictures(seed, count, extent, extent),) for count, seed in SAMPLES],
    )
