from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sarwater.errors import ModelNotFound, ModelUnknown, UsageError
from sarwater.families import FAMILIES, model_name
from sarwater.manifest import manifest_path, sha256_of
from sarwater.models import checkpoint_path, find_model, shipped_model, shipped_models
from tests.sarwater.test_manifest import manifest


def export(folder: Path, name: str, family: str, variant: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode())
    described = manifest(family=family, variant=variant, files={path.name: sha256_of(path)})
    manifest_path(path).write_text(described.to_json())
    return path


@pytest.mark.parametrize("name", ["hrnet", "hrnet-w18-small"])
def test_a_name_is_the_model_that_ships_in_every_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in (
        "engines/hrnet-w18-small.onnx",
        "engines/hrnet-w18-small-fp32-1024.onnx",
        "hrnet.onnx",
        "hrnet/a.onnx",
    ):
        export(tmp_path, file, "hrnet", "w18-small")
    found = find_model(name)
    assert found == shipped_model()
    assert found.manifest.verify(found.path)
    assert tmp_path not in found.path.parents


def test_what_somebody_made_is_named_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = export(tmp_path, "engines/unet.onnx", "unet", "w16")
    assert find_model("engines/unet.onnx").path.samefile(path)
    assert find_model(path).title.startswith(f"unet-w16, fp32, sha256 {sha256_of(path)[:12]}")


@pytest.mark.parametrize(
    "name",
    [
        model_name(family.name, variant)
        for family in FAMILIES.values()
        for variant in family.variants
        if variant not in (family.ships, "")  # the family's name is answered by what ships of it
    ]
    + [family.name for family in FAMILIES.values() if family.ships is None],
)
def test_what_does_not_ship_says_what_does_and_how_to_train_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export(tmp_path, "engines/x.onnx", name.split("-")[0], name.partition("-")[2])
    with pytest.raises(ModelNotFound, match=rf"{name}: .*hrnet-w18-small.*sarwater fit {name}") as caught:
        find_model(name)
    assert caught.value.exit_code == 2


def test_a_name_that_ends_in_a_precision_means_that_precision() -> None:
    assert find_model("hrnet-int8") == find_model("hrnet-w18-small-int8") == shipped_model("int8")
    assert [(model.manifest.family, model.manifest.precision) for model in shipped_models()] == [
        (family, precision) for family in FAMILIES for precision in ("fp32", "int8")
    ]
    with pytest.raises(ModelNotFound, match="unet-w64: no model of that name ships"):
        find_model("unet-w64-int8")
    with pytest.raises(ModelNotFound, match=r"does not ship in fp16.*sarwater export hrnet --precision fp16"):
        find_model("hrnet-fp16")


def test_the_models_that_ship_are_small() -> None:
    assert max(model.path.stat().st_size for model in shipped_models()) <= 10_000_000


@pytest.mark.parametrize("family", FAMILIES)
def test_the_int8_model_that_ships_is_that_of_the_fp32_one(family: str) -> None:
    fast, master = (shipped_model(precision, family).manifest for precision in ("int8", "fp32"))
    for part in ("training", "threshold", "channels", "tile_px", "overlap_px"):
        assert getattr(fast, part) == getattr(master, part)
    assert fast.precision == "int8"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("segnet", "one of: fcn, unet, deepunet, hrnet"),
        ("hrent", "did you mean 'hrnet'"),
        ("HRNet", "did you mean 'hrnet'"),
        ("hrnet-w17", "expected one of: hrnet-w48, hrnet-w32, hrnet-w18, hrnet-w18-small"),
        ("", "unknown model"),
    ],
)
def test_an_unknown_name_says_what_there_is(name: str, message: str) -> None:
    with pytest.raises(ModelUnknown, match=message) as caught:
        find_model(name)
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model file"):
        find_model("no/such.onnx")
    with pytest.raises(ModelNotFound, match="no such checkpoint"):
        checkpoint_path(tmp_path)


def test_a_run_or_a_checkpoint_is_exported_before_it_is_run(tmp_path: Path) -> None:
    (tmp_path / "best.pt").touch()
    for path in (tmp_path, tmp_path / "best.pt"):
        with pytest.raises(ModelNotFound, match="sarwater export"):
            find_model(path)
    assert checkpoint_path(tmp_path) == checkpoint_path(tmp_path / "best.pt") == tmp_path / "best.pt"


def test_a_wheel_brings_its_models_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "sarwater"
    (package / "shipped").mkdir(parents=True)
    for file in (shipped_model().path, manifest_path(shipped_model().path)):
        shutil.copy(file, package / "shipped")
    monkeypatch.setattr("sarwater.models.__file__", str(package / "models.py"))
    assert find_model("hrnet").path.parent == package / "shipped"
