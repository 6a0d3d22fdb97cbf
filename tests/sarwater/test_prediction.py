"""The front door for Python: what comes back, from a path and from an array, and what it costs to import."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal
from PIL import Image

import runtime.kept_rows
import sarwater
from runtime.commands.predict import main
from runtime.products import PRODUCTS
from sarwater.errors import ModelNotFound, OutputError, SceneEmpty, SceneMissing, SettingInvalid, UsageError
from sarwater.manifest import Channel
from sarwater.models import Model
from tests.conftest import CHECKOUT
from tests.support.deliveries import write_k5_folder
from tests.support.models import box_model
from tests.support.rasters import TRANSFORM, lake_scene, read_raster, wkt, write_geotiff

PLACE = (TRANSFORM, 32652)


@pytest.fixture(scope="module")
def opened(model: Model) -> Iterator[sarwater.OpenModel]:
    with sarwater.open_model(model) as found:
        yield found


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_geotiff(tmp_path / "K5_20240726091530_HH.tif", lake_scene(200, 250))


def test_importing_the_front_door_imports_nothing_heavy() -> None:
    code = (
        "import sys, sarwater; sarwater.__version__, dir(sarwater); "
        "print([name for name in ('numpy', 'osgeo', 'openvino', 'pydantic', 'runtime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_name_of_the_front_door_is_there() -> None:
    assert all(getattr(sarwater, name) is not None for name in sarwater.__all__)
    assert set(sarwater.__all__) <= set(dir(sarwater))
    with pytest.raises(AttributeError, match="predikt"):
        sarwater.predikt  # noqa: B018


def test_a_type_checker_sees_the_signatures(tmp_path: Path) -> None:
    used = tmp_path / "used.py"
    used.write_text(
        "import sarwater\n"
        "result = sarwater.predict('a.tif', threshold=0.4)\n"
        "reveal_type(result)\n"
        "reveal_type(sarwater.open_scene('a.tif'))\n"
        "sarwater.predict('a.tif', threshold='high')\n"
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", f"--cache-dir={tmp_path}", str(used)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=280).stdout
    assert 'Revealed type is "sarwater.prediction.Prediction"' in found
    assert 'Revealed type is "sarwater.scenes.scene.Scene"' in found
    assert "used.py:5: error" in found


def test_a_path_gives_the_very_files_of_the_command(
    tmp_path: Path, scene: Path, model: Model, opened: sarwater.OpenModel
) -> None:
    result = opened.predict(scene, threshold=0.4, sieve_px=20)
    files = result.write(tmp_path / "python")
    command = ["--threshold", "0.4", "--sieve", "20", "--model", str(model.path)]
    assert main([str(scene), "-o", str(tmp_path / "shell"), *command]) == 0
    assert sorted(files) == sorted(product.name for product in PRODUCTS)
    listed = [sorted(file.name for file in (tmp_path / name).iterdir()) for name in ("shell", "python")]
    assert listed[0] == listed[1] == sorted(["collection.json", *(file.name for file in files.values())])
    for name in ("mask", "confidence", "quicklook"):
        assert files[name].read_bytes() == (tmp_path / "shell" / files[name].name).read_bytes(), name
    assert result.write(tmp_path / "shell")["mask"].exists(), "the same key: what is there is adopted"


def test_what_comes_back_is_what_is_written(tmp_path: Path, scene: Path, opened: sarwater.OpenModel) -> None:
    result = opened.predict(str(scene))
    files = result.write(tmp_path / "out")
    assert result.mask.dtype == result.confidence.dtype == np.uint8
    assert np.array_equal(result.mask, read_raster(files["mask"]))
    assert np.array_equal(result.confidence, read_raster(files["confidence"]))
    assert result.georeference.geotransform == TRANSFORM
    assert len(result.polygons) == gdal.OpenEx(str(files["polygons"])).GetLayer("water").GetFeatureCount()
    assert np.array_equal(np.asarray(result.plot()), np.asarray(Image.open(files["quicklook"])))
    item = json.loads(files["stac"].read_text())
    assert item["properties"]["datetime"] == "2024-07-26T09:15:30Z"
    with pytest.raises(ValueError, match="read-only"):
        result.mask[0, 0] = 1


def test_the_record_says_what_was_run_and_found(scene: Path, model: Model, opened: sarwater.OpenModel) -> None:
    result = opened.predict(scene)
    record = result.record
    assert (record.model, record.precision) == (model.manifest.name, "fp32")
    assert record.engine_sha256 == opened.sha256 == model.manifest.files[model.path.name]
    assert record.water_px == np.count_nonzero(result.mask == 1)
    assert record.land_px == np.count_nonzero(result.mask == 0)
    assert record.water_km2 == pytest.approx(np.count_nonzero(result.mask == 1) * 1.25**2 / 1e6, rel=1e-3)
    assert record.total_s
    assert record.total_s > 0
    assert f"{record.water_km2:.4g} km2" in repr(result)


def test_polygons_are_features_with_areas_in_the_scenes_crs(opened: sarwater.OpenModel) -> None:
    pixels = np.full((100, 120), 120, np.uint16)
    pixels[40:60, 30:70] = 5
    body = max(opened.predict(pixels, georeference=PLACE).polygons, key=lambda body: body["properties"]["pixels"])
    assert body["type"] == "Feature"
    assert body["properties"]["area_m2"] == pytest.approx(body["properties"]["pixels"] * 1.25**2, rel=1e-3)
    x, y = np.array(body["geometry"]["coordinates"][0]).T
    assert x.mean() == pytest.approx(TRANSFORM[0] + 50 * 1.25, abs=10)
    assert y.mean() == pytest.approx(TRANSFORM[3] - 50 * 1.25, abs=10)
    assert all(body["properties"]["area_m2"] is None for body in opened.predict(pixels).polygons)


def test_polygons_keep_to_the_request(opened: sarwater.OpenModel) -> None:
    pixels = lake_scene(150, 150)
    assert opened.predict(pixels, georeference=PLACE, minimum_area_m2=1e9).polygons == []


def test_a_longitude_comes_before_its_latitude(opened: sarwater.OpenModel) -> None:
    place = ((127.0, 1e-4, 0, 36.0, 0, -1e-4), "EPSG:4326")
    body, *_ = opened.predict(lake_scene(100, 100), georeference=place).polygons
    x, y = np.array(body["geometry"]["coordinates"][0]).T
    assert (x.round().max(), y.round().max()) == (127, 36)


class TestArrays:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64, ">u2"])
    def test_an_array_answers_as_the_file_of_the_same_pixels(
        self, tmp_path: Path, opened: sarwater.OpenModel, dtype: type
    ) -> None:
        pixels = lake_scene(150, 170).clip(1, 250)
        file = write_geotiff(tmp_path / "a.tif", pixels)
        result = opened.predict(pixels.astype(dtype), georeference=PLACE)
        assert np.array_equal(result.mask, opened.predict(file).mask)
        assert result.georeference.epsg == 32652

    def test_nodata_is_as_in_a_file(self, opened: sarwater.OpenModel) -> None:
        pixels = lake_scene(80, 90)
        pixels[:, :20] = 0
        assert np.array_equal(opened.predict(pixels).mask == 255, pixels == 0)
        pixels[:, :20] = 7
        assert np.array_equal(opened.predict(pixels, nodata=7).mask == 255, pixels == 7)
        floats = np.where(pixels == 7, np.nan, pixels).astype(np.float32)
        assert np.array_equal(opened.predict(floats).mask == 255, np.isnan(floats))
        masked = np.ma.MaskedArray(pixels, pixels == 7)
        assert np.array_equal(opened.predict(masked).mask == 255, masked.mask)

    def test_a_unit_is_stated_as_for_a_file(self, opened: sarwater.OpenModel) -> None:
        pixels = lake_scene(80, 90).astype(np.float32)
        decibels = 20 * np.log10(pixels / 400)
        with pytest.raises(sarwater.errors.UnitMismatch, match="--unit"):
            opened.predict(decibels)
        found = opened.predict(decibels, unit="sigma0_db")
        assert np.array_equal(found.mask, opened.predict(pixels).mask)
        assert "sigma0_db was converted" in " ".join(found.record.notes)

    def test_complex_numbers_are_amplitudes(self, opened: sarwater.OpenModel) -> None:
        pixels = lake_scene(80, 90)
        assert np.array_equal(opened.predict(pixels * np.complex64(1j)).mask, opened.predict(pixels).mask)

    def test_planes_are_named_by_channels(self, tmp_path: Path) -> None:
        model = box_model(tmp_path / "dual.onnx", channels=("vv", "vh"))
        vv, vh = lake_scene(90, 90), lake_scene(90, 90, seed=1)
        with sarwater.open_model(model) as opened:
            first = opened.predict(np.stack([vv, vh]), channels=("vv", "vh"))
            turned = opened.predict(np.stack([vh, vv]), channels="VH,VV")
            with pytest.raises(sarwater.errors.ChannelMissing, match="vv"):
                opened.predict(np.stack([vv, vh]))
        assert np.array_equal(first.mask, turned.mask)

    def test_an_incidence_angle_mask_is_a_plane(self, tmp_path: Path) -> None:
        model = box_model(tmp_path / "gim.onnx", channels=("sar",))
        manifest = replace(model.manifest, channels=(Channel("sar", "amplitude_dn"),))
        pixels = lake_scene(90, 90)
        gim = np.full_like(pixels, 190)
        with sarwater.open_model(replace(model, manifest=manifest)) as opened:
            found = opened.predict(np.stack([pixels, gim]), channels=("hh", "gim"))
            assert np.array_equal(found.mask, opened.predict(pixels).mask)

    def test_a_coarse_georeference_upsamples(self, tmp_path: Path, model: Model) -> None:
        path = shutil.copy(model.path, tmp_path / "box.onnx")
        manifest = replace(model.manifest, coarsest_m=1.25)
        coarse = ((300000.0, 2.5, 0.0, 4100000.0, 0.0, -2.5), 32652)
        with sarwater.open_model(Model(Path(path), manifest)) as opened:
            pixels = lake_scene(60, 60)
            assert opened.predict(pixels, georeference=coarse).record.upsampling_factor == 2
            assert opened.predict(pixels, georeference=PLACE).record.upsampling_factor == 1

    def test_whatever_is_sliced_alike_is_read_in_strips(self, opened: sarwater.OpenModel) -> None:
        pixels = lake_scene(500, 100)

        class Sliced:
            shape, dtype = pixels.shape, pixels.dtype
            rows: list[int] = []  # noqa: RUF012

            def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
                self.rows.append(key[0].stop - key[0].start)
                return pixels[key]

        sliced = Sliced()
        found = opened.predict(sliced)
        assert np.array_equal(found.mask, opened.predict(pixels).mask)

    def test_memory_does_not_grow_with_the_array(self, tmp_path: Path, model: Model) -> None:
        """A memory map of 512 MB, of which 256 MB may be held beside what is mapped."""
        code = f"""
