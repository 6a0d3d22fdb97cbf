"""What a refusal advises works: each is provoked, its advice is taken from the message, and run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click
import numpy as np
import pytest

from sarwater.cli import COMMANDS, cli
from sarwater.errors import SceneUnsafe, UsageError
from sarwater.request import Limits
from sarwater.scenes import limits
from sarwater.scenes.labels import Coding
from sarwater.scenes.verdict import refuse
from tests.support.deliveries import write_hdf5
from tests.support.models import box_model
from tests.support.product_folders import write_envi
from tests.support.rasters import lake_scene, read_raster, write_geotiff
from tests.torture.station import Station

SIZE = 96
_OPTION = re.compile(r"--(?:max-[a-z-]+|unit|scale|nodata|polarisations|labels) [^\s;),]+")
_ALTERNATIVE = re.compile(r", or with (--unit \S+)")


def amplitude() -> np.ndarray:
    return lake_scene(SIZE, SIZE)


def repeated() -> np.ndarray:
    return np.tile(amplitude()[40:48], (SIZE // 8, 1))


def decibels() -> np.ndarray:
    return (20 * np.log10(amplitude() / np.float32(400))).astype(np.float32)


def with_fill() -> np.ndarray:
    pixels = amplitude().astype(np.float32)
    pixels[40:44, 20:70] = -9999
    return pixels


def many_bands(folder: Path) -> Path:
    return write_geotiff(folder / "many.tif", np.stack([amplitude()] * 17))


def dual(folder: Path, *names: str) -> Path:
    return write_geotiff(folder / "dual.tif", np.stack([amplitude(), amplitude()]), descriptions=names)


def plain(folder: Path) -> Path:
    return write_geotiff(folder / "plain.tif", amplitude(), options=("COMPRESS=DEFLATE",))


def as_float(pixels: np.ndarray, name: str = "") -> Callable[[Path], Path]:
    return lambda folder: write_geotiff(folder / "float.tif", pixels, descriptions=(name,) if name else ())


@dataclass(frozen=True)
class Refusal:
    write: Callable[[Path], Path]
    options: tuple[str, ...] = ()
    """With which it is refused; what is advised comes after them, and wins."""
    same_as: Callable[[], np.ndarray] | None = amplitude
    """Amplitudes of which the mask has to be made; None where another scene comes out."""
    model_unit: str = "amplitude_dn"


REFUSALS = {
    "pixels": Refusal(plain, ("--max-pixels", "1000")),
    "pixels of an HDF5 file": Refusal(
        lambda folder: write_hdf5(folder / "a.h5", "L1D", amplitude()), ("--max-pixels", "1000")
    ),
    "bytes of a file": Refusal(plain, ("--max-input-bytes", "1000")),
    "bytes of a block": Refusal(plain, ("--max-block-bytes", "1000")),
    "columns": Refusal(plain, ("--max-width-px", "10")),
    "fill that is not declared": Refusal(as_float(with_fill(), "Amplitude_VV"), same_as=None),
    "expansion": Refusal(
        lambda folder: write_geotiff(folder / "rows.tif", repeated(), options=("COMPRESS=DEFLATE",)),
        ("--max-expansion", "1"),
        repeated,
    ),
    "bands, then which of them": Refusal(many_bands),
    "bands, raised in vain": Refusal(many_bands, ("--max-bands", "3")),
    "two bands without names": Refusal(dual),
    "a polarisation that is not there": Refusal(lambda folder: dual(folder, "VV", "VH"), ("--polarisations", "hh")),
    "a band that is not there": Refusal(dual, ("--polarisations", "3")),
    "decibels": Refusal(as_float(decibels())),
    "decibels times 100": Refusal(as_float(np.round(decibels() * 100).astype(np.int16)), same_as=None),
    "linear": Refusal(as_float((amplitude() / np.float32(400)) ** 2)),
    "decibels called linear": Refusal(as_float(decibels(), "Sigma0_VV")),
    "linear called decibels": Refusal(as_float((amplitude() / np.float32(400)) ** 2, "Sigma0_VV_db")),
    "decibels times 100 called decibels": Refusal(
        as_float(np.round(decibels() * 100).astype(np.int16), "Sigma0_VV_db"), same_as=None
    ),
    "amplitude called backscatter": Refusal(as_float(amplitude().astype(np.float32), "Sigma0_VV")),
    "floats for a model of sigma0": Refusal(as_float(decibels()), same_as=None, model_unit="sigma0_db"),
}


def predict(scene: Path, out: Path, model: Path, *options: str) -> int:
    return cli(["predict", str(scene), "-o", str(out), "--products", "mask", "--model", str(model), *options])


@pytest.mark.parametrize("kind", REFUSALS)
def test_the_option_that_a_refusal_names_is_accepted_and_helps(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SMALL_BYTES", 0)
    refusal = REFUSALS[kind]
    scene = refusal.write(tmp_path)
    model = box_model(tmp_path / "box.onnx", unit=refusal.model_unit).path
    options = list(refusal.options)
    for _ in range(3):
        code = predict(scene, tmp_path / "out", model, *options)
        said = capsys.readouterr().err
        if code == 0:
            break
        assert code == 1, said
        advised = _OPTION.findall(_ALTERNATIVE.sub("", said))
        assert advised, said
        options += [word for option in advised for word in option.split()]
    assert code == 0, said
    assert len(options) > len(refusal.options), "it was not refused"
    if refusal.same_as is not None:
        expected = write_geotiff(tmp_path / "expected.tif", refusal.same_as())
        assert predict(expected, tmp_path / "expected", model) == 0
        masks = (tmp_path / "out" / f"{scene.stem}_water.tif", tmp_path / "expected" / "expected_water.tif")
        ours, theirs = map(read_raster, masks)
        assert np.mean(ours == theirs) > 0.99


def test_the_alternative_for_roots_of_backscatter_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_geotiff(tmp_path / "root.tif", amplitude() / np.float32(400))
    model = box_model(tmp_path / "box.onnx").path
    assert predict(scene, tmp_path / "out", model) == 1
    option = _ALTERNATIVE.findall(capsys.readouterr().err)[0]
    assert predict(scene, tmp_path / "out", model, *option.split()) == 0


def test_a_constant_of_what_is_no_dn_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, model = as_float(decibels(), "Sigma0_VV_db")(tmp_path), box_model(tmp_path / "box.onnx").path
    assert predict(scene, tmp_path / "out", model, "--calibration-constant-db", "-83") == 2
    assert "leave --calibration-constant-db" in capsys.readouterr().err
    assert predict(scene, tmp_path / "out", model) == 0


def translated(command: str, source: Path, to: Path) -> Path:
    """`gdal_translate -b 1 IN OUT.tif`, with GDAL's library: the program need not be there."""
    band = shlex.split(command)[2]
    translate = "gdal.Translate(*sys.argv[1:3], bandList=[int(sys.argv[3])])"
    code = f"import sys; from osgeo import gdal; gdal.UseExceptions(); {translate}"
    subprocess.run([sys.executable, "-c", code, str(to), str(source), band], check=True)
    return to


