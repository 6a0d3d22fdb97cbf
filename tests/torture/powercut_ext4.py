"""Power cuts on a real file system: a loop-mounted ext4 whose image is copied while the daemon runs. Needs root."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

from runtime.products.publish import mask_key_of
from tests.torture.powercut import Cuts
from tests.torture.station import Station, until


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mkfs.ext4") is not None and Path("/dev/loop-control").exists()


def cut_ext4(root: Path, count: int, rng: random.Random) -> Cuts:
    """Copy the image of a mounted ext4 while the daemon runs, mount the copy (which replays its journal), recover."""
    result = Cuts()
    root.mkdir(parents=True)
    reference = Station(root / "reference")
    contents = {f"s{number}.tif": reference.scene(number) for number in range(40)}
    for name, content in contents.items():
        reference.drop(name, content)
    reference.drain(timeout_s=600)
    expected = reference.expected()
    while result.cuts < count:
        _cut_ext4_run(root / f"run{result.cuts}", contents, expected, min(10, count - result.cuts), rng, result)
    return result


def _cut_ext4_run(
    root: Path, contents: dict[str, bytes], expected: dict[str, str], cuts: int, rng: random.Random, result: Cuts
) -> None:
    """One daemon on one file system; `cuts` copies of its image at random moments."""
    root.mkdir()
    image = root / "disk.img"
    subprocess.run(["truncate", "--size=48M", str(image)], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    copies = []
    with _mounted(image, root / "disk") as disk:
        station = Station(disk / "station")
        for name, content in contents.items():
            station.drop(name, content)
        os.sync()
        with station.start(log=root / "daemon.log") as daemon:
            until(lambda: "ready" in station.log)
            for number in range(cuts):
                time.sleep(rng.uniform(0, 0.4))
                copy = root / f"copy{number}.img"
                _copy_at_one_moment(image, copy)
                copies.append(copy)
            daemon.kill()
    for number, copy in enumerate(copies):
        with _mounted(copy, root / f"copy{number}") as disk:
            _recover_copy(Station(disk / "station"), contents, expected, result)
        copy.unlink()
    shutil.rmtree(root)


def _recover_copy(station: Station, contents: dict[str, bytes], expected: dict[str, str], result: Cuts) -> None:
    result.cuts += 1
    if (station.state / "ledger.sqlite").exists():
        visible = {mask_key_of(mask) for mask in station.masks()}
        rows = [row for row in station.rows() if row.status == "PUBLISHED"]
        result.audit.lost += [f"{row.name}: PUBLISHED without a mask" for row in rows if row.key not in visible]
    done = station.drain(timeout_s=600)
    if done.returncode:
        result.audit.lost.append(f"no recovery: {done.stderr[-300:]}")
    else:
        result.audit.add(station.audit(contents, expected))


def _copy_at_one_moment(image: Path, copy: Path) -> None:
    """Copy until two copies in a row are the same: nothing was written in between, so it is what a cut would leave."""
    before = image.read_bytes()
    while (after := image.read_bytes()) != before:
        before = after
    copy.write_bytes(after)


class _mounted:
    """A file system image, mounted."""

    def __init__(self, image: Path, folder: Path) -> None:
        self._image, self._folder = image, folder

    def __enter__(self) -> Path:
        self._folder.mkdir()
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self._folder)], check=True)
        return self._folder

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self._folder)], check=True)
        self._folder.rmdir()