import resource, numpy as np, sarwater
from pathlib import Path
array = np.lib.format.open_memmap({str(tmp_path / "a.npy")!r}, "w+", np.uint16, (16384, 16384))
with sarwater.open_model({str(model.path)!r}, "fake") as model:
    model.predict(np.ones((64, 64), np.uint16))
    def held(): return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024
    before, most = held(), 0
    def look(done, total):
        global most
        most = max(most, held() - before)
    result = model.predict(array, progress=look)
print(most >> 20, type(result.mask).__name__)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, timeout=280)
        assert done.returncode == 0, done.stderr
        most_mb, kind = done.stdout.split()
        assert int(most_mb) < 256
        assert kind == "memmap"

    @pytest.mark.parametrize(
        ("array", "error", "match"),
        [
            (np.ones((4, 4, 4, 4)), UsageError, r"\(H, W\)"),
            (np.ones(7), UsageError, r"\(H, W\)"),
            (np.ones((0, 5)), SceneEmpty, "no pixel"),
            (np.ones((64, 64, 3)), UsageError, "moveaxis"),
            (np.full((4, 4), "a"), UsageError, "expected numbers"),
            (np.ones((4, 4), bool), UsageError, "expected numbers"),
            ([[1, 2], [3, 4]], UsageError, "list is no scene"),
            (None, UsageError, "NoneType is no scene"),
        ],
    )
    def test_what_is_no_scene_is_refused(
        self, opened: sarwater.OpenModel, array: object, error: type, match: str
    ) -> None:
        with pytest.raises(error, match=match):
            opened.predict(array)

    @pytest.mark.parametrize(
        "place",
        [
            5,
            (TRANSFORM,),
            (TRANSFORM, "nowhere"),
            ((1, 2, 3), 32652),
            ((0, 0, 0, 0, 0, 0), 32652),
            (TRANSFORM, 999999),
        ],
    )
    def test_a_georeference_that_cannot_be_is_a_usage_error(self, opened: sarwater.OpenModel, place: object) -> None:
        with pytest.raises(UsageError):
            opened.predict(lake_scene(20, 20), georeference=place)  # type: ignore[arg-type]

    def test_a_georeference_may_be_wkt_or_an_object_that_gives_it(self, opened: sarwater.OpenModel) -> None:
        class Crs:
            def to_wkt(self) -> str:
                return wkt(32652)

        class Affine:
            def to_gdal(self) -> tuple[float, ...]:
                return TRANSFORM

        for place in ((TRANSFORM, wkt(32652)), (Affine(), Crs()), sarwater.Georeference(wkt(32652), TRANSFORM)):
            assert opened.predict(lake_scene(20, 20), georeference=place).georeference.epsg == 32652


