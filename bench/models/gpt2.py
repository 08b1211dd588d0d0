"""GPT-2 (Radford et al. 2019) with key/value cache as inputs and outputs, and a small sibling."""

from __future__ import annotations

import torch
from torch import nn
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from bench.models.seeding import draw_weights, generator
from bench.models.spec import Axes, Network, Size

# (batch, new tokens, past tokens, seed); the first two alike but for the seed; a prompt without
# past and single-token steps among them
SAMPLES = ((2, 3, 5, 1), (2, 3, 5, 2), (1, 1, 9, 3), (1, 6, 0, 4), (3, 1, 1, 5))


class Decoder(nn.Module):
    """One step of decoding.

    Tokens[N, S], mask[N, P + S] and per layer key and value[N, heads, P, width]
    → scores[N, S, vocabulary] and the keys and values grown to P + S.
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.gpt2 = GPT2LMHeadModel(config)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        cache = DynamicCache(list(zip(past[::2], past[1::2], strict=True)))
        result = self.gpt2(
            input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True
        )
        grown = [
            tensor
            for layer in result.past_key_values.layers
            for tensor in (layer.keys, layer.values)
        ]
        return result.logits, *grown


def network(size: Size) -> Network:
    """GPT-2 (124 million parameters), or two layers of width 32 over 100 words."""
    if size == "full":
        config = GPT2Config()
    else:
        config = GPT2Config(
            vocab_size=100,
            n_positions=64,
            n_embd=32,
            n_layer=2,
            n_head=4,
            bos_token_id=0,
            eos_token_id=0,
        )
    module = Decoder(config).eval()
    draw_weights(module, seed=7)
    return Network(
        module,
        inputs={
            "input_ids": {0: "batch", 1: "sequence"},
            "attention_mask": {0: "batch", 1: "total"},
            **cache_axes("past", config.n_layer, "past"),
        },
        outputs={
            "logits": {0: "batch", 1: "sequence"},
            **cache_axes("present", config.n_layer, "total"),
        },
        cases=[feed(config, *sample) for sample in SAMPLES],
        variadic=2,
    )


def cache_axes(prefix: str, layers: int, length: str) -> dict[str, Axes]:
    """Name → dynamic axes of the keys and values of all layers."""
    names = [f"{prefix}_{layer}_{part}" for layer in range(layers) for part in ("key", "value")]
    return {name: {0: "batch", 2: length} for name in names}


def feed(
    config: GPT2Config, count: int, new: int, past: int, seed: int
) -> tuple[torch.Tensor, ...]:
    """Random tokens and cache; the last row's mask hides its first place, as left padding does."""
    stream = generator(seed)
    tokens = torch.randint(config.vocab_size, (count, new), generator=stream)
    mask = torch.ones(count, past + new, dtype=torch.int64)
    if past:
        mask[-1, 0] = 0
    shape = (count, config.n_head, past, config.n_embd // config.n_head)
    cache = [torch.randn(shape, generator=stream) for _ in range(2 * config.n_layer)]
    return tokens, mask, *cache
