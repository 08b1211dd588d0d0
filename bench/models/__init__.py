"""Real models, built from configurations with seeded weights and exported by torch.

This file is the registry and the front door; one file per family builds the networks, `export.py`
has torch export them, `cache.py` keeps them, `tolerance.py` says how exactly results must agree,
`classical.py` holds scikit-learn's models, `control.py` loops and branches. Nothing here knows
fornix.
"""

from __future__ import annotations

from bench.models.export import built
from bench.models.spec import EXPORTERS, SIZES, Built, Exporter, ModelSpec, Size

__all__ = ["EXPORTERS", "MODELS", "SIZES", "Built", "Exporter", "ModelSpec", "Size", "build"]

MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec("resnet50", "resnet", "image classification, 25.6 million parameters"),
        ModelSpec("mobilenet_v2", "mobilenet", "image classification, depthwise convolutions"),
        ModelSpec("vit_b16", "vit", "image classification, attention over patches"),
        ModelSpec("bert_base", "bert", "text encoder, dynamic batch and sequence"),
        ModelSpec("gpt2", "gpt2", "text decoder with key/value cache, dynamic past"),
        ModelSpec("lstm_tagger", "tagger", "bidirectional LSTM, dynamic batch and sequence"),
        ModelSpec("unet", "unet", "segmentation, dynamic batch and extent"),
        ModelSpec("vgg16", "vgg", "image classification, plain 3×3 convolutions"),
        ModelSpec("edsr", "superres", "super-resolution, dynamic batch and extent"),
        ModelSpec("efficientnet_b0", "efficientnet", "image classification, gated depthwise"),
        ModelSpec("distilbert", "distilbert", "text encoder, dynamic batch and sequence"),
        ModelSpec("swin_t", "swin", "image classification, attention in shifted windows"),
        ModelSpec("convnext_t", "convnext", "image classification, 7×7 depthwise, channels last"),
        ModelSpec("llama", "llama", "text decoder with rotary positions and key/value cache"),
        ModelSpec("whisper_encoder", "whisper", "speech encoder", maker="encoder"),
        ModelSpec("whisper_decoder", "whisper", "speech decoder, dynamic text", maker="decoder"),
        ModelSpec("t5_small", "t5", "translation, encoder and decoder in one"),
        ModelSpec("segformer_b0", "segformer", "segmentation, attention and convolutions"),
        ModelSpec("detector", "detector", "object detection, non-maximum suppression", 2),
        ModelSpec(
            "rtdetr_r18",
            "rtdetr",
            "object detection, queries at sampled points",
            told=("small",),  # the full one ranks 8,400 places
        ),
        ModelSpec("gru_tagger", "gru", "bidirectional GRU, dynamic batch and sequence"),
        ModelSpec(
            "crnn",
            "crnn",
            "reading of text, convolutions and LSTM, dynamic width",
            exporters=("torchscript",),  # dynamo cannot have an LSTM over W // 4 steps
        ),
        ModelSpec("wavenet", "wavenet", "sound, dilated 1-D convolutions, dynamic length"),
    )
}


def build(name: str, exporter: Exporter = "dynamo", size: Size = "small") -> Built:
    """The model ``name``, exported now or earlier, with feeds and torch's outputs for them."""
    return built(MODELS[name], exporter, size)
