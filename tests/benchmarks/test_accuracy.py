"""The whole command on small lakes, with networks that call dark pixels water."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy import GAINS_DB, main
from benchmarks.accuracy_methods import BestThreshold, Network, Otsu, best_threshold, counts_of
from benchmarks.accuracy_sets import DEVELOPMENT, KNOWN, SIMULATED, TEACH, USES, Sample, Scenes, open_sets
from benchmarks.bootstrap import FALSE_SHARE, MEAN_SCENE_IOU, POOLED_IOU
from benchmarks.card import main as make_card
from benchmarks.card import to_card
from sarwater.classes import LAND, NODATA, WATER
from sarwater.errors import UsageError
from sarwater.metrics import confusion
from sarwater.models import shipped_model
from tests.support.lakes import lake, write_lakes, write_raster
from tests.support.models import box_model
from train.scoring.baseline import box_otsu

pytestmark = pytest.mark.timeout(900)  # mostly waits for its turn where the machine is busy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lakes that teach, lakes that nobody listed, land without water, and two networks."""
    folder = tmp_path_factory.mktemp("accuracy")
    for name in ("k5", "fjords"):
        write_lakes(folder / "data" / name, 1, 96)
    write_raster(folder / "data" / "airport" / "img" / "a.tif", lake(96, 1)[0])
    write_raster(folder / "data" / "airport" / "mask" / "a_label.tif", np.zeros((96, 96), np.uint8))
    (folder / "data" / "notes").mkdir()
    for name, dark in (("good", 35.0), ("wet", 60.0)):
        box_model(folder / f"{name}.onnx", dark=dark, steepness=1.0)
    return folder


def measure(folder: Path, *more: str) -> dict[str, Any]:
    models = [text for name in ("good", "wet") for text in ("--model", str(folder / f"{name}.onnx"))]
    places = {"--data": "data", "--cache": "cache", "--pictures": "pictures", "-o": "accuracy.md"}
    arguments = [text for flag, place in places.items() for text in (flag, str(folder / place))]
    assert main([*arguments, *models, "--quick", *more]) == 0
    figures: dict[str, Any] = json.loads((folder / "accuracy.json").read_text())
    return figures


@pytest.fixture(scope="module")
def figures(folder: Path) -> dict[str, Any]:
    return measure(folder, "--sets", "k5,fjords,airport,simulated_s1")


@pytest.fixture(scope="module")
def page(figures: dict[str, Any], folder: Path) -> str:
    return (folder / "accuracy.md").read_text()


COLUMNS = ["good", "wet", Otsu().name, BestThreshold().name]


def test_every_folder_of_scenes_is_a_set_and_so_are_simulated_scenes(folder: Path, tmp_path: Path) -> None:
    sets = open_sets(folder / "data", (), tmp_path, quick=True)
    assert list(sets) == ["airport", "simulated_k5", "simulated_s1", "k5", "fjords"]
    assert [len(scenes) for scenes in sets.values()] == [1, 2, 2, 1, 1]


def test_simulated_scenes_are_told_apart_by_type(figures: dict[str, Any], page: str) -> None:
    assert figures["sets"]["simulated_s1"]["types"].keys() == {"mixed", "lakes"}  # a quick run has two scenes
    assert "simulated_s1: pooled IoU by type" in page


def test_every_model_is_a_column_beside_the_thresholds(figures: dict[str, Any]) -> None:
    for entry in figures["sets"].values():
        assert list(entry["methods"]) == COLUMNS
    assert list(figures["models"]) == COLUMNS[:2]


def test_every_figure_has_an_interval(figures: dict[str, Any]) -> None:
    for entry in figures["sets"].values():
        for method in entry["methods"].values():
            assert {MEAN_SCENE_IOU, FALSE_SHARE} <= method.keys()
            for figure in method.values():
                assert 0 <= figure["low"] <= figure["high"] <= 1
                assert 0 <= figure["value"] <= 1