def test_the_bands_can_be_taken_out_as_advised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, model = many_bands(tmp_path), box_model(tmp_path / "box.onnx").path
    assert predict(scene, tmp_path / "out", model) == 1
    command = re.findall(r"gdal_translate -b \d+ IN\.tif OUT\.tif", capsys.readouterr().err)[0]
    assert predict(translated(command, scene, tmp_path / "one.tif"), tmp_path / "out", model) == 0


def test_the_scenes_in_a_folder_can_be_named_as_advised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, model = tmp_path / "two words", box_model(tmp_path / "box.onnx").path
    folder.mkdir()
    for name in ("a.tif", "b.tif"):
        write_geotiff(folder / name, amplitude())
    assert predict(folder, tmp_path / "out", model) == 1
    pattern = re.findall(r"give them one by one: (.+)$", capsys.readouterr().err, re.MULTILINE)[0]
    paths = subprocess.run(["sh", "-c", f"printf '%s\\n' {pattern}"], capture_output=True, text=True, check=True)
    scenes = paths.stdout.splitlines()
    assert cli(["predict", *scenes, "-o", str(tmp_path / "out"), "--products", "mask", "--model", str(model)]) == 0
    assert len(list((tmp_path / "out").glob("*_water.tif"))) == 2


def test_a_scene_that_is_called_as_a_layer_can_be_renamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = tmp_path / "S1A_IW_20240726T091530_DVP_RTC10_G_gpuned_1234_ls_map.tif"
    scene, model = write_geotiff(layer, amplitude()), box_model(tmp_path / "box.onnx").path
    assert predict(scene, tmp_path / "out", model) == 1
    assert "has to be renamed" in capsys.readouterr().err
    assert predict(scene.rename(tmp_path / "scene.tif"), tmp_path / "out", model) == 0


