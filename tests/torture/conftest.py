from tests.support.fixtures import backend, model, out

__all__ = ["backend", "model", "out"]