def test_one_identity_per_array(tmp_path: Path, opened: sarwater.OpenModel) -> None:
    pixels = lake_scene(60, 70)

    def key(array: np.ndarray, **options: object) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        mask = gdal.Open(str(opened.predict(array, **options).write(folder, "mask")["mask"]))  # type: ignore[arg-type]
        return str(mask.GetMetadataItem("SARWATER_INPUT_SHA256"))

    other = pixels.copy()
    other[3, 3] += 1
    assert key(pixels) == key(np.asfortranarray(pixels)) == key(pixels.copy(), threshold=0.3)
    keys = [key(pixels), key(other), key(pixels.astype(np.int16)), key(pixels.reshape(70, 60))]
    keys.append(key(pixels, georeference=PLACE))
    assert len(set(keys)) == 5


def test_a_result_needs_neither_scene_nor_model(tmp_path: Path, model: Model) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(100, 100))
    array = lake_scene(100, 100)
    with sarwater.open_model(model) as opened:
        of_path, of_array = opened.predict(path), opened.predict(array, name="a", georeference=PLACE)
    path.unlink()
    array[:] = 5000
    written = [result.write(tmp_path / name) for name, result in (("path", of_path), ("array", of_array))]
    for product in ("confidence", "quicklook"):
        pixels = [np.asarray(Image.open(files[product])) for files in written]
        side_px = min(pixels[0].shape[:2])  # what kind of scene it was is written below the picture
        assert np.array_equal(*(each[:side_px] for each in pixels)), product
    with pytest.raises(UsageError, match="closed"):
        opened.predict(array)