@pytest.mark.parametrize("option", ["--off-level note", "--level usual"])
def test_a_scene_off_level_is_worked_off_as_advised(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bright = write_geotiff(tmp_path / "bright.tif", (amplitude() * 64.0).clip(0, 65535).astype(np.uint16))
    model = box_model(tmp_path / "box.onnx").path
    assert predict(bright, tmp_path / "out", model, "--off-level", "refuse") == 1
    assert option in capsys.readouterr().err
    assert predict(bright, tmp_path / "out", model, "--off-level", "refuse", *option.split()) == 0


@pytest.mark.parametrize(("answer", "option"), [({"memory": True}, "max_open_bytes"), ({"signal": 24}, "max_open_s")])
def test_the_budget_of_opening_is_raised_as_advised(answer: dict[str, object], option: str) -> None:
    with pytest.raises(SceneUnsafe) as refused:
        refuse(answer, "a.tif", Limits(), "opened")
    flag, value = _OPTION.findall(str(refused.value))[0].split()
    assert flag == "--" + option.replace("_", "-")
    assert getattr(Limits(**{option: value}), option) > getattr(Limits(), option)


def packed(folder: Path, kind: str) -> Path:
    """A scene in an archive that is not unpacked here."""
    scene = write_geotiff(folder / "scene.tif", amplitude())
    if kind == "tar.bz2":
        return Path(shutil.make_archive(str(folder / "packed"), "bztar", folder, scene.name))
    inner = Path(shutil.make_archive(str(folder / "inner"), "zip", folder, scene.name))
    return Path(shutil.make_archive(str(folder / "packed"), "zip", folder, inner.name))


@pytest.mark.parametrize("kind", ["tar.bz2", "zip in a zip"])
def test_what_is_packed_in_another_way_can_be_unpacked_as_advised(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, model = packed(tmp_path, kind), box_model(tmp_path / "box.onnx").path
    assert predict(archive, tmp_path / "out", model) == 1
    assert "unpack it and give" in capsys.readouterr().err
    shutil.unpack_archive(archive, tmp_path / "unpacked")
    (product,) = (tmp_path / "unpacked").iterdir()
    assert predict(product, tmp_path / "out", model) == 0


def test_scenes_of_one_polarisation_in_a_folder_of_pairs_can_be_given_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = tmp_path / "two words", box_model(tmp_path / "box.onnx").path
    folder.mkdir()
    for day in ("20240716", "20240728"):
        write_envi(folder / f"Amplitude_VV_{day}.img", amplitude())
    assert predict(folder, tmp_path / "out", model) == 1
    pattern = re.findall(r"one by one: (.+)$", capsys.readouterr().err, re.MULTILINE)[0]
    paths = subprocess.run(["sh", "-c", f"printf '%s\\n' {pattern}"], capture_output=True, text=True, check=True)
    for path in paths.stdout.splitlines():
        assert predict(Path(path), tmp_path / "out", model) == 0
    assert len(list((tmp_path / "out").glob("*_water.tif"))) == 2


def test_an_hdf5_file_with_a_quote_in_its_name_can_be_renamed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, model = write_hdf5(tmp_path / 'a"b.h5', "L1D", amplitude()), box_model(tmp_path / "box.onnx").path
    assert predict(scene, tmp_path / "out", model) == 1
    assert "rename it" in capsys.readouterr().err
    assert predict(scene.rename(tmp_path / "ab.h5"), tmp_path / "out", model) == 0


class TestLabels:
    def data(self, folder: Path, label: np.ndarray) -> Path:
        for name in ("img", "mask"):
            (folder / name).mkdir()
        write_geotiff(folder / "img" / "a.tif", amplitude())
        write_geotiff(folder / "mask" / "a_label.tif", label)
        return folder

    def iou(self, folder: Path, model: Path, *options: str) -> float:
        report = folder / "scores.json"
        assert cli(["evaluate", str(folder), "--model", str(model), "--json", str(report), *options]) == 0
        return float(json.loads(report.read_text())["pooled_iou"])

    def test_values_can_be_said_as_advised(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        model, water = box_model(tmp_path / "box.onnx").path, amplitude() < 60
        for name in ("coded", "plain"):
            (tmp_path / name).mkdir()
        coded = self.data(tmp_path / "coded", np.where(water, 2, 1).astype(np.uint8))
        assert cli(["evaluate", str(coded), "--model", str(model)]) == 1
        advice = re.findall(r"--labels [\w=,]+", capsys.readouterr().err)[-1]
        values = iter("123")
        option, coding = re.sub("VALUE", lambda _: next(values), advice).split()
        assert coding == "land=1,water=2,ignore=3"
        plain_data = self.data(tmp_path / "plain", np.where(water, 255, 0).astype(np.uint8))
        assert self.iou(coded, model, option, coding) == self.iou(plain_data, model)

    @pytest.mark.parametrize("coding", ["land=0,sea=1", "land=zero,water=1"])
    def test_the_coding_that_is_given_as_an_example_is_understood(self, coding: str) -> None:
        with pytest.raises(UsageError) as refused:
            Coding.parse(coding)
        assert Coding.parse(str(refused.value).partition("labels, as ")[2]) == Coding.parse("land=0,water=1,ignore=255")

    def test_a_band_of_a_picture_can_be_taken_out(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        model = box_model(tmp_path / "box.onnx").path
        water = np.where(amplitude() < 60, 255, 0).astype(np.uint8)
        flat = np.zeros_like(water)
        data = self.data(tmp_path, np.stack([flat, flat, water, flat + 255]))
        assert cli(["evaluate", str(data), "--model", str(model)]) == 1
        command = re.findall(r"gdal_translate -b \d+ IN OUT\.tif", capsys.readouterr().err)[0]
        label = data / "mask" / "a_label.tif"
        translated(command, label, tmp_path / "one.tif").replace(label)
        assert self.iou(data, model) > 0

    def test_the_limits_of_scenes_are_those_of_labels(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        model = box_model(tmp_path / "box.onnx").path
        data = self.data(tmp_path, np.where(amplitude() < 60, 255, 0).astype(np.uint8))
        assert cli(["evaluate", str(data), "--model", str(model), "--max-pixels", "1000"]) == 1
        said = capsys.readouterr().err
        assert "a_label.tif" in said
        assert self.iou(data, model, *_OPTION.findall(said)[0].split()) > 0


def _params(name: str) -> set[str]:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command: click.Command = getattr(import_module(module), attribute)
    return {parameter.name or "" for parameter in command.params}


@pytest.mark.parametrize(
    "name", ["predict", "watch", "evaluate", "fit", "finetune", "export", "build-engine", "verify"]
)
def test_every_command_that_opens_scenes_has_the_options_that_lift_their_limits(name: str) -> None:
    assert set(Limits.model_fields) <= _params(name)


@pytest.mark.parametrize("option", ["max_pixels", "max_input_bytes", "max_block_bytes"])
def test_the_setting_that_the_daemon_names_lifts_the_limit(tmp_path: Path, option: str) -> None:
    station = Station(tmp_path)
    content = station.drop("s.tif", 1).read_bytes()
    assert station.drain(**{option: "1000"}).returncode == 1
    (reason,) = station.state.glob("quarantine/*/reason.json")
    said = json.loads(reason.read_text())["message"]
    setting = re.findall(r"in settings: `(\w+)`", said)[0]
    value = re.findall(r"--max-[a-z-]+ (\d+)", said)[0]
    station.drop("again.tif", content)
    assert station.drain(**{setting: value}).returncode == 0
    assert station.published() == ["again.tif"]
