"""VGG-16 (Simonyan & Zisserman 2015, configuration D) and a small sibling."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from bench.models.seeding import draw_weights, pictures
from bench.models.spec import Network, Size

# (batch, seed); the same batch twice, so that two results can be compared.
SAMPLES = ((2, 1), (2, 2), (1, 3), (3, 4))
# (convolutions, channels) of each stage
FULL = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
SMALL = ((2, 8), (2, 16), (1, 16))


def vgg(stages: tuple[tuple[int, int], ...], extent: int, hidden: int, classes: int) -> nn.Module:
    """x[N, 3, extent, extent] → scores[N, classes]; 3×3 convolutions, halved after each stage."""
    layers: list[nn.Module] = []
    channels = 3
    for count, out in stages:
        for _ in range(count):
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
            channels = out
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    widths = (channels * (extent >> len(stages)) ** 2, hidden, hidden)
    for width, out in pairwise(widths):
        layers += [nn.Linear(width, out), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(hidden, classes))


def network(size: Size) -> Network:
    """VGG-16 at 224×224, or five narrow convolutions at 32×32."""
    full = size == "full"
    extent = 224 if full else 32
    module = vgg(FULL, extent, 4096, 1000) if full else vgg(SMALL, extent, 32, 10)
    draw_weights(module, seed=11)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight *= RECTIFIED
    module.eval()
    return Network(
        module,
        inputs={"image": {0: "batch"}},
        outputs={"scores": {0: "batch"}},
        cases=[(pictures(seed, count, extent, extent),) for count, seed in SAMPLES],
    )


# A rectifier halves the second moment; without normalisation the weights must double it again.
RECTIFIED = 2.0**0.5