def test_sets_that_teach_and_sets_that_measure_share_no_table(page: str) -> None:
    sections = {text.split("\n")[0]: text for text in page.split("\n## ")[1:]}
    of = {
        name: [title for title, text in sections.items() if f"| {name} |" in text]
        for name in ("airport", "k5", "fjords")
    }
    assert of == {
        "airport": ["Real sets that only measure"],
        "k5": ["Real sets that may teach"],
        "fjords": ["Sets that this project does not list"],
    }
    assert "their figures flatter" in sections["Real sets that may teach"]
    assert f"| k5 | {TEACH} |" in page
    assert f"| airport | {DEVELOPMENT} |" in page


def test_land_without_water_is_judged_by_what_is_called_water(figures: dict[str, Any], page: str) -> None:
    entry = figures["sets"]["airport"]
    good, wet, _, best = (entry["methods"][name][FALSE_SHARE]["value"] for name in COLUMNS)
    assert entry["main"] == FALSE_SHARE
    assert 0 == best < good < wet
    assert f"{100 * good:.2f} %" in page
    assert "called water" in page


def test_a_network_of_absolute_levels_loses_by_gain(figures: dict[str, Any]) -> None:
    changes = figures["sets"]["k5"]["change_by_gain_db"]
    assert list(changes) == COLUMNS[:2]  # no gain moves the thresholds
    for by_gain in changes.values():
        assert list(by_gain) == [f"{gain_db:+d}" for gain_db in GAINS_DB]
    assert changes[COLUMNS[0]]["-10"]["value"] < -0.3


def test_water_is_found_by_its_width(figures: dict[str, Any], page: str) -> None:
    assert all("over 25 px" in method for method in figures["sets"]["k5"]["methods"].values())
    assert "where water is wide" in page


def test_the_worst_simulated_scenes_are_shown_and_real_ones_stay_in_the_cache(page: str, folder: Path) -> None:
    assert "(pictures/worst.png)" in page
    assert (folder / "pictures" / "worst.png").stat().st_size < 500_000
    assert (folder / "cache" / "worst.png").is_file()


def test_a_part_can_be_measured_and_is_said_to_be(figures: dict[str, Any], folder: Path) -> None:
    measure(folder, "--sets", "fjords", "--no-gain", "-o", str(folder / "part.md"))
    part = json.loads((folder / "part.json").read_text())
    assert part["sets"].keys() == {"fjords"}
    assert part["sets"]["fjords"]["change_by_gain_db"] == {}
    assert part["sets"]["fjords"]["methods"] == figures["sets"]["fjords"]["methods"]
    assert "--quick --sets fjords` on " in (folder / "part.md").read_text()


def test_what_was_measured_is_not_measured_again(folder: Path, tmp_path: Path) -> None:
    class Once:
        name, identity, asked = "once", "once", 0

        def mask(self, sample: Sample, gain_db: float) -> np.ndarray:
            self.asked += 1
            return sample.truth

    (sample,) = Scenes(KNOWN[0], folder / "data" / "k5")
    once = Once()
    first, again = (counts_of(sample, once, 0, tmp_path) for _ in range(2))
    assert (first == again).all()
    assert once.asked == 1
    counts_of(sample, once, 3, tmp_path)
    assert once.asked == 2


def test_a_set_or_a_folder_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--sets seas: not in .*expected some of: airport, simulated_k5"):
        open_sets(folder / "data", ["seas", "k5"], tmp_path, quick=True)
    with pytest.raises(UsageError, match="no such folder; expected one of sets"):
        main(["--data", str(tmp_path / "none")])


def test_two_models_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two files of one name; rename one"):
        measure(folder, "--model", str(box_model(tmp_path / "wet.onnx").path))


