"""Export: checkpoint -> ONNX -> engine, each proven against the checkpoint."""
