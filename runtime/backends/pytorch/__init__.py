"""PyTorch as a backend, for GPUs that no installed TensorRT serves, and for development. Nothing else imports it."""