def test_a_scene_that_the_product_refuses_has_no_mask(folder: Path, tmp_path: Path) -> None:
    dark, label = lake(96, 0)
    write_raster(tmp_path / "set" / "img" / "a.tif", (dark // 30 + 1).astype(np.uint8))
    write_raster(tmp_path / "set" / "mask" / "a_label.tif", label)
    (sample,) = Scenes(KNOWN[0], tmp_path / "set")
    network = Network("good", box_model(tmp_path / "good.onnx"))
    assert network.mask(sample, 0) is not None
    assert network.mask(sample, -20) is None  # floats below 1 look like linear backscatter


def test_water_that_is_read_as_nodata_stays_water(tmp_path: Path) -> None:
    amplitude, label = lake(96, 0)
    amplitude[label == 255] = 0
    label[:8] = 128
    write_raster(tmp_path / "set" / "img" / "a.tif", amplitude)
    write_raster(tmp_path / "set" / "mask" / "a_label.tif", label, nodata=128)
    (sample,) = Scenes(KNOWN[0], tmp_path / "set")
    assert (sample.truth == np.select([label == 255, label == 128], [WATER, NODATA], LAND)).all()


def test_the_best_threshold_beats_otsu_and_finds_no_water_where_there_is_none() -> None:
    amplitude, label = lake(96, 3, looks=1)
    pixels, truth = amplitude.astype(np.float32), (label // 255).astype(np.uint8)
    best, otsu = (confusion(mask, truth).iou for mask in (best_threshold(pixels, truth), box_otsu(pixels)))
    assert otsu < best < 1
    assert (best_threshold(pixels, np.zeros_like(truth)) == LAND).all()


def test_a_threshold_takes_all_pixels_of_one_value() -> None:
    pixels = np.repeat(np.array([[1, 2, 2, 3]], np.float32), 8, axis=0).repeat(8, axis=1)
    truth = np.zeros(pixels.shape, np.uint8)
    truth[:, :9] = WATER
    truth[:4, 8] = LAND
    mask = best_threshold(pixels, truth, mean_px=1)
    assert (mask == (pixels == 1)).all()


def test_each_known_set_is_named_once_and_has_a_use_and_an_owner() -> None:
    assert len({each.name for each in KNOWN}) == len(KNOWN)
    assert all(each.use in USES and each.about and each.owner for each in KNOWN)
    assert all(each.tiles for each in KNOWN if each.use in (TEACH, SIMULATED))
    assert not any(each.tiles for each in KNOWN if each.use == DEVELOPMENT)  # nothing learns from them


def test_the_card_that_ships_is_of_the_model_that_ships() -> None:
    model = shipped_model()
    card = model.path.with_suffix(".md").read_text()
    assert model.manifest.files[model.path.name] in card, "make it again: python -m benchmarks.card"
    for heading in ("Intended use", "Training data and their owners", "How good it is", "Limits"):
        assert f"## {heading}" in card


def test_a_card_is_not_made_from_figures_of_another_file(figures: dict[str, Any], folder: Path) -> None:
    with pytest.raises(UsageError, match="the figures are of models with sha256"):
        make_card(["--figures", str(folder / "accuracy.json")])


def test_a_card_holds_the_figures_that_were_measured(figures: dict[str, Any]) -> None:
    model, good = shipped_model(), COLUMNS[0]
    measured = {**figures["models"][good], "sha256": model.manifest.files[model.path.name]}
    card = to_card(model, {**figures, "models": {good: measured}})
    assert f"{figures['sets']['k5']['methods'][good][POOLED_IOU]['value']:.3f} [" in card
    assert "copyright KARI" in card
    assert "their figures flatter" in card
    assert "quick run" in card


@pytest.mark.realdata
def test_real_scenes_are_measured_in_the_same_way(realdata: Path, folder: Path) -> None:
    measure(folder, "--data", str(realdata), "--sets", "stac_vv", "-o", str(folder / "real.md"))
    measured = json.loads((folder / "real.json").read_text())["sets"]["stac_vv"]
    assert measured["scenes"] == 2
    assert 0.3 < measured["methods"][Otsu().name][POOLED_IOU]["value"] < 0.6
