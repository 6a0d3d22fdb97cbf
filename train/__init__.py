"""Training: labelled tiles -> checkpoint. The only package, beside export.to_onnx, that imports torch."""
