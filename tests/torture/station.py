"""A ground station in a folder: inbox, outgoing, state, a model for the fake backend, scenes, and the daemon itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from runtime.backends.fake import FAKE_MANIFEST
from runtime.daemon.ledger import FILE_NAME, Ledger, Row, Status
from runtime.products.publish import mask_key_of
from sarwater.errors import ConfigurationError
from sarwater.manifest import manifest_path, sha256_of

CHECKOUT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "settle_s": "0.2", "scan_s": "0.5", "retry_first_s": "0.1", "free_fraction": "0.0", "products": "mask,stac"
}  # fmt: skip


WITHOUT_PRIVILEGES: list[str] = []
if os.geteuid() == 0:
    # Root without a capability owns its files and may do nothing besides: it cannot read a file of mode 000.
    WITHOUT_PRIVILEGES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]


class Station:
    """Everything under one folder. `settings` are the daemon's, over quick ones for tests."""

    def __init__(self, root: Path, **settings: object) -> None:
        self.root = root
        self.incoming, self.outgoing, self.state = root / "incoming", root / "outgoing", root / "state"
        self.incoming.mkdir(parents=True, exist_ok=True)
        self.model = root / "model" / "fake.onnx"
        self.settings = {**SETTINGS, **{key: _text(value) for key, value in settings.items()}}
        self.module = "runtime.commands.watch"
        self.checkout = CHECKOUT
        """Where the daemon's code is."""
        self._log = root / "daemon.log"
        if not self.model.exists():
            self.write_model()

    def copied_to(self, root: Path) -> Station:
        """A station of its own that begins where this one stands; its ledger names its own folders."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        copy = Station(root)
        with Ledger(copy.state / FILE_NAME) as ledger:
            ledger.note_folders(incoming=copy.incoming, outgoing=copy.outgoing)
        return copy

    def write_model(self) -> None:
        """The fake backend parses nothing, but it wants a file that matches its manifest."""
        self.model.parent.mkdir(exist_ok=True)
        self.model.write_bytes(b"not a graph; the fake backend only hashes it\n")
        digest = hashlib.sha256(self.model.read_bytes()).hexdigest()
        manifest = dataclasses.replace(FAKE_MANIFEST, files={self.model.name: digest})
        manifest_path(self.model).write_text(manifest.to_json(), encoding="utf-8")

    def scene(self, seed: int, size_px: int = 96) -> bytes:
        """A georeferenced uint16 GeoTIFF with a dark lake; the same bytes for the same seed."""
        template = self.root / f"template-{size_px}.tif"
        if not template.exists():
            write_geotiff(template, size_px)
        content = bytearray(template.read_bytes())
        # Uncompressed, so the last bytes are pixels of the last row: the seed goes there.
        content[-8:] = (1 + seed).to_bytes(8, "little")
        return bytes(content)

    def drop(self, name: str, content: bytes | int) -> Path:
        """Put a finished file into the inbox the right way: under an ignored name, then renamed."""
        data = self.scene(content) if isinstance(content, int) else content
        hidden, path = self.incoming / ".arriving.part", self.incoming / name
        hidden.write_bytes(data)
        os.rename(hidden, path)
        return path

    def command(self, *flags: str) -> list[str]:
        python = [sys.executable, "-m", self.module]
        if self.module == "runtime.commands.queue":
            return [*python, f"--state={self.state}", *flags]
        if self.module == "runtime.commands.predict":
            return [*python, f"--output={self.outgoing}", f"--model={self.model}", "--device=fake", *flags]
        folders = [f"--incoming={self.incoming}", f"--outgoing={self.outgoing}", f"--state={self.state}"]
        return [*python, *folders, f"--model={self.model}", "--device=fake", *_flags(self.settings), *flags]

    def drain(
        self, *flags: str, timeout_s: float = 600, prefix: Sequence[str] = (), **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the daemon with --once to its end; `settings` come last and so win."""
        command = [*prefix, *WITHOUT_PRIVILEGES, *self.command("--once", *flags), *_flags(settings)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, env=self.environment(), cwd=self.checkout
        )

    def queue(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `sarwater queue`, as the daemon's user."""
        python = [sys.executable, "-m", "runtime.commands.queue", f"--state={self.state}"]
        command = [*WITHOUT_PRIVILEGES, *python, *words]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment(), cwd=self.checkout)

    def start(self, *flags: str, prefix: Sequence[str] = (), log: Path | None = None, **environment: str) -> Daemon:
        self._log = log or self.root / "daemon.log"
        command = [*WITHOUT_PRIVILEGES, *prefix, *self.command(*flags)]
        with self._log.open("ab") as file:
            everything = {**self.environment(), **environment}
            return Daemon(subprocess.Popen(command, stderr=file, stdout=file, env=everything, cwd=self.checkout))

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.checkout)}

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def rows(self, *states: Status) -> list[Row]:
        with Ledger(self.state / FILE_NAME, read_only=True) as ledger:
            return ledger.rows(*states)

    def masks(self) -> list[Path]:
        return sorted(self.outgoing.glob("*_water*.tif"))

    def published(self) -> list[str]:
        return sorted(row.name for row in self.rows(Status.PUBLISHED))

    def published_all(self, contents: dict[str, bytes]) -> bool:
        """False, too, where no ledger can be read: on a full disk it may not be there, or have no room for that."""
        try:
            return set(self.published()) >= set(contents)
        except (sqlite3.OperationalError, ConfigurationError):
            return False

    def reasons(self) -> dict[str, str]:
        """Name of each quarantined scene -> reason.json's reason."""
        documents = [json.loads(path.read_text()) for path in self.state.glob("quarantine/*/reason.json")]
        return {document["name"]: document["reason"] for document in documents}

    def audit(self, dropped: dict[str, bytes], expected: dict[str, str] | None = None) -> Audit:
        """Everything that the guarantee forbids, after a drain. `expected`: mask key -> sha256 of the right mask."""
        audit = Audit()
        with Ledger(self.state / FILE_NAME) as ledger:
            if (verdict := ledger.check()) != "ok":
                audit.corrupted.append(f"ledger: {verdict}")
            rows = ledger.rows()
        masks = [(mask_key_of(mask), mask) for mask in self.masks()]
        keys = [key for key, _ in masks]
        for key, mask in masks:
            if key is None or (expected and expected[key] != sha256_of(mask)):
                audit.corrupted.append(f"mask {mask.name}")
        audit.duplicated += [f"{keys.count(key)} masks of key {key}" for key in set(keys) if keys.count(key) > 1]
        handled = [(row.name, row.input_sha256) for row in rows if row.status in (Status.PUBLISHED, Status.DUPLICATE)]
        audit.duplicated += [
            f"{name} was handled twice" for name, sha in set(handled) if handled.count((name, sha)) > 1
        ]
        published = {row.key for row in rows if row.status is Status.PUBLISHED and row.key}
        audit.lost += [f"no mask for the published key {key}" for key in published - set(keys)]
        waiting = {f"{row.id:08d}" for row in rows if row.status is Status.RETRY_WAIT}
        audit.duplicated += [f"{path} is left" for path in self.state.glob("work/*") if path.name not in waiting]
        done = {sha for name, sha in handled}
        kept = {sha256_of(path) for path in self._kept()}
        for name, content in dropped.items():
            digest = hashlib.sha256(content).hexdigest()
            if digest not in done:
                audit.lost.append(f"{name} has no mask")
            if digest not in kept:
                audit.lost.append(f"the bytes of {name} are nowhere")
        return audit

    def expected(self) -> dict[str, str]:
        """Mask key -> sha256 of its mask, from a station that nothing disturbed."""
        return {mask_key_of(mask) or "": sha256_of(mask) for mask in self.masks()}

    def _kept(self) -> list[Path]:
        folders = (self.incoming, self.state / "work", self.state / "done", self.state / "quarantine")
        return [path for folder in folders if folder.exists() for path in folder.rglob("*") if path.is_file()]


