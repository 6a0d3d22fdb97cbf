"""What runs the network: OpenVINO on a CPU, TensorRT on a GPU, and a fake that ships for tests and drills."""