def test_a_product_folder_keeps_shadow_and_its_notes(tmp_path: Path, opened: sarwater.OpenModel) -> None:
    gim = np.full((80, 90), 190, np.uint8)
    gim[20:30] = 255
    result = opened.predict(write_k5_folder(tmp_path / "K5_product", np.full((80, 90), 20, np.uint16), gim))
    assert np.all(result.mask[20:30] == 2)
    assert result.record.shadow_px == 10 * 90
    files = result.write(tmp_path / "out", ("mask", "stac"))
    assert np.array_equal(read_raster(files["mask"]), result.mask)
    assert json.loads(files["stac"].read_text())["properties"]["sarwater:source_format"] == "KOMPSAT-5 L1D"


def test_large_masks_lie_in_a_file_and_give_the_same(
    tmp_path: Path, scene: Path, opened: sarwater.OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = opened.predict(scene)
    monkeypatch.setattr(runtime.kept_rows, "IN_MEMORY_BYTES", 0)
    large = opened.predict(scene)
    assert isinstance(large.mask, np.memmap)
    files = [result.write(tmp_path / name, ("mask",))["mask"] for name, result in (("s", small), ("l", large))]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_no_room_for_a_large_mask_is_an_output_error(
    scene: Path, opened: sarwater.OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runtime.kept_rows, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(runtime.kept_rows.os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="TMPDIR"):
        opened.predict(scene)


def test_written_products_are_those_asked_for(tmp_path: Path, scene: Path, opened: sarwater.OpenModel) -> None:
    asked = opened.predict(scene, products=("mask", "polygons"))
    assert sorted(asked.write(tmp_path / "a")) == ["mask", "polygons"]
    files = asked.write(tmp_path / "b", products="stac")
    assert sorted(files) == ["mask", "stac"]
    assert sorted(json.loads(files["stac"].read_text())["assets"]) == ["model", "water"]
    with pytest.raises(SettingInvalid, match="did you mean 'polygons'"):
        asked.write(tmp_path / "c", products=["polygon"])
    assert not (tmp_path / "c").exists()


def test_another_mask_is_kept_unless_overwritten(tmp_path: Path, scene: Path, opened: sarwater.OpenModel) -> None:
    opened.predict(scene).write(tmp_path / "out", "mask")
    other = opened.predict(scene, threshold=0.9)
    with pytest.raises(OutputError, match="overwrite=True"):
        other.write(tmp_path / "out", "mask")
    files = other.write(tmp_path / "out", "mask", overwrite=True)
    assert np.array_equal(read_raster(files["mask"]), other.mask)
    assert [file.name for file in (tmp_path / "out").iterdir()] == [files["mask"].name], "no leftovers"


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"treshold": 0.4}, SettingInvalid, "did you mean 'threshold'"),
        ({"tile": 3}, SettingInvalid, "known keys: model, device"),
        ({"threshold": 2}, SettingInvalid, "threshold = 2"),
        ({"window": (0, 0, 9999, 1)}, UsageError, "250 x 200"),
        ({"window": "1,2,3"}, SettingInvalid, "X,Y,WIDTH,HEIGHT"),
        ({"products": ("mask", "polygon")}, SettingInvalid, "did you mean 'polygons'"),
        ({"unit": "db"}, SettingInvalid, "sigma0_db"),
        ({"georeference": PLACE}, UsageError, "of an array"),
        ({"channels": ("vv",)}, UsageError, "of an array"),
        ({"model": "hrnett"}, UsageError, "hrnet"),
        ({"model": "nowhere.onnx"}, ModelNotFound, "nowhere"),
        ({"device": "toaster"}, UsageError, "auto, cpu, gpu, torch, fake"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    scene: Path, model: Model, options: dict[str, object], error: type, match: str
) -> None:
    with pytest.raises(error, match=match):
        sarwater.predict(scene, **{"model": model, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["model", "device"])
def test_an_open_model_does_not_offer_what_was_settled_when_it_was_opened(
    scene: Path, opened: sarwater.OpenModel, key: str
) -> None:
    with pytest.raises(SettingInvalid) as refused:
        opened.predict(scene, **{key: "cpu"})
    assert f"unknown key '{key}'" in str(refused.value)
    assert str(refused.value).count(key) == 1


def test_a_scene_that_is_not_there_has_its_own_error(opened: sarwater.OpenModel, tmp_path: Path) -> None:
    with pytest.raises(SceneMissing):
        opened.predict(tmp_path / "absent.tif")


def test_predict_takes_an_open_model_and_leaves_it_open(scene: Path, opened: sarwater.OpenModel) -> None:
    first, second = (sarwater.predict(scene, model=opened) for _ in range(2))
    assert np.array_equal(first.mask, second.mask)


def test_a_window_may_be_four_numbers(scene: Path, opened: sarwater.OpenModel) -> None:
    part = opened.predict(scene, window=(40, 60, 100, 64))
    assert part.mask.shape == (64, 100)
    assert part.georeference.geotransform == opened.predict(scene, window="40,60,100,64").georeference.geotransform
