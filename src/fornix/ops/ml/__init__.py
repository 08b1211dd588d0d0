"""The operators of domain ``ai.onnx.ml``: linear models, support vectors, tables, trees."""
