from __future__ import annotations

import os
from pathlib import Path

import pytest

from sarwater.errors import ModelNotFound
from sarwater.manifest import manifest_path, sha256_of
from sarwater.models import find_model, open_model, shipped_model
from tests.sarwater.test_manifest import manifest


def export(folder: Path, name: str, family: str, variant: str, age_s: int) -> Path:
    path = folder / name
    path.write_bytes(name.encode())
    manifest_path(path).write_text(manifest(family=family, variant=variant, files={name: sha256_of(path)}).to_json())
    os.utime(path, (1e9 - age_s, 1e9 - age_s))
    return path


def test_a_family_means_its_newest_exported_model(tmp_path: Path) -> None:
    export(tmp_path, "old.onnx", "unet", "w64", age_s=100)
    newest = export(tmp_path, "new.onnx", "unet", "w16", age_s=1)
    assert find_model("unet", tmp_path).path == newest
    assert find_model("unet-w64", tmp_path).path == tmp_path / "old.onnx"


def test_hrnet_without_any_export_is_the_model_that_ships(tmp_path: Path) -> None:
    assert find_model("hrnet", tmp_path) == shipped_model()
    shipped = shipped_model()
    assert shipped.manifest.verify(shipped.path)
    fast = shipped_model("int8")
    assert fast.manifest.verify(fast.path)
    assert shipped.path.stat().st_size + fast.path.stat().st_size < 10_000_000


def test_a_name_that_ends_in_int8_means_that_precision(tmp_path: Path) -> None:
    assert find_model("hrnet-int8", tmp_path) == find_model("hrnet-w18-small-int8", tmp_path) == shipped_model("int8")
    with pytest.raises(ModelNotFound, match="unet-int8: no model of that name"):
        find_model("unet-int8", tmp_path)


def test_the_int8_model_that_ships_is_that_of_the_fp32_one() -> None:
    fast, master = (shipped_model(precision).manifest for precision in ("int8", "fp32"))
    for part in ("training", "threshold", "channels", "tile_px", "overlap_px"):
        assert getattr(fast, part) == getattr(master, part)
    assert fast.precision == "int8"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("segnet", "expected a file or one of: fcn, unet, deepunet, hrnet"),
        ("fcn", "sarwater fit fcn"),
        ("no/such.onnx", "no such model file"),
    ],
)
def test_an_unknown_model_says_what_there_is(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ModelNotFound, match=message):
        find_model(name, tmp_path)


def test_a_file_of_someone_else_among_the_engines_does_not_disturb(tmp_path: Path) -> None:
    (tmp_path / "stray.onnx").write_bytes(b"")
    expected = export(tmp_path, "unet.onnx", "unet", "w16", age_s=0)
    assert find_model("unet", tmp_path) == open_model(expected)


def test_the_newest_checkpoint_of_a_family_is_found(tmp_path: Path) -> None:
    for name, age_s in (("hrnet-w48/a", 50), ("hrnet-w18-small/b", 10), ("unet-w16/c", 1)):
        path = tmp_path / name / "best.pt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1e9 - age_s, 1e9 - age_s))
    assert newest_checkpoint("hrnet", tmp_path) == tmp_path / "hrnet-w18-small/b/best.pt"
    assert newest_checkpoint("hrnet-w48", tmp_path) == tmp_path / "hrnet-w48/a/best.pt"
    assert newest_checkpoint("fcn", tmp_path) is None
