"""A decoder as LLaMA (Touvron et al. 2023): rotary positions, RMS norms, gated feed-forward.

Keys and values are shared by groups of heads, and the cache is inputs and outputs as in `gpt2`.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from bench.models.gpt2 import SAMPLES, cache_axes
from bench.models.seeding import draw_weights, generator
from bench.models.spec import Network, Size


class Decoder(nn.Module):
    """One step of decoding.

    Tokens[N, S], mask[N, P + S] and per layer key and value[N, groups, P, width]
    → scores[N, S, vocabulary] and the keys and values grown to P + S.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.llama = LlamaForCausalLM(config)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        cache = DynamicCache(list(zip(past[::2], past[1::2], strict=True)))
        result = self.llama(
            input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True
        )
        grown = [
            tensor
            for layer in result.past_key_values.layers
            for tensor in (layer.keys, layer.values)
        ]
        return result.logits, *grown


def config_of(size: Size) -> LlamaConfig:
    """100 million parameters in 12 layers, or two layers of width 32 over 100 words."""
    if size == "full":
        return LlamaConfig(
            vocab_size=32_000,
            hidden_size=768,
            intermediate_size=2048,
            num_hidden_layers=12,
            num_attention_heads=12,
            num_key_value_heads=4,
            tie_word_embeddings=True,
        )
    return LlamaConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )


def network(size: Size) -> Network:
    """The decoder with its cache; see `config_of`."""
    config = config_of(size)
    module = Decoder(config).eval()
    draw_weights(module, seed=17)
    layers = config.num_hidden_layers
    return Network(
        module,
        inputs={
            "input_ids": {0: "batch", 1: "sequence"},
            "attention_mask": {0: "batch", 1: "total"},
            **cache_axes("past", layers, "past"),
        },
        outputs={
            "logits": {0: "batch", 1: "sequence"},
            **cache_axes("present", layers, "total"),
        },
        cases=[feed(config, *sample) for sample in SAMPLES],
        variadic=2,
    )


def feed(
    config: LlamaConfig, count: int, new: int, past: int, seed: int
) -> tuple[torch.Tensor, ...]:
    """Random tokens and cache; the last row's mask hides its first place, as left padding does."""
    stream = generator(seed)
    tokens = torch.randint(config.vocab_size, (count, new), generator=stream)
    mask = torch.ones(count, past + new, dtype=torch.int64)
    if past:
        mask[-1, 0] = 0
    width = config.hidden_size // config.num_attention_heads
    shape = (count, config.num_key_value_heads, past, width)
    cache = [torch.randn(shape, generator=stream) for _ in range(2 * config.num_hidden_layers)]
    return tokens, mask, *cache
