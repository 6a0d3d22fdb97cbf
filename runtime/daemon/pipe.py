"""Messages between supervisor and worker: a 4-byte length, then JSON. Nothing is pickled."""

from __future__ import annotations

import json
import select
import socket
import struct
from typing import Any

Message = dict[str, Any]

_LENGTH = struct.Struct("!I")
_MAX_BYTES = 1 << 24


class PipeClosed(Exception):
    """The other side is gone."""


class Pipe:
    """One end of a socket pair. Sending blocks; `receive` blocks, `pending` does not."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = bytearray()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, **message: Any) -> None:
        """Raises PipeClosed."""
        body = json.dumps(message).encode()
        try:
            self._socket.sendall(_LENGTH.pack(len(body)) + body)
        except OSError as error:
            raise PipeClosed(str(error)) from error

    def receive(self) -> Message:
        """The next message, waiting for it. Raises PipeClosed."""
        while (message := self._next()) is None:
            self._fill()
        return message

    def pending(self) -> list[Message]:
        """Whole messages that are here by now. Raises PipeClosed once the last one was taken."""
        closed: PipeClosed | None = None
        while select.select([self._socket], [], [], 0)[0]:
            try:
                self._fill()
            except PipeClosed as error:
                closed = error
                break
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        if closed and not messages:
            raise closed
        return messages

    def close(self) -> None:
        self._socket.close()

    def _fill(self) -> None:
        try:
            chunk = self._socket.recv(1 << 16)
        except OSError as error:
            raise PipeClosed(str(error)) from error
        if not chunk:
            raise PipeClosed("end of stream")
        self._buffer += chunk

    def _next(self) -> Message | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > _MAX_BYTES:
            raise PipeClosed(f"a message of {length} bytes cannot be one of ours")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        message: Message = json.loads(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return message
