"""Whisper-tiny (Radford et al. 2022) from transformers' configuration, and a small sibling.

Encoder and decoder are models of their own, as in every export of it.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperDecoder, WhisperEncoder

from bench.models.seeding import draw_weights, generator
from bench.models.spec import Network, Size

# (batch, seed); the same batch twice, so that two results can be compared.
SAMPLES = ((2, 1), (2, 2), (1, 3))
# Of the decoder: batch, tokens, seed; the first two alike but for the seed
TEXTS = ((2, 5, 1), (2, 5, 2), (1, 1, 3), (1, 12, 4))


class Encoder(nn.Module):
    """Log-mel spectrum x[N, bins, 2·T] → states[N, T, width]."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.whisper = WhisperEncoder(config)

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.whisper(spectrum).last_hidden_state
        return states


class Decoder(nn.Module):
    """Tokens[N, S] and states[N, T, width] of the encoder → scores[N, S, vocabulary]."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.whisper = WhisperDecoder(config)

    def forward(self, tokens: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        # Without a mask transformers looks for packed sequences, which torchscript cannot export.
        hidden = self.whisper(
            tokens,
            attention_mask=torch.ones_like(tokens),
            encoder_hidden_states=states,
            use_cache=False,
        )
        scores: torch.Tensor = nn.functional.linear(
            hidden.last_hidden_state, self.whisper.embed_tokens.weight
        )
        return scores


def config_of(size: Size) -> WhisperConfig:
    """Whisper-tiny, or two layers of width 32 over 100 words and 40 frames."""
    if size == "full":
        return WhisperConfig(
            d_model=384,
            encoder_layers=4,
            decoder_layers=4,
            encoder_attention_heads=6,
            decoder_attention_heads=6,
            encoder_ffn_dim=1536,
            decoder_ffn_dim=1536,
        )
    return WhisperConfig(
        vocab_size=100,
        num_mel_bins=8,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=20,
        max_target_positions=32,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        decoder_start_token_id=1,
    )


def encoder(size: Size) -> Network:
    """Spectra to states."""
    config = config_of(size)
    module = Encoder(config).eval()
    draw_weights(module, seed=18)
    return Network(
        module,
        inputs={"input_features": {0: "batch"}},
        outputs={"last_hidden_state": {0: "batch"}},
        cases=[(spectra(config, count, seed),) for count, seed in SAMPLES],
    )


def spectra(config: WhisperConfig, count: int, seed: int) -> torch.Tensor:
    """Random log-mel spectra, whose loudness varies slowly in time and by bin."""
    stream = generator(seed)
    frames = 2 * config.max_source_positions
    slow = torch.randn(count, config.num_mel_bins, 5, generator=stream)
    loud = nn.functional.interpolate(slow, frames, mode="linear", align_corners=False)
    return loud + 0.3 * torch.randn(count, config.num_mel_bins, frames, generator=stream)


def decoder(size: Size) -> Network:
    """Tokens and states to scores."""
    config = config_of(size)
    module = Decoder(config).eval()
    draw_weights(module, seed=19)
    axes = {0: "batch", 1: "sequence"}
    return Network(
        module,
        inputs={"input_ids": axes, "encoder_hidden_states": {0: "batch"}},
        outputs={"logits": axes},
        cases=[text(config, *sample) for sample in TEXTS],
    )


def text(config: WhisperConfig, count: int, length: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Random tokens and states."""
    stream = generator(seed)
    tokens = torch.randint(config.vocab_size, (count, length), generator=stream)
    shape = (count, config.max_source_positions, config.d_model)
    return tokens, torch.randn(shape, generator=stream)
