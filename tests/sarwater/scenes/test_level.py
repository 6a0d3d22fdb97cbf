"""How bright scenes are, on real files: which level gets a word, and what the usual one is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sarwater.errors import SceneOffLevel, UnitMismatch
from sarwater.manifest import Channel
from sarwater.request import Request, Window
from sarwater.scenes.level import USUAL_DB, Level, check_level, level_of
from sarwater.scenes.model_input import ModelInput
from sarwater.scenes.readers import open_model_input
from sarwater.tiling import TilePlan
from tests.support.rasters import write_geotiff

SAR = (Channel("sar", "amplitude_dn"),)
NOTE = "for what the model knows"


def amplitude(
    land_db: float, looks: float = 4.4, height: int = 240, width: int = 300, contrast_db: float = 12
) -> np.ndarray:
    """(H, W) float64 amplitude in DN of speckled land, with a lake of a third of it that is darker."""
    power = np.full((height, width), 400.0**2 * 10 ** (land_db / 10))
    power[height // 3 : 2 * height // 3] *= 10 ** (-contrast_db / 10)
    return np.sqrt(power * np.random.default_rng(1).gamma(looks, 1 / looks, power.shape))


def checked(path: Path, channels: tuple[Channel, ...] = SAR, **request: object) -> ModelInput:
    asked = Request(**request)  # type: ignore[arg-type]
    scene = open_model_input(path, channels, asked)
    check_level(scene, asked)
    return scene


def written(folder: Path, pixels: np.ndarray, **about: object) -> Path:
    return write_geotiff(folder / "a.tif", pixels, **about)  # type: ignore[arg-type]


@pytest.mark.parametrize(("looks", "single_look"), [(1.0, True), (4.4, False)])
def test_the_level_is_that_of_land_and_speckle_tells_the_looks(tmp_path: Path, looks: float, single_look: bool) -> None:
    with checked(written(tmp_path, amplitude(-10, looks).round().astype(np.uint16))) as scene:
        level = scene.level
    assert level is not None
    assert level.level_db == pytest.approx(-10, abs=1)
    assert level.single_look == single_look


@pytest.mark.parametrize(
    ("factor", "looks", "word"),
    [
        *((1, looks, None) for looks in (1.0, 4.4)),
        *((16, looks, "too bright") for looks in (1.0, 4.4)),
        *((4, looks, "too bright") for looks in (1.0, 4.4)),
        *((1 / 16, looks, "too dark") for looks in (1.0, 4.4)),
    ],
)
def test_a_scene_of_another_constant_is_told_with_what_was_found_expected_and_helps(
    tmp_path: Path, factor: float, looks: float, word: str | None
) -> None:
    pixels = np.clip(np.round(amplitude(-10, looks) * factor), 1, 65535).astype(np.uint16)
    with checked(written(tmp_path, pixels)) as scene:
        notes = " ".join(scene.notes)
    assert (NOTE in notes) == (word is not None)
    if word:
        for part in (word, "DN, expected", "--calibration-constant-db", "--unit", "--level usual"):
            assert part in notes


@pytest.mark.parametrize("unit", ["sigma0_db", "sigma0_linear", "sigma0_amplitude", "amplitude_dn"])
def test_the_level_is_the_same_in_every_unit(tmp_path: Path, unit: str) -> None:
    relative = amplitude(-10) / 400
    values = {
        "sigma0_db": 20 * np.log10(relative),
        "sigma0_linear": relative**2,
        "sigma0_amplitude": relative,
        "amplitude_dn": relative * 400,
    }
    with checked(written(tmp_path, values[unit].astype(np.float32)), unit=unit) as scene:
        level = scene.level
    assert level is not None
    assert level.level_db == pytest.approx(-10.2, abs=0.02)


@pytest.mark.parametrize("unit", ["amplitude_dn", "sigma0_db"])
@pytest.mark.parametrize("nodata", [None, -9999])
def test_a_collar_of_zeros_around_decibels_changes_no_level(tmp_path: Path, unit: str, nodata: float | None) -> None:
    pixels = (20 * np.log10(amplitude(-10) / 400)).astype(np.float32)
    pixels[:, :100] = pixels[:, 240:] = 0
    with checked(
        written(tmp_path, pixels, descriptions=["Sigma0_VV_db"], nodata=nodata), (Channel("sar", unit),)
    ) as scene:
        assert scene.level is not None
        assert scene.level.level_db == pytest.approx(-10, abs=1)


def test_a_model_of_decibels_is_told_in_decibels(tmp_path: Path) -> None:
    pixels = (20 * np.log10(amplitude(-10) / 400) + 24).astype(np.float32)
    with checked(written(tmp_path, pixels), (Channel("vv", "sigma0_db"),), unit="sigma0_db", polarisations="1") as one:
        assert "expected -21.0 dB to 0.0 dB" in " ".join(one.notes)


def test_what_is_off_level_can_be_refused_and_what_is_not_is_none_the_worse(tmp_path: Path) -> None:
    pixels = amplitude(-10)
    checked(written(tmp_path, pixels.round().astype(np.uint16)), off_level="refuse").close()
    with pytest.raises(SceneOffLevel, match=r"a\.tif: too bright .*--off-level note"):
        checked(written(tmp_path, (16 * pixels).round().astype(np.uint16)), off_level="refuse")


@pytest.mark.parametrize("looks", [1.0, 4.4])
@pytest.mark.parametrize("factor", [16, 1 / 4])
def test_the_usual_level_is_reached_by_one_gain_and_nodata_stays(tmp_path: Path, factor: float, looks: float) -> None:
    plain = np.clip(np.round(amplitude(-10, looks) * factor), 1, 65535).astype(np.uint16)
    plain[:, :20] = 0
    with checked(written(tmp_path, plain), level="usual", off_level="refuse") as scene:
        rows, valid = scene.read_valid(0, 240)
        notes = " ".join(scene.notes)
    assert scene.level is not None
    assert scene.level.level_db + scene.change.gain_db == pytest.approx(USUAL_DB[looks == 1.0], abs=0.01)
    assert scene.gains == pytest.approx([10 ** (scene.change.gain_db / 20)])
    assert rows.dtype == np.uint16
    assert np.array_equal(rows[0], plain)
    assert np.array_equal(valid, plain != 0)
    assert "to the usual one; --level given leaves it" in notes
    assert NOTE not in notes


@pytest.mark.parametrize("level", [None, "given", "usual"])
def test_a_model_says_to_which_level_uncalibrated_scenes_are_brought(tmp_path: Path, level: str | None) -> None:
    path = written(tmp_path, (4 * amplitude(-10)).astype(np.uint16))
    with open_model_input(path, SAR, Request()) as scene:
        check_level(scene, Request(level=level), usual_db=-14.0)
    assert scene.level is not None
    assert scene.level.level_db + scene.change.gain_db == pytest.approx(2 if level == "given" else -14, abs=1)


def test_a_calibrated_scene_keeps_its_level_unless_asked(tmp_path: Path) -> None:
    path = written(tmp_path, (20 * np.log10(amplitude(-10) / 400)).astype(np.float32))
    for level, expected_db in ((None, -10), ("usual", -14)):
        request = Request(unit="sigma0_db", level=level)
        with open_model_input(path, SAR, request) as scene:
            check_level(scene, request, usual_db=-14.0)
            changed = level_of(scene)
        assert changed is not None
        assert changed.level_db == pytest.approx(expected_db, abs=1)


def test_decibels_are_brought_to_the_usual_level_too_and_zeros_inside_stay_levels(tmp_path: Path) -> None:
    pixels = (20 * np.log10(amplitude(-10) / 400) + 20).astype(np.float32)
    pixels[:, :20] = 0
    pixels[100, 100] = 0
    with checked(written(tmp_path, pixels), unit="sigma0_db", level="usual") as scene:
        rows, valid = scene.read_valid(0, 240)
        gain_db = scene.change.gain_db
    assert np.array_equal(valid, np.tile(np.arange(300) >= 20, (240, 1)))
    assert rows[0, 100, 100] == pytest.approx(400 * 10 ** (gain_db / 20), rel=1e-5)


@pytest.mark.parametrize("options", [["TILED=YES", "BLOCKXSIZE=256", "BLOCKYSIZE=256"], ["BLOCKYSIZE=1"], []])
def test_a_window_has_the_level_of_its_scene_however_that_is_stored(tmp_path: Path, options: list[str]) -> None:
    pixels = amplitude(-10, height=1400, width=1300).round().astype(np.uint16)
    pixels[:, 1200:] = 0
    path = written(tmp_path, pixels, options=options)
    with checked(path) as whole, checked(path, window=Window(900, 500, 100, 100)) as part:
        assert whole.level == part.level
        assert whole.level is not None
        assert whole.level.level_db == pytest.approx(-9.5, abs=1)


def test_a_scene_without_measurements_has_no_level(tmp_path: Path) -> None:
    with checked(written(tmp_path, np.zeros((50, 60), np.uint16)), level="usual", off_level="refuse") as scene:
        assert scene.level is None
        assert NOTE not in " ".join(scene.notes)


@pytest.mark.parametrize("single_look", [True, False])
def test_the_usual_level_is_known(single_look: bool) -> None:
    assert Level(USUAL_DB[single_look], single_look).known


@pytest.mark.parametrize(("contrast_db", "stretch"), [(14, 1), (10.5, 1), (8, 1.25), (5, 2), (3.5, 2.5)])
def test_a_picture_of_little_contrast_is_stretched_to_that_of_backscatter(
    tmp_path: Path, contrast_db: float, stretch: float
) -> None:
    pixels = np.clip(amplitude(-10, looks=12, contrast_db=contrast_db), 1, 255).astype(np.uint8)
    with open_model_input(written(tmp_path, pixels), SAR, Request()) as scene:
        check_level(scene, Request(), usual_db=-14.0)
        notes = " ".join(scene.notes)
    assert scene.change.stretch == pytest.approx(stretch, rel=0.04)
    assert ("its contrast by a factor of" in notes) == (scene.change.stretch != 1)


@pytest.mark.parametrize("gain", [0.3, 1, 3.2])
def test_a_picture_is_one_at_any_gain_and_in_any_type(tmp_path: Path, gain: float) -> None:
    pixels = np.clip(amplitude(-10, looks=12, contrast_db=5), 1, 255).astype(np.uint8) * np.float32(gain)
    for stored in (pixels, pixels.astype(np.uint16)):
        with open_model_input(written(tmp_path, stored), SAR, Request()) as scene:
            check_level(scene, Request(), usual_db=-14.0)
        assert scene.change.stretch == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
    ("contrast_db", "looks", "dtype", "unit"),
    [(0, 1, np.uint8, None), (5, 12, np.uint16, None), (5, 12, np.float32, "sigma0_db")],
    ids=["one kind of brightness", "amplitudes as they were measured", "calibrated"],
)
def test_other_scenes_keep_their_contrast(
    tmp_path: Path, contrast_db: float, looks: float, dtype: type, unit: str | None
) -> None:
    pixels = np.clip(amplitude(-10, looks, contrast_db=contrast_db) * (1 if dtype == np.uint8 else 4), 1, None)
    stored = 20 * np.log10(pixels / 400) if unit else np.minimum(pixels, np.iinfo(dtype).max)
    request = Request(unit=unit, level="usual")
    with open_model_input(written(tmp_path, stored.astype(dtype)), SAR, request) as scene:
        check_level(scene, request, usual_db=-14.0)
    assert scene.change.stretch == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("nodata", [0, 255, 128])
def test_what_the_network_sees_of_a_stretched_scene_does_not_depend_on_its_type(
    tmp_path: Path, dtype: type, nodata: int
) -> None:
    grey = np.clip(amplitude(-10, looks=12, contrast_db=5) * 0.9, 1, 254).round()
    grey[100:110, 100:110] = nodata
    request = Request(nodata=nodata)
    with open_model_input(written(tmp_path, grey.astype(dtype)), SAR, request) as scene:
        check_level(scene, request, usual_db=-14.0)
        strips = list(scene.strips(TilePlan(*grey.shape, 256, 0)))
    ((rows, valid),) = strips
    seen = rows[0].astype(np.float32) * (scene.gains or (1.0,))[0]
    measured = (rows[0] != scene.strips_nodata) if valid is None else valid
    assert (measured == (grey != nodata)).all()
    kept = measured & (grey > 0)
    assert scene.change.stretch > 1.5
    np.testing.assert_allclose(seen[kept], scene.change.of(grey[kept].astype(np.float32)), rtol=0.001, atol=0.07)


def decibels(looks: float) -> np.ndarray:
    return 20 * np.log10(amplitude(-10, looks) / 400)


@pytest.mark.parametrize("looks", [1.0, 4.4])
def test_words_of_decibels_are_refused_until_their_scale_is_said(tmp_path: Path, looks: float) -> None:
    path = written(tmp_path, np.clip((decibels(looks) + 50) * 1000, 1, 65535).astype(np.uint16))
    with pytest.raises(UnitMismatch, match="do not vary as amplitudes do"):
        checked(path)
    with checked(path, unit="sigma0_db", scale=0.001, offset=-50.0) as scene:
        rows, _ = scene.read(0, 240)
    apart_db = np.abs(20 * np.log10(rows[0] / amplitude(-10, looks)))
    assert np.percentile(apart_db, 99) <= 0.001, "as the message says"
    with checked(path, unit="amplitude_dn") as scene:
        assert not any("decibels" in note for note in scene.notes)


@pytest.mark.parametrize("looks", [1.0, 4.4])
def test_bytes_of_decibels_get_a_note_until_their_scale_is_said(tmp_path: Path, looks: float) -> None:
    path = written(tmp_path, np.clip((decibels(looks) + 40) / 0.2, 1, 255).round().astype(np.uint8))
    with checked(path) as scene:
        assert any("do not vary as amplitudes do" in note for note in scene.notes)
    with checked(path, unit="sigma0_db", scale=0.2, offset=-40.0) as scene:
        rows, _ = scene.read(0, 240)
        assert not any("do not vary as amplitudes do" in note for note in scene.notes)
    apart_db = np.abs(20 * np.log10(rows[0] / amplitude(-10, looks)))
    assert np.percentile(apart_db, 99) <= 0.11, "half a step"


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(3).normal(40, 8, (240, 300)),
        np.random.default_rng(3).uniform(0, 2 * np.pi, (240, 300)),
        np.random.default_rng(3).normal(0.6, 0.12, (240, 300)) * 100,
    ],
    ids=["angles", "phases", "coherence in percent"],
)
def test_what_does_not_vary_as_amplitudes_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    path = written(tmp_path, np.maximum(values, 0.01).astype(np.float32))
    with pytest.raises(UnitMismatch, match="do not vary as amplitudes do"):
        checked(path)
    checked(path, unit="amplitude_dn").close()


def test_coarse_pixels_that_lost_their_speckle_get_a_note(tmp_path: Path) -> None:
    values = np.random.default_rng(3).normal(400, 30, (240, 300)).astype(np.uint16)
    with checked(written(tmp_path, values, transform=(500_000, 40, 0, 4_000_000, 0, -40))) as scene:
        assert any("do not vary as amplitudes do" in note for note in scene.notes)


def test_a_drawing_is_flat_and_says_nothing_of_speckle(tmp_path: Path) -> None:
    pixels = np.full((240, 300), 120, np.uint16)
    pixels[50:60, 40:250], pixels[100:200, 100:104] = 20, 20
    checked(written(tmp_path, pixels)).close()


def test_power_is_told_from_amplitude_where_the_level_is_changed(tmp_path: Path) -> None:
    path = written(tmp_path, (amplitude(-10) / 400).astype(np.float32) ** 2)
    with open_model_input(path, SAR) as scene:
        check_level(scene, Request(), usual_db=-14.0)
        with pytest.raises(UnitMismatch, match="it looks like linear backscatter"):
            scene.read(0, 240)
    with open_model_input(path, SAR, Request(unit="sigma0_linear")) as scene:
        check_level(scene, Request(unit="sigma0_linear"), usual_db=-14.0)
        assert not scene.change, "calibrated"
        scene.read(0, 240)


@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_amplitudes_are_not_taken_for_decibels(tmp_path: Path, looks: float, dtype: type) -> None:
    pixels = np.clip(amplitude(-10, looks), 1, np.iinfo(dtype).max).astype(dtype)
    with checked(written(tmp_path, pixels)) as scene:
        assert not any("decibels" in note for note in scene.notes)
