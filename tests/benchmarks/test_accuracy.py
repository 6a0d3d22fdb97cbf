"""The whole command on small lakes, with networks that know nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.accuracy import LEE, OTSU, main
from benchmarks.accuracy_sets import Sample, label_limits, simulated
from benchmarks.card import main as make_card
from benchmarks.card import to_card
from benchmarks.families import NETWORKS, options_for
from sarwater.classes import LAND, NODATA, WATER
from sarwater.errors import CheckpointInvalid, UsageError
from sarwater.manifest import Channel
from sarwater.metrics import confusion
from sarwater.models import shipped_model
from tests.support.lakes import lake, write_lakes
from train.models import Segmenter, architecture
from train.models.checkpoint import Checkpoint, save_checkpoint
from train.scoring.baseline import box_otsu, lee, lee_best_threshold

torch.set_num_threads(1)
pytestmark = pytest.mark.timeout(900)  # mostly waits for its turn where the machine is busy


def write_network(path: Path, seed: int, channels: tuple[Channel, ...] = (Channel("sar", "amplitude_dn"),)) -> Path:
    torch.manual_seed(seed)
    segmenter = Segmenter(architecture("unet-w16", channels))
    options = {"batch": 4, "crop_px": 256, "processes": 1}
    training = {"held_out": ["WTR0 rows 0..128"], "step": 10, "options": options, "commit": "abc", "data": []}
    save_checkpoint(path, Checkpoint(segmenter.arch, segmenter.net.state_dict(), 0.5, training))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("accuracy")
    write_lakes(folder / "data" / "k5", 2, 128)
    write_network(folder / "model.pt", 0)
    for index in range(2):
        write_network(folder / "folds" / f"refined-without-WTR{index}" / "last.pt", index)
    return folder


def measure(folder: Path, *more: str, peers: Sequence[str] = ("a", "b")) -> dict[str, Any]:
    places = {"--data": "data", "--folds": "folds", "--model": "model.pt", "--cache": "cache", "--pictures": "pictures"}
    arguments = [text for flag, place in places.items() for text in (flag, str(folder / place))]
    given = [text for name in peers for text in ("--peer", f"{name}={folder / 'model.pt'}")]
    assert main([*arguments, *given, "--quick", "-o", str(folder / "accuracy.md"), *more]) == 0
    figures: dict[str, Any] = json.loads((folder / "accuracy.json").read_text())
    return figures


@pytest.fixture(scope="module")
def figures(folder: Path) -> dict[str, Any]:
    return measure(folder)


def test_every_figure_has_an_interval(figures: dict[str, Any]) -> None:
    methods = figures["sets"]["k5"]["methods"]
    assert list(methods) == ["network", OTSU, LEE]
    for entry in methods.values():
        for figure in entry.values():
            assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1


def test_thresholds_do_well_on_lakes_and_the_one_that_knows_the_truth_does_better(figures: dict[str, Any]) -> None:
    methods = figures["sets"]["k5"]["methods"]
    assert 0.5 < methods[OTSU]["pooled_iou"]["value"] < methods[LEE]["pooled_iou"]["value"]


def test_every_scene_type_of_both_modes_is_measured(figures: dict[str, Any]) -> None:
    assert [len(figures["sets"][f"simulated {mode}"]["types"]) for mode in ("k5", "s1")] == [14, 14]
    assert figures["dry"].keys() == {"k5", "s1"}


def test_false_water_is_measured_in_each_dry_scene(figures: dict[str, Any], folder: Path) -> None:
    for entry in figures["dry"].values():
        shares = entry["by_scene"]["network"]
        assert len(shares) == entry["scenes"]
        assert np.mean(shares) == pytest.approx(entry["methods"]["network"]["false_share"]["value"])
    assert "scenes with less than 0.1 % of false water" in (folder / "accuracy.md").read_text()


def test_gain_and_spacing_are_measured(figures: dict[str, Any]) -> None:
    entry = figures["sets"]["k5"]
    assert entry["gain_db"].keys() == {"-3", "+3"}
    assert entry["spacing"].keys() == {"2", "4"}


def test_peers_are_scored_on_tiles_that_none_was_trained_on(figures: dict[str, Any]) -> None:
    assert [peer["sets"]["k5"]["tiles"] for peer in figures["peers"]] == [["WTR0"], ["WTR0"]]
    assert {peer["pixels_seen"] for peer in figures["peers"]} == {10 * 4 * 256 * 256}


def test_the_page_shows_the_figures_and_what_was_not_measured(figures: dict[str, Any], folder: Path) -> None:
    page = (folder / "accuracy.md").read_text()
    assert f"{figures['sets']['k5']['methods']['network']['pooled_iou']['value']:.3f} [" in page
    assert "Not measured: no " in page.split("## Sentinel-1, held-out rows")[1].split("##")[0]
    assert "(pictures/worst.png)" in page
    assert (folder / "pictures" / "worst.png").stat().st_size < 500_000


def test_pictures_of_tiles_that_may_not_be_passed_on_stay_in_the_cache(figures: dict[str, Any], folder: Path) -> None:
    assert [path.name for path in (folder / "pictures").iterdir()] == ["worst.png"]
    assert (folder / "cache" / "k5.png").is_file()


def test_a_second_run_computes_no_mask_again_and_finds_the_same(figures: dict[str, Any], folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*.np?")}
    again = measure(folder)
    assert {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*.np?")} == before
    assert {**again, "run": None} == {**figures, "run": None}


def test_what_cannot_be_measured_is_kept_if_it_is_of_the_same_model(figures: dict[str, Any], folder: Path) -> None:
    without_folds = ("--folds", str(folder / "none"))
    kept = measure(folder, *without_folds, "--keep")
    assert kept["sets"]["k5"] == {
        "kept_from": {
            **{k: figures["run"][k] for k in ("date", "commit")},
            "sha256": figures["model"]["sha256"],
        },
        **figures["sets"]["k5"],
    }
    assert kept["folds"] == figures["folds"]
    assert f"Measured on {figures['run']['date']}" in (folder / "accuracy.md").read_text().split("## KOMPSAT-5")[1]
    assert measure(folder, *without_folds, "--keep")["sets"]["k5"] == kept["sets"]["k5"]  # the first date stays
    other = ("--model", str(write_network(folder / "other.pt", 5)))
    assert "missing" in measure(folder, *without_folds, "--keep", *other)["sets"]["k5"]
    measure(folder)


def test_peers_that_are_not_given_are_kept_whatever_the_model_is(figures: dict[str, Any], folder: Path) -> None:
    other = ("--keep", "--model", str(write_network(folder / "other.pt", 5)))
    kept = measure(folder, *other, peers=())
    assert [peer.pop("kept_from")["date"] for peer in kept["peers"]] == [figures["run"]["date"]] * 2
    assert kept["peers"] == figures["peers"]
    page = (folder / "accuracy.md").read_text()
    assert f"Measured on {figures['run']['date']}" in page.split("## The four families")[1]
    assert "the simulator has changed" not in page
    measure(folder)


def test_peers_on_scenes_of_an_earlier_simulator_are_said_to_be(figures: dict[str, Any], folder: Path) -> None:
    report = folder / "accuracy.json"
    report.write_text(json.dumps({**figures, "run": {**figures["run"], "simulator": "an earlier one"}}))
    measure(folder, "--keep", peers=())
    kept = measure(folder, "--keep", peers=())  # and stay so
    assert [peer["kept_from"]["simulator"] for peer in kept["peers"]] == ["an earlier one"] * 2
    assert "the simulator has changed" in (folder / "accuracy.md").read_text().split("## The four families")[1]
    measure(folder)


def test_a_network_of_two_channels_is_refused(folder: Path, tmp_path: Path) -> None:
    two = (Channel("sar", "amplitude_dn"), Channel("gim", "incidence_dn"))
    with pytest.raises(CheckpointInvalid, match="takes sar, gim; the benchmark's scenes have one SAR channel"):
        measure(folder, "--model", str(write_network(tmp_path / "two.pt", 0, two)))


def test_data_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder; expected one with k5/ and etci/"):
        main(["--data", str(tmp_path / "none")])


def test_a_coarser_scene_keeps_its_power_and_what_is_mostly_water() -> None:
    amplitude = np.array([[3, 4, 0, 0], [3, 4, 0, 5]], np.float32)
    truth = np.array([[1, 1, NODATA, NODATA], [1, 0, NODATA, 0]], np.uint8)
    coarse = Sample("x", amplitude, truth).coarser(2)
    assert coarse.amplitude == pytest.approx(np.array([[np.sqrt(12.5), 5]]))
    assert coarse.truth.tolist() == [[WATER, NODATA]]


def test_labels_drawn_a_pixel_off_agree_with_themselves_as_geometry_says() -> None:
    truth = np.full((20, 20), LAND, np.uint8)
    truth[5:15, 5:7] = WATER  # 10 x 2 px
    truth[15:] = NODATA  # what grows into it does not count
    limits = label_limits([Sample("river", np.ones((20, 20), np.float32), truth)])
    assert limits == {
        "a pixel wider": pytest.approx(20 / (20 + 10 + 10 + 2)),
        "a pixel narrower": 0.0,
        "a pixel further east": pytest.approx(1 / 3),
    }


def test_a_gain_multiplies_the_amplitude() -> None:
    sample = Sample("x", np.full((2, 2), 10, np.float32), np.zeros((2, 2), np.uint8))
    assert sample.at_gain(20).amplitude[0, 0] == pytest.approx(100)


def test_test_scenes_are_the_same_every_time(tmp_path: Path) -> None:
    first, again = (simulated(64, 1, tmp_path / name, dry=True)["s1"][0] for name in ("a", "b"))
    cached = simulated(64, 1, tmp_path / "a", dry=True)["s1"][0]
    for other in (again, cached):
        assert np.array_equal(first.amplitude, other.amplitude)
        assert np.array_equal(first.truth, other.truth)
    assert not (first.truth == WATER).any()


def test_the_lee_filter_keeps_the_mean_and_takes_the_speckle_away() -> None:
    intensity = np.random.default_rng(0).gamma(1, 100, (128, 128)).astype(np.float32)
    filtered = lee(intensity, np.ones(intensity.shape, bool), 9)
    assert filtered.mean() == pytest.approx(intensity.mean(), rel=0.05)
    assert filtered.std() < 0.4 * intensity.std()


def test_the_best_threshold_beats_otsu_and_finds_no_water_where_there_is_none() -> None:
    amplitude, label = lake(96, 3, looks=1)
    pixels, truth = amplitude.astype(np.float32), (label // 255).astype(np.uint8)
    best, otsu = (confusion(mask, truth).iou for mask in (lee_best_threshold(pixels, truth), box_otsu(pixels)))
    assert otsu < best < 1
    assert (lee_best_threshold(pixels, np.zeros_like(truth)) == LAND).all()


def test_the_families_differ_in_nothing_but_network_and_learning_rate(tmp_path: Path) -> None:
    runs = [options_for(name, tmp_path, tmp_path, 400, 256, "WTR00003") for name in NETWORKS]
    assert len({run.model.partition("-")[0] for run in runs}) == 4
    own = ("model", "learning_rate", "out")
    others = [{key: value for key, value in vars(run).items() if key not in own} for run in runs]
    assert all(options == others[0] for options in others)


def test_the_card_that_ships_is_of_the_model_that_ships() -> None:
    model = shipped_model()
    card = model.path.with_suffix(".md").read_text()
    assert model.manifest.files[model.path.name] in card, "make it again: python -m benchmarks.card"
    for heading in ("Intended use", "Training data and their owners", "How good it is", "Limits"):
        assert f"## {heading}" in card


def test_a_card_is_not_made_from_figures_of_another_file(figures: dict[str, Any], folder: Path) -> None:
    with pytest.raises(UsageError, match="the figures are of a model with sha256"):
        make_card(["--figures", str(folder / "accuracy.json")])


def test_a_card_holds_the_figures_that_were_measured(figures: dict[str, Any]) -> None:
    model = shipped_model()
    sha256 = model.manifest.files[model.path.name]
    card = to_card(model, {**figures, "model": {**figures["model"], "sha256": sha256}})
    assert f"{figures['sets']['k5']['methods']['network']['pooled_iou']['value']:.3f} [" in card
    assert "copyright KARI" in card
    assert "of a step before" in card
    assert "quick run" in card


@pytest.mark.realdata
def test_real_tiles_are_measured_in_the_same_way(realdata: Path, folder: Path) -> None:
    measured = measure(folder, "--data", str(realdata), "--folds", str(folder / "none"))
    assert measured["sets"]["k5"] == {"missing": f"no folds in {folder / 'none'}"}
    assert 0 <= measured["sets"]["etci"]["methods"][OTSU]["pooled_iou"]["value"] <= 1
