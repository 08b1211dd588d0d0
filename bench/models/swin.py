"""Swin-T (Liu et al. 2021) from transformers' configuration, and a small sibling."""

from __future__ import annotations

import torch
from torch import nn
from transformers import SwinConfig, SwinForImageClassification

from bench.models.seeding import draw_weights, pictures
from bench.models.spec import Network, Size

# (batch, seed); the same batch twice, so that two results can be compared.
SAMPLES = ((2, 1), (2, 2), (1, 3), (3, 4))


class Classifier(nn.Module):
    """x[N, 3, H, W] → scores[N, classes]."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.swin = SwinForImageClassification(config)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.swin(image).logits
        return scores


def network(size: Size) -> Network:
    """Swin-T at 224×224 with 1,000 classes, or two stages of width 8 and 16 at 32×32."""
    if size == "full":
        config = SwinConfig(num_labels=1000)
    else:
        config = SwinConfig(
            image_size=32,
            patch_size=2,
            embed_dim=8,
            depths=[2, 2],
            num_heads=[2, 4],
            window_size=4,
            num_labels=10,
        )
    module = Classifier(config).eval()
    draw_weights(module, seed=15)
    extent = config.image_size
    return Network(
        module,
        inputs={"pixel_values": {0: "batch"}},
        outputs={"logits": {0: "batch"}},
        cases=[(pictures(seed, count, extent, extent),) for count, seed in SAMPLES],
    )
