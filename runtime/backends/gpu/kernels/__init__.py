"""What runs on the device beside the network: scene.cu, compiled for the device found (compile.py) or, in tests, with
host.h for the processor."""