@dataclass
class Audit:
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    corrupted: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Is anything wrong?"""
        return bool(self.lost or self.duplicated or self.corrupted)

    def add(self, more: Audit) -> None:
        self.lost += more.lost
        self.duplicated += more.duplicated
        self.corrupted += more.corrupted


class Daemon:
    """A running daemon; a context manager that kills it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    def terminate(self, timeout_s: float = 30) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def ended_well(done: subprocess.CompletedProcess[str]) -> bool:
    """Did a drain come to its end? With scenes in quarantine it says so last and ends with 1."""
    last = done.stderr.splitlines()[-1:]
    return done.returncode == 0 or (done.returncode == 1 and bool(last) and " in quarantine: " in last[0])


def until(condition: Callable[[], bool], timeout_s: float = 600, poll_s: float = 0.05) -> None:
    """Wait for `condition`, which is looked at every `poll_s`; raises TimeoutError where it does not come true."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not true after {timeout_s:g} s")
        time.sleep(poll_s)


def write_geotiff(path: Path, size_px: int) -> None:
    """Speckle with a dark lake, uint16 amplitude, uncompressed, EPSG:32632."""
    from sarwater.scenes.raster import gdal, osr

    pixels = np.random.default_rng(1).rayleigh(90, (size_px, size_px)).astype(np.uint16) + 1
    pixels[size_px // 4 : size_px // 2, size_px // 4 : size_px // 2] = 5
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), size_px, size_px, 1, gdal.GDT_UInt16)
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(32632)
    dataset.SetProjection(reference.ExportToWkt())
    dataset.SetGeoTransform((500000.0, 1.1, 0.0, 5000000.0, 0.0, -1.1))
    dataset.GetRasterBand(1).WriteArray(pixels)
    del dataset


def _flags(settings: dict[str, str]) -> list[str]:
    return [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
