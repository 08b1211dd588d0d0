"""The ONNX text notation: tokens, parser and printer."""
