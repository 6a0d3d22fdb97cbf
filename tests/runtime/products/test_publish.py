from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from runtime.backends.fake import FakeBackend
from runtime.pipeline import process_scene
from runtime.products.publish import (
    StagedProducts,
    discard,
    drop_leftovers,
    is_published,
    make_staging_folder,
    mask_key_of,
    publish,
)
from sarwater.atomic import name_once
from sarwater.errors import OutputError
from sarwater.request import Request
from tests.support.rasters import lake_scene, write_geotiff


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_geotiff(tmp_path / "a.tif", lake_scene(64, 64))


def stage(scene: Path, out: Path, **options: object) -> StagedProducts:
    return process_scene(scene, FakeBackend(), out, Request(products=("mask", "stac"), **options))  # type: ignore[arg-type]


def visible(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_a_mask_of_the_same_key_is_adopted(scene: Path, out: Path) -> None:
    assert publish(stage(scene, out)) == "published"
    inode = (out / "a_water.tif").stat().st_ino
    assert publish(stage(scene, out)) == "adopted"
    assert (out / "a_water.tif").stat().st_ino == inode
    assert visible(out) == ["a_water.json", "a_water.tif"]


def test_a_mask_of_another_key_is_kept_unless_overwritten(scene: Path, out: Path) -> None:
    publish(stage(scene, out))
    other = stage(scene, out, threshold=0.9)
    with pytest.raises(OutputError, match="--overwrite"):
        publish(other)
    assert mask_key_of(out / "a_water.tif") != other.mask_key
    assert publish(other, overwrite=True) == "published"
    assert mask_key_of(out / "a_water.tif") == other.mask_key
    assert visible(out) == ["a_water.json", "a_water.tif"]


def test_a_foreign_file_of_the_masks_name_is_never_clobbered(scene: Path, out: Path) -> None:
    out.mkdir()
    (out / "a_water.tif").write_text("mine")
    staged = stage(scene, out)
    with pytest.raises(OutputError):
        publish(staged)
    assert (out / "a_water.tif").read_text() == "mine"


def test_a_file_system_without_hard_links_gets_a_rename_that_clobbers_nothing(
    scene: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first, second = stage(scene, out), stage(scene, out)
    assert publish(first) == "published"
    assert publish(second) == "adopted"
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(FileExistsError):
        name_once(scene, first.paths[-1])


def test_sidecars_of_an_unfinished_commit_are_replaced(scene: Path, out: Path) -> None:
    out.mkdir()
    (out / "a_water.json").write_text("left by a crash")
    publish(stage(scene, out))
    assert (out / "a_water.json").read_text().startswith("{")


def test_the_mask_appears_last(scene: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = stage(scene, out)

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OutputError, match="Input/output"):
        publish(staged)
    assert (out / "a_water.json").exists()
    assert not (out / "a_water.tif").exists()
    monkeypatch.undo()
    discard(staged)
    assert visible(out) == ["a_water.json"]


def test_leftovers_of_dead_processes_are_dropped_and_nothing_else(scene: Path, out: Path) -> None:
    publish(stage(scene, out))
    dead, alive = stage(scene, out), stage(scene, out, threshold=0.9)
    assert dead.owner is not None
    dead.owner.close()  # as the kernel does
    (out / ".of-an-earlier-version.tmp").mkdir()
    (out / ".profile").write_text("not ours")
    assert drop_leftovers(out, sole=True) == 2
    assert visible(out) == sorted([Path(alive.folder).name, ".profile", "a_water.json", "a_water.tif"])
    publish(alive, overwrite=True)
    assert visible(out) == [".profile", "a_water.json", "a_water.tif"]


def test_a_staging_folder_that_a_starting_daemon_takes_for_a_leftover_is_made_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.mkdir()
    make, made = tempfile.mkdtemp, []

    def taken_at_once(**where: object) -> str:
        made.append(make(**where))  # type: ignore[call-overload]
        if len(made) == 1:
            assert drop_leftovers(out, sole=True) == 1
        return made[-1]  # type: ignore[no-any-return]

    monkeypatch.setattr(tempfile, "mkdtemp", taken_at_once)
    folder, owner = make_staging_folder(out, "a")
    with owner:
        assert [str(folder)] == made[1:]
        assert drop_leftovers(out, sole=True) == 0


def test_a_folder_or_a_pipe_is_no_mask_and_nobody_waits_for_it(out: Path) -> None:
    (out / "a_water.tif").mkdir(parents=True)
    os.mkfifo(out / "b_water.tif")
    assert mask_key_of(out / "a_water.tif") is None
    assert mask_key_of(out / "b_water.tif") is None


def test_a_file_that_is_no_mask_has_no_key(scene: Path, tmp_path: Path) -> None:
    assert mask_key_of(scene) is None
    assert mask_key_of(tmp_path / "absent.tif") is None
    assert is_published(tmp_path / "absent.tif", "key") is False
