"""Seeded weights and feeds that make an untrained network react to what it sees.

Untrained networks answer nearly the same to every input: transformers' 0.02 normal weights leave
attention uniform, and batch normalisation with mean 0 and variance 1 lets activations shrink or
blow up layer by layer. Weights are therefore drawn so that each layer keeps the variance of its
input, batch-norm statistics are taken from data, and pictures differ in more than pixel noise.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def generator(seed: int) -> torch.Generator:
    """A random stream of its own, so that one feed never depends on another."""
    return torch.Generator().manual_seed(seed)


def pictures(seed: int, count: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    """Random pictures x[count, channels, height, width]: patches of colour, contrast, grain."""
    stream = generator(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=stream)

    patches = functional.interpolate(normal(count, channels, 5, 5), (height, width), mode="nearest")
    smooth = functional.interpolate(
        normal(count, channels, 3, 3), (height, width), mode="bilinear", align_corners=False
    )
    contrast = normal(count, 1, 1, 1).exp()
    grain = normal(count, 1, 1, 1).exp() * 0.3 * normal(count, channels, height, width)
    return contrast * (patches + smooth + normal(count, channels, 1, 1)) + grain


def draw_weights(module: nn.Module, seed: int) -> None:
    """Draw every weight of two or more axes with variance 1 / fan-in, the others near identity."""
    stream = generator(seed)
    with torch.no_grad():
        for layer in module.modules():
            for name, weight in layer.named_parameters(recurse=False):
                weight.copy_(fresh(layer, name, weight, stream))


def fresh(
    layer: nn.Module, name: str, weight: torch.Tensor, stream: torch.Generator
) -> torch.Tensor:
    """A new value for the parameter ``name`` of ``layer``."""
    noise = torch.randn(weight.shape, generator=stream)
    if isinstance(layer, nn.Embedding):
        return noise
    if weight.ndim < 2:
        return 0.1 * noise + (1.0 if name == "weight" else 0.0)
    if type(layer).__name__ in {"Conv1D", "ConvTranspose2d"}:
        return noise / weight.shape[0] ** 0.5
    return noise / float(weight[0].numel()) ** 0.5


def settle_batchnorm(module: nn.Module, batches: list[torch.Tensor]) -> None:
    """Set the statistics of every batch normalisation to the averages over ``batches``."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average instead of an exponential one
    module.train()
    with torch.no_grad():
        for batch in batches:
            module(batch)
    module.eval()
