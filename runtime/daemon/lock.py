"""One daemon works on a station's folders."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path
from types import TracebackType

from sarwater.errors import ConfigurationError

log = logging.getLogger("sarwater.watch")


class Lock:
    """One daemon per state, incoming and outgoing folder. The worker inherits the lock, so that it is free only when
    both are gone."""

    def __init__(self, state: Path, *others: Path, patience_s: float = 3.0) -> None:
        """Raises ConfigurationError while another daemon holds one of them."""
        self._descriptors = [os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)]
        deadline_s = time.monotonic() + patience_s
        try:
            self._take(state, self._descriptors[0], deadline_s)
            for folder in others:
                self._descriptors.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                self._take(folder, self._descriptors[-1], deadline_s)
            os.ftruncate(self._descriptors[0], 0)
            os.pwrite(self._descriptors[0], f"{os.getpid()}\n".encode(), 0)
        except BaseException:  # a full disk, too: a lock left behind would refuse the next attempt
            self.close()
            raise

    def _take(self, folder: Path, descriptor: int, deadline_s: float) -> None:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                # The worker of a daemon that was killed takes a moment to go.
                if time.monotonic() < deadline_s:
                    time.sleep(0.02)
                    continue
                holder = os.pread(self._descriptors[0], 20, 0).decode(errors="replace").strip()
                raise ConfigurationError(
                    f"{folder}: another daemon{f' (process {holder})' if holder else ''} works on it; "
                    "stop it, or give this one folders of its own"
                ) from None
            except OSError as error:
                # NFS locks no folder that is opened for reading; the state folder is local, and its lock counts.
                log.warning("%s: cannot be locked (%s)", folder, error.strerror)
                return

    def filenos(self) -> tuple[int, ...]:
        return tuple(self._descriptors)

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
