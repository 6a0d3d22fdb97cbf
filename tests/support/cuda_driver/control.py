"""What a test sets and asks of the driver, in the process that has loaded it."""

from __future__ import annotations

import ctypes
import functools

OUT_OF_MEMORY, INVALID_VALUE, NOT_SUPPORTED = 2, 1, 801
"""CUresult, cuda.h."""

# Of the streams copy-in, compute and copy-out, those that run at once; the others when something waits for them.
ORDERS = {
    "eager": 0b111,
    "lazy": 0b000,
    "in first": 0b001,
    "compute first": 0b010,
    "out first": 0b100,
    "copies first": 0b101,
    "compute last": 0b110,
    "random": None,
}


@functools.cache
def _driver() -> ctypes.CDLL:
    driver, number = ctypes.CDLL("libcuda.so.1"), ctypes.c_long
    driver.driver_memory.argtypes = [ctypes.c_size_t]
    driver.driver_fail.argtypes = [ctypes.c_char_p, number, number, ctypes.c_int]
    driver.driver_lose.argtypes = [number, ctypes.c_int]
    driver.driver_calls.argtypes = [ctypes.c_char_p]
    driver.driver_calls.restype = driver.driver_work.restype = number
    return driver


def reset() -> None:
    """As if the machine had just started."""
    _driver().driver_reset()


def order(name: str, seed: int = 1) -> None:
    """One of ORDERS; `seed` also shuffles the blocks of each kernel, but for 0."""
    prompt = ORDERS[name]
    _driver().driver_order(prompt or 0, prompt is None, seed != 0, seed)


def memory(size_bytes: int) -> None:
    """Of the GPU, altogether."""
    _driver().driver_memory(size_bytes)


def fail(entry_point: str, first: int = 1, last: int = 1 << 40, error: int = OUT_OF_MEMORY) -> None:
    """Refuse these calls, counted from now on from 1."""
    _driver().driver_fail(entry_point.encode(), first, last, error)


def fail_nothing() -> None:
    fail("", 1, 0)


def lose(work: int, stack_fails: bool = False) -> None:
    """The GPU is lost with this piece of work from now on; `stack_fails`: then contexts are refused, too."""
    _driver().driver_lose(work, stack_fails)


def calls(entry_point: str) -> int:
    return int(_driver().driver_calls(entry_point.encode()))


def work() -> int:
    """Pieces of work that were put into streams."""
    return int(_driver().driver_work())


def retained() -> int:
    """How often the primary context is retained."""
    return int(_driver().driver_retained())


def depth() -> int:
    """Contexts on the stack of this thread."""
    return int(_driver().driver_depth())


def problems() -> list[str]:
    """What was done wrongly since this was last asked."""
    text = ctypes.create_string_buffer(1 << 16)
    _driver().driver_problems(text, ctypes.c_size_t(len(text)))
    return text.value.decode().splitlines()


def is_capturing(stream: int) -> bool:
    status = ctypes.c_int()
    _driver().cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(status))
    return bool(status.value)


Network = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


def call(stream: int, function: ctypes._FuncPointer, source: int, target: int) -> bool:
    """Put a network into a stream: `function(source, target)`, which must live until it ran."""
    stream_handle, source_address, target_address = map(ctypes.c_void_p, (stream, source, target))
    return not _driver().driver_call(stream_handle, function, source_address, target_address)
