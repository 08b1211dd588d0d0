"""ConvNeXt-T (Liu et al. 2022) from transformers' configuration, and a small sibling."""

from __future__ import annotations

import torch
from torch import nn
from transformers import ConvNextConfig, ConvNextForImageClassification

from bench.models.seeding import draw_weights, pictures
from bench.models.spec import Network, Size

# (batch, seed); the same batch twice, so that two results can be compared.
SAMPLES = ((2, 1), (2, 2), (1, 3), (3, 4))


class Classifier(nn.Module):
    """x[N, 3, H, W] → scores[N, classes]."""

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__()
        self.convnext = ConvNextForImageClassification(config)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.convnext(image).logits
        return scores


def network(size: Size) -> Network:
    """ConvNeXt-T at 224×224 with 1,000 classes, or two narrow stages at 32×32."""
    if size == "full":
        config = ConvNextConfig(num_labels=1000)
    else:
        config = ConvNextConfig(
            num_stages=2, hidden_sizes=[8, 16], depths=[1, 2], image_size=32, num_labels=10
        )
    module = Classifier(config).eval()
    draw_weights(module, seed=16)
    extent = config.image_size
    return Network(
        module,
        inputs={"pixel_values": {0: "batch"}},
        outputs={"logits": {0: "batch"}},
        cases=[(pictures(seed, count, extent, extent),) for count, seed in SAMPLES],
    )
