"""Runtime: scene + model -> water mask, side products, latency record. Never imports torch, onnx, train or export."""
