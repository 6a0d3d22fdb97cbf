"""A KOMPSAT-5 delivery dropped flat into the inbox: image, GIM, _Aux.xml, quicklook and checksum list are one scene."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.daemon.config import Config
from runtime.daemon.fingerprint import fingerprint_of
from runtime.daemon.folders import Folders
from runtime.daemon.gathering import gather
from runtime.daemon.inbox import Inbox
from runtime.daemon.kinds import Kind
from runtime.daemon.ledger import FILE_NAME, Ledger, Status
from runtime.pipeline import scene_sha256
from runtime.products.publish import tags_of
from sarwater.errors import SceneError
from sarwater.scenes.readers import find_reader, members, open_scene
from sarwater.scenes.readers.kompsat5_flat import Kompsat5Flat
from sarwater.tags import INPUT_TAG
from tests.support.deliveries import write_k5_flat
from tests.support.product_folders import write_dimap, write_envi
from tests.support.rasters import lake_scene, read_raster, write_geotiff
from tests.torture.station import Station, until

NAME = "K5_20240716093112_000001_12345_D_ES04_HH_GTC_L1D"
NAMES = {
    "new": (NAME, NAME.replace("GTC", "GIM")),
    "GIM at the end": (NAME, f"{NAME}_GIM"),
    "with a B": (NAME.replace("GTC", "GTC_B"), NAME.replace("GTC", "GIM_B")),
    "old": (
        "KMPS5_GTC_B_ES_10_HH_RD_P_20190916093251_20190916093256_20190918030009",
        "KMPS5_GIM_B_ES_10_HH_RD_P_20190916093251_20190916093256_20190918030009",
    ),
}


def shadowed() -> np.ndarray:
    gim = np.full((96, 96), 185, np.uint8)
    gim[-20:, :20] = 255
    return gim


def deliver(folder: Path, name: str = NAME, gim: str | None = None, seed: int = 1) -> list[Path]:
    """A delivery of GeoTIFFs in `folder`; its image first, then GIM, _Aux.xml, quicklook, MD5SUM."""
    gim = gim or name.replace("GTC", "GIM")
    return write_k5_flat(folder, name, gim, lake_scene(96, 96, seed=seed), shadowed())


class TestReader:
    @pytest.mark.parametrize("kind", NAMES)
    def test_an_image_is_read_with_what_lies_beside_it_as_a_folder_is(self, tmp_path: Path, kind: str) -> None:
        name, gim = NAMES[kind]
        image, mask, aux, *_ = deliver(tmp_path, name, gim)
        assert type(find_reader(image)) is Kompsat5Flat
        assert members(image) == sorted([image, mask, aux])
        assert scene_sha256(image) == scene_sha256(tmp_path)
        with open_scene(image) as scene, open_scene(tmp_path) as folder:
            assert scene.bands[0].calibration == folder.bands[0].calibration is not None
            assert scene.format == folder.format == "KOMPSAT-5 L1D"
            assert scene.shadow is not None
            assert scene.incidence.scale == 180 / 256

    def test_two_deliveries_beside_each_other_keep_to_their_own(self, tmp_path: Path) -> None:
        other = NAME.replace("093112", "093212")
        first, second = deliver(tmp_path), deliver(tmp_path, other)
        assert members(first[0]) == sorted(first[:3])
        assert members(second[0]) == sorted(second[:3])

    def test_a_level_without_gim_does_not_take_that_of_another(self, tmp_path: Path) -> None:
        deliver(tmp_path)
        ellipsoid = deliver(tmp_path / "aside", NAME.replace("GTC_L1D", "GEC_L1C"))
        for file in (ellipsoid[0], ellipsoid[2]):
            shutil.move(file, tmp_path)
        with open_scene(tmp_path / ellipsoid[0].name) as scene:
            assert scene.incidence is None

    def test_an_image_without_its_metadata_is_a_geotiff(self, tmp_path: Path) -> None:
        image, _, aux, *_ = deliver(tmp_path)
        aux.unlink()
        assert members(image) == [image]

    @pytest.mark.parametrize(("which", "what"), [(1, "incidence-angle mask"), (2, "_Aux.xml")])
    def test_a_part_of_it_is_no_scene_and_says_what_is(self, tmp_path: Path, which: int, what: str) -> None:
        part = deliver(tmp_path)[which]
        with pytest.raises(SceneError, match=f"the {what} of a KOMPSAT-5 product.*give the image"):
            open_scene(part)

    def test_links_beside_it_are_not_followed(self, tmp_path: Path) -> None:
        image, gim, *_ = deliver(tmp_path)
        gim.unlink()
        gim.symlink_to("/etc/hostname")
        with open_scene(image) as scene:
            assert scene.incidence is None

    def test_a_link_to_the_image_is_the_product(self, tmp_path: Path) -> None:
        image, *_ = deliver(tmp_path / "archive")
        link = tmp_path / image.name
        link.symlink_to(image)
        assert scene_sha256(link) == scene_sha256(image)
        with open_scene(link) as scene:
            assert scene.incidence is not None


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    station = Station(tmp_path, products="mask,stac", companion_s="30")
    yield station
    assert not list(station.incoming.glob(".sarwater-*"))


def assert_one_shadowed_mask(station: Station, folder: Path, name: str = NAME) -> None:
    mask = station.outgoing / f"{name}_water.tif"
    assert tags_of(mask)[INPUT_TAG] == scene_sha256(folder)
    assert (read_raster(mask)[-15:, :15] == 2).all()


@pytest.mark.parametrize("kind", ["new", "old"])
def test_a_flat_delivery_gives_one_mask_and_its_leftovers_stay(station: Station, tmp_path: Path, kind: str) -> None:
    name, gim = NAMES[kind]
    deliver(tmp_path / "same", name, gim)
    deliver(station.incoming, name, gim)
    done = station.drain()
    assert done.returncode == 0, done.stderr
    assert [mask.name for mask in station.masks()] == [f"{name}_water.tif"]
    assert_one_shadowed_mask(station, tmp_path / "same", name)
    assert station.published() == [name]
    assert sorted(path.name for path in station.incoming.iterdir()) == [f"{name}_QL.png", "MD5SUM"]
    assert sorted(row.name for row in station.rows(Status.IGNORED)) == [f"{name}_QL.png", "MD5SUM"]
    assert len(list((station.state / "done" / name).iterdir())) == 3
    assert 'sarwater_scenes_total{outcome="ignored"} 2.0' in (station.state / "metrics.prom").read_text()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_whatever_the_order_in_which_the_files_arrive(tmp_path: Path, order: tuple[int, ...]) -> None:
    files = deliver(tmp_path / "same")
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    folders = {"incoming": incoming, "outgoing": tmp_path / "out", "state": tmp_path / "state"}
    box = Inbox(Config.model_validate({**folders, "settle_s": 0}))
    for number in order:
        assert not any(candidate.complete for candidate in box.candidates.values())
        shutil.copy(files[number], incoming)
        for _ in range(3):
            box.scan()
    candidate = box.candidates[f"{NAME}.tif"]
    assert candidate.complete
    assert sorted(candidate.beside) == sorted(file.name for file in files[1:3])
    assert [c.name for c in box.candidates.values() if c.kind is not Kind.IGNORED] == [f"{NAME}.tif"]


def test_the_image_waits_for_what_its_name_promises(station: Station, tmp_path: Path) -> None:
    files = deliver(tmp_path / "same")
    with station.start() as daemon:
        until(lambda: "ready:" in station.log)
        shutil.copy(files[0], station.incoming)
        time.sleep(1.5)  # three scans, seven times the settle time
        assert station.masks() == []
        for file in files[2:0:-1]:
            shutil.copy(file, station.incoming)
        until(lambda: len(station.masks()) == 1)
        assert daemon.terminate() == 0
    assert_one_shadowed_mask(station, tmp_path / "same")
    assert [row.status for row in station.rows()] == [Status.PUBLISHED]


def test_a_lone_image_is_taken_after_the_wait(station: Station) -> None:
    station.drop(f"{NAME}.tif", 1)
    done = station.drain(companion_s="0.5")
    assert done.returncode == 0, done.stderr
    assert station.published() == [f"{NAME}.tif"]


def test_a_lone_image_waits_longer_while_its_gim_is_uploaded(tmp_path: Path) -> None:
    files = deliver(tmp_path / "same")
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    folders = {"incoming": incoming, "outgoing": tmp_path / "out", "state": tmp_path / "state"}
    box = Inbox(Config.model_validate({**folders, "settle_s": 0, "companion_s": 0}))
    for file in (files[0], files[2]):
        shutil.copy(file, incoming)
    uploading = incoming / f"{files[1].name}.part"
    uploading.touch()
    for _ in range(3):
        box.scan()
    assert not box.candidates[f"{NAME}.tif"].complete
    uploading.unlink()
    box.scan()
    assert box.candidates[f"{NAME}.tif"].complete


def test_two_flat_deliveries_at_once_are_two_masks(station: Station, tmp_path: Path) -> None:
    names = (NAME, NAME.replace("093112", "093212"))
    for seed, name in enumerate(names):
        deliver(tmp_path / name, name, seed=seed)
        deliver(station.incoming, name, seed=seed)
    done = station.drain()
    assert done.returncode == 0, done.stderr
    assert station.published() == sorted(names)
    for name in names:
        assert_one_shadowed_mask(station, tmp_path / name, name)


def test_a_read_only_inbox_reads_the_files_where_they_lie(station: Station, tmp_path: Path) -> None:
    deliver(tmp_path / "same")
    deliver(station.incoming)
    for _ in range(2):
        done = station.drain(read_only_inbox="true")
        assert done.returncode == 0, done.stderr
    assert_one_shadowed_mask(station, tmp_path / "same")
    assert station.published() == [f"{NAME}.tif"]
    assert len(list(station.incoming.iterdir())) == 5


def test_quarantine_and_requeue_move_all_of_it(station: Station, tmp_path: Path) -> None:
    deliver(tmp_path / "same")
    image, *_ = deliver(station.incoming)
    content = image.read_bytes()
    image.write_bytes(content[:3000])
    assert station.drain().returncode == 1
    (kept,) = station.state.glob(f"quarantine/*/{NAME}")
    assert len(list(kept.iterdir())) == 3
    (kept / image.name).write_bytes(content)
    station.module = "runtime.commands.queue"
    subprocess.run(
        station.command("requeue", kept.parent.name), check=True, cwd=station.checkout, env=station.environment()
    )
    station.module = "runtime.commands.watch"
    assert station.drain().returncode == 0
    assert_one_shadowed_mask(station, tmp_path / "same")


def test_the_checksum_of_a_loose_file_is_held_against_it(station: Station) -> None:
    _, gim, *_ = deliver(station.incoming)
    Path(f"{gim}.sha256").write_text(f"{'0' * 64}  {gim.name}\n")
    assert station.drain().returncode == 1
    (row,) = station.rows(Status.QUARANTINED)
    assert row.reason == "checksum_mismatch"
    assert not Path(f"{gim}.sha256").exists(), "left for the next file of that name"


@pytest.mark.parametrize("read_only", ["false", "true"])
def test_headers_and_their_pixels_beside_them_are_one_scene_each(
    station: Station, tmp_path: Path, read_only: str
) -> None:
    sigma0 = lake_scene(96, 96).astype(np.float32) / 1000
    for folder in (tmp_path / "same", station.incoming):
        folder.mkdir(exist_ok=True)
        write_dimap(folder / "a.dim", {"Sigma0_VV": sigma0})
        write_envi(folder / "b.img", sigma0 * 2, names=["Sigma0_VV"])
        write_envi(folder / "c", sigma0 * 3, names=["Sigma0_VV"])
    done = station.drain(read_only_inbox=read_only)
    assert done.returncode == 0, done.stderr
    heads = {"a": "a.dim", "b": "b.hdr", "c": "c.hdr"}
    assert [mask.name for mask in station.masks()] == [f"{name}_water.tif" for name in heads]
    for name, head in heads.items():
        mask = station.outgoing / f"{name}_water.tif"
        assert tags_of(mask)[INPUT_TAG] == scene_sha256(tmp_path / "same" / head)
    if read_only == "false":
        assert station.published() == ["a", "b", "c"]
        assert list(station.incoming.iterdir()) == []
        assert sorted(path.name for path in (station.state / "done" / "a").iterdir()) == ["a.data", "a.dim"]


@pytest.mark.parametrize("read_only", ["false", "true"])
def test_the_catalogue_entry_names_a_world_file_that_stays_in_the_inbox(station: Station, read_only: str) -> None:
    write_geotiff(station.incoming / "a.tif", lake_scene(96, 96), transform=None)
    write_geotiff(station.incoming / "b.tif", lake_scene(96, 96, seed=2))
    for name in ("a.tfw", "b.tfw"):
        (station.incoming / name).write_text("10\n0\n0\n-10\n600005\n4139995\n")
    done = station.drain(read_only_inbox=read_only)
    assert done.returncode == 0, done.stderr
    assert (station.incoming / "a.tfw").is_file()
    items = {name: json.loads((station.outgoing / f"{name}_water.json").read_text()) for name in ("a", "b")}
    notes = {name: item["properties"]["sarwater:notes"] for name, item in items.items()}
    assert sum("not read, though beside it: a.tfw;" in note for note in notes["a"]) == 1
    assert not any("b.tfw" in note for note in notes["b"])


class TestGathering:
    """Every gap that a crash can leave, and what the next daemon makes of it."""

    @pytest.fixture
    def folders(self, station: Station) -> Folders:
        folders = Folders(station.incoming, station.outgoing, station.state)
        folders.prepare()
        return folders

    @pytest.mark.parametrize("moved", [1, 3])
    def test_cut_short_between_two_moves(self, station: Station, folders: Folders, tmp_path: Path, moved: int) -> None:
        deliver(tmp_path / "same")
        files = deliver(station.incoming)
        hidden = station.incoming / ".sarwater-gathering-00000001"
        hidden.mkdir()
        for file in files[:moved]:
            os.rename(file, hidden / file.name)
        assert station.drain().returncode == 0
        assert [mask.name for mask in station.masks()] == [f"{NAME}_water.tif"]
        assert_one_shadowed_mask(station, tmp_path / "same")

    @pytest.mark.parametrize("told", [False, True])
    def test_cut_short_before_or_after_the_ledger_is_told(
        self, station: Station, folders: Folders, tmp_path: Path, told: bool
    ) -> None:
        deliver(tmp_path / "same")
        files = deliver(station.incoming)
        with Ledger(station.state / FILE_NAME) as ledger:
            job = ledger.seen(f"{NAME}.tif", Status.SEEN, 0, fingerprint_of(files[0]), "scan")
            there = gather(folders.incoming, job, NAME, [file.name for file in files[:3]])
            if told:
                ledger.gathered(job, NAME, fingerprint_of(there))
        assert station.drain().returncode == 0
        assert len(station.rows(Status.PUBLISHED)) == 1
        assert_one_shadowed_mask(station, tmp_path / "same")

    def test_files_of_the_same_names_that_came_meanwhile_are_another_scene(
        self, station: Station, folders: Folders
    ) -> None:
        hidden = station.incoming / ".sarwater-gathering-00000001"
        deliver(hidden, seed=1)
        deliver(station.incoming, seed=2)
        assert station.drain().returncode == 0
        assert len(station.masks()) == 2

    def test_one_that_cannot_be_moved_leaves_all_of_it_loose(self, station: Station, folders: Folders) -> None:
        files = deliver(station.incoming)
        names = [file.name for file in files]
        with pytest.raises(FileNotFoundError):
            gather(folders.incoming, 1, NAME, [*names, "gone.tif"])
        assert sorted(path.name for path in station.incoming.iterdir()) == sorted(names)
