"""RT-DETR with a ResNet-18 (Zhao et al. 2023) from transformers' configuration, and a small one.

The best places of three scales become queries, and each layer of the decoder looks at a few sampled
points of every scale: TopK, Gather and GridSample between convolutions and attention.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

from bench.models.seeding import draw_weights, pictures, settle_batchnorm
from bench.models.spec import Network, Size

# (batch, seed); the same batch twice, so that two results can be compared.
SAMPLES = ((2, 1), (2, 2), (1, 3), (3, 4))


class QueryingDetector(nn.Module):
    """x[N, 3, E, E] → logits[N, queries, classes], boxes[N, queries, 4] as centre and extent."""

    def __init__(self, config: RTDetrConfig) -> None:
        super().__init__()
        self.detr = RTDetrForObjectDetection(config)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.detr(image)
        return found.logits, found.pred_boxes


def configuration(size: Size) -> RTDetrConfig:
    """RT-DETR-R18 with 80 classes and 300 queries, or narrow layers with 6 queries.

    The small one has few queries so that no two scores are as near to each other as two correct
    evaluations may be: that would change their order.
    """
    widths = (64, 128, 256, 512) if size == "full" else (8, 8, 16, 16)
    backbone = RTDetrResNetConfig(
        embedding_size=widths[0],
        hidden_sizes=list(widths),
        depths=[2, 2, 2, 2] if size == "full" else [1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    common = {
        "backbone_config": backbone,
        "encoder_in_channels": list(widths[1:]),
        "hidden_expansion": 0.5,
        "freeze_backbone_batch_norms": False,  # settled from data below
    }
    if size == "full":
        return RTDetrConfig(decoder_layers=3, num_labels=80, **common)
    return RTDetrConfig(
        encoder_hidden_dim=16,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        d_model=16,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=32,
        decoder_layers=1,
        decoder_attention_heads=2,
        num_queries=6,
        num_labels=5,
        **common,
    )


def network(size: Size) -> Network:
    """RT-DETR-R18 at 640×640, or a small one at 64×64."""
    extent = 640 if size == "full" else 64
    module = QueryingDetector(configuration(size))
    draw_weights(module, seed=27)
    settle_batchnorm(module, [pictures(2700 + i, 2, extent, extent) for i in range(2)])
    return Network(
        module,
        inputs={"pixel_values": {0: "batch"}},
        outputs={"logits": {0: "batch"}, "pred_boxes": {0: "batch"}},
        cases=[(pictures(seed, count, extent, extent),) for count, seed in SAMPLES],
    )
