"""What engine.py needs of TensorRT and of TensorRT-RTX, over the CUDA driver of the tests: a plan is an ONNX file, and
ONNX Runtime answers when the stream gets there.

Stricter than the real ones: what those leave undefined is an AssertionError here. Names and parameters are theirs
(tests/runtime/backends/gpu/test_tensorrt_api.py looks them up in the real bindings).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tests.support.cuda_driver import control

VERSIONS = {"tensorrt": "10.13.0", "tensorrt_rtx": "1.7.1.116"}
_SCRATCH_BYTES_PER_PIXEL = 16


class ILogger:
    class Severity:
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None: ...

    def log(self, severity: int, msg: str) -> None: ...


class ExecutionContextAllocationStrategy:
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class DynamicShapesKernelSpecializationStrategy:
    LAZY, EAGER, NONE = range(3)


class CudaGraphStrategy:
    DISABLED, WHOLE_GRAPH_CAPTURE = range(2)


class IRuntimeCache:
    def deserialize(self, blob: bytes) -> bool:
        return True

    def serialize(self) -> bytes:
        return b"compiled"


class IRuntimeConfig:
    cuda_graph_strategy = CudaGraphStrategy.DISABLED
    dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY

    def set_execution_context_allocation_strategy(self, strategy: int) -> None:
        assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        return True


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self.sizes_asked = 0
        self._engine = engine
        self._shape: tuple[int, ...] = ()
        self._memory = self._memory_bytes = 0
        self._addresses: dict[str, int] = {}
        self._ran: set[tuple[int, ...]] = set()
        """Shapes that ran in the memory of now."""
        self._functions: dict[tuple[Any, ...], Any] = {}

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        assert name == "sar"
        assert tuple(shape[1:]) == self._engine.tile_shape
        self._shape = tuple(shape)
        return 1 <= shape[0] <= 8

    def update_device_memory_size_for_shapes(self) -> int:
        assert self._shape
        self.sizes_asked += 1
        return self._needs_bytes()

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        self._memory, self._memory_bytes = memory, size
        self._ran.clear()

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory % 256 == 0
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self._memory_bytes >= self._needs_bytes() > 0
        if control.is_capturing(stream_handle):
            assert self._shape in self._ran, "recorded before it ran in this memory"
        self._ran.add(self._shape)
        source, target = self._addresses["sar"], self._addresses["water"]
        key = (self._shape, self._memory, source, target)
        if key not in self._functions:
            self._functions[key] = control.Network(self._network(self._shape, self._memory))
        return control.call(stream_handle, self._functions[key], source, target)

    def _needs_bytes(self) -> int:
        return int(np.prod(self._shape)) * _SCRATCH_BYTES_PER_PIXEL

    def _network(self, shape: tuple[int, ...], scratch: int) -> Any:
        answer, scratch_bytes = self._engine.answer, self._needs_bytes()

        def run(source: int, target: int) -> None:
            answers = _array(target, (shape[0], *shape[2:]))
            for tile, place in zip(_array(source, shape), answers, strict=True):
                place[...] = answer(tile)
            ctypes.memset(scratch, 0xEE, scratch_bytes)

        return run


class ICudaEngine:
    num_io_tensors = 2

    def __init__(self, session: Any) -> None:
        self.tile_shape = tuple(session.get_inputs()[0].shape[1:])
        self.answer = lambda tile: session.run(None, {"sar": tile[None]})[0][0, 0]

    def get_tensor_name(self, index: int) -> str:
        return ("sar", "water")[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, self.tile_shape[0] if name == "sar" else 1, *self.tile_shape[1:])

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, strategy: Any) -> IExecutionContext:
        if isinstance(strategy, int):
            assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        return IExecutionContext(self)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        try:
            return ICudaEngine(session_of(serialized_engine))
        except Exception as error:  # ONNX Runtime's own, which it exports under no name
            self._logger.log(ILogger.Severity.ERROR, str(error))
            return None


def session_of(plan: bytes) -> Any:
    """ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what it has to say of a broken file is in the exception
    return onnxruntime.InferenceSession(plan, options, providers=["CPUExecutionProvider"])


def module(name: str) -> ModuleType:
    """To be found as `tensorrt` or `tensorrt_rtx`."""
    made = ModuleType(name)
    made.__version__ = VERSIONS[name]  # type: ignore[attr-defined]
    made.__dict__.update({kind.__name__: kind for kind in KINDS})
    return made


KINDS = (
    CudaGraphStrategy,
    DynamicShapesKernelSpecializationStrategy,
    ExecutionContextAllocationStrategy,
    ICudaEngine,
    IExecutionContext,
    ILogger,
    IRuntimeCache,
    IRuntimeConfig,
    Runtime,
)


def _array(address: int, shape: Sequence[int]) -> np.ndarray:
    """Memory as float32."""
    count = int(np.prod(shape))
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (count,)).reshape(shape)
