"""What `onnx.tools` offers: changes of whole models; see the modules."""
