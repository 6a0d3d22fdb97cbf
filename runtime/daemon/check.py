"""`sarwater watch check`: try everything that a start would need, change nothing, and say what would happen."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from runtime.daemon.config import Config
from runtime.daemon.dispatcher import as_error
from runtime.daemon.inbox import Candidate, Inbox
from runtime.daemon.item import shown
from runtime.daemon.kinds import Kind
from runtime.daemon.pipe import PipeClosed
from runtime.daemon.room import Room
from runtime.daemon.worker_process import WorkerProcess
from sarwater.errors import ConfigurationError, DeviceUnavailable

_SHOWN = 20


def report(config: Config) -> int:
    """Print the report; raises ConfigurationError or ModelError for the first thing that a start would refuse."""
    for key, value in config.model_dump(mode="json", exclude_defaults=True).items():
        print(f"{key} = {value}")
    _check_folders(config)
    print(f"folders: {config.incoming} -> {config.state} -> {config.outgoing}")
    short = Room(_existing(config.outgoing), _existing(config.state)).check(config.free_fraction, 0)
    print(f"room: {short or 'enough'}")
    model = _open_model(config)
    print(f"model: {model['model']} on {model['device']} ({model['backend']}), sha256 {model['model_sha256'][:12]}…")
    inbox = Inbox(config)
    inbox.scan()
    print(f"inbox: {len(inbox.candidates)} names")
    for candidate in list(inbox.candidates.values())[:_SHOWN]:
        print(f"  {shown(candidate.name)}: {_fate(inbox, candidate)}")
    if len(inbox.candidates) > _SHOWN:
        print(f"  and {len(inbox.candidates) - _SHOWN} more")
    return 0


def _check_folders(config: Config) -> None:
    if not config.incoming.is_dir():
        raise ConfigurationError(f"incoming {config.incoming}: no such folder; make it, or name another one")
    needs = {config.incoming: "move scenes out", _existing(config.outgoing): "write", _existing(config.state): "write"}
    if config.read_only_inbox:
        del needs[config.incoming]
    for folder, purpose in needs.items():
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigurationError(f"{folder}: user {os.geteuid()} may not {purpose} there; grant write permission")
    if not config.read_only_inbox and config.incoming.stat().st_dev != _existing(config.state).stat().st_dev:
        raise ConfigurationError(
            f"incoming {config.incoming} and state {config.state} are on different file systems; "
            "a scene is claimed by a rename, so put both under one"
        )


def _open_model(config: Config) -> dict[str, str]:
    with WorkerProcess(config, lock=None) as worker:
        deadline_s = time.monotonic() + config.start_s
        while time.monotonic() < deadline_s:
            select.select([worker], [], [], 1.0)
            try:
                for message in worker.pending():
                    if message["event"] == "refused":
                        raise as_error(message)
                    return message
            except PipeClosed:
                raise DeviceUnavailable(f"the worker ended before it was ready ({worker.ended()}); see above") from None
    raise DeviceUnavailable(f"the worker was not ready after {config.start_s:g} s")


def _fate(inbox: Inbox, candidate: Candidate) -> str:
    config = inbox.config
    if candidate.kind is Kind.IGNORED:
        return f"ignored; {candidate.why}"
    if candidate.complete:
        return "complete; would be claimed at once"
    if config.require_marker:
        return "waits for its marker or checksum"
    if candidate.lack:
        most_s = config.companion_s if candidate.kind is Kind.SCENE else config.product_timeout_s
        return f"waits for {', '.join(candidate.lack)}, at most {most_s:g} s"
    return f"would be claimed after {config.settle_s:g} s without a change"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
