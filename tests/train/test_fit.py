"""Real runs of a small network on small lakes."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sarwater.errors import CheckpointInvalid, DataError, OutputError, UsageError
from tests.train.lakes import lake, write_lakes
from train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.fit import fit
from train.machine import choose_precision
from train.models import Segmenter, architecture
from train.options import FitOptions
from train.plan import check_room
from train.predict import water_mask
from train.scores import score_tile
from train.state import State
from train.tiles import find_tiles

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lakes(tmp_path_factory.mktemp("lakes"), 3)


def options_for(lakes: Path, out: Path, **changes: Any) -> FitOptions:
    options = FitOptions(
        "unet-w16",
        data=(str(lakes),),
        holdout=("WTR2",),
        crop_px=32,
        batch=2,
        steps=8,
        warmup_steps=2,
        evaluate_every=3,
        log_every=2,
        workers=0,
        learning_rate=3e-3,
        ema=0.5,
        precision="fp32",  # so that sums come out alike on every processor
        tensorboard=False,
        out=out,
    )
    return replace(options, **changes)


def as_arguments(options: FitOptions) -> list[str]:
    return [
        *(options.model, "--data", options.data[0], "--holdout", "WTR2", "--crop", "32", "--batch", str(options.batch)),
        *("--steps", str(options.steps), "--warmup", "2", "--evaluate-every", "3", "--log-every", "2"),
        *("--workers", str(options.workers), "--learning-rate", "0.003", "--ema", "0.5", "--no-tensorboard"),
        *("--precision", options.precision, "--out", str(options.out)),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}


def same_tensors(a: Path, b: Path) -> bool:
    first, second = (load_checkpoint(path).state_dict for path in (a, b))
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole_run(lakes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    fit(options_for(lakes, out))
    return out


def test_the_loss_falls_and_the_curve_has_a_row_per_interval(lakes: Path, tmp_path: Path) -> None:
    fit(options_for(lakes, tmp_path / "run", steps=80, evaluate_every=80, log_every=5, flips=False))
    rows = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    assert rows[0] == ["step", "learning_rate", "loss", "pooled_iou", "mean_tile_iou"]
    assert [int(row[0]) for row in rows[1:]] == list(range(5, 81, 5))
    assert float(rows[-1][2]) < 0.7 * float(rows[1][2])
    assert float(rows[-1][3]) > 0.8


def test_the_checkpoint_says_where_it_comes_from(whole_run: Path) -> None:
    checkpoint = load_checkpoint(whole_run / "best.pt")
    training = checkpoint.training
    assert checkpoint.architecture.name == training["model"] == "unet-w16"
    assert training["held_out"] == ["WTR2 rows 0..96"]
    assert training["data"][0]["tiles"] == ["WTR0", "WTR1"]
    assert 0 <= training["metrics"]["held_out"]["pooled_iou"] <= 1
    assert str(whole_run) not in str(training)


def test_a_run_is_a_function_of_its_options(lakes: Path, whole_run: Path, tmp_path: Path) -> None:
    fit(options_for(lakes, tmp_path / "again", workers=1))
    assert (tmp_path / "again" / "log.csv").read_bytes() == (whole_run / "log.csv").read_bytes()
    assert same_tensors(tmp_path / "again" / "best.pt", whole_run / "best.pt")


@pytest.mark.parametrize("interrupted_after", [2, 4, 7])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    lakes: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted_after: int
) -> None:
    update = State.update

    def interrupted(state: State, pixels: torch.Tensor, truth: torch.Tensor) -> None:
        if state.step == interrupted_after:
            raise KeyboardInterrupt
        update(state, pixels, truth)

    options = options_for(lakes, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(State, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(options)
    fit(replace(options, resume=True))
    assert (tmp_path / "run" / "log.csv").read_bytes() == (whole_run / "log.csv").read_bytes()
    assert same_tensors(tmp_path / "run" / "last.pt", whole_run / "last.pt")


def test_a_run_killed_at_a_random_moment_resumes_to_the_same_curve(
    lakes: Path, whole_run: Path, tmp_path: Path
) -> None:
    options = options_for(lakes, tmp_path / "run")
    log = tmp_path / "run" / "log.csv"
    seed = random.randrange(1000)
    rng = random.Random(seed)
    rows = rng.randrange(0, 6)
    process = subprocess.Popen(
        [sys.executable, "-m", "train.fit", *as_arguments(options)], env=environment(), cwd=CHECKOUT
    )
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > rows):
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.2))
    process.send_signal(signal.SIGKILL)
    process.wait()
    fit(replace(options, resume=True))
    assert log.read_bytes() == (whole_run / "log.csv").read_bytes(), f"seed {seed}"
    assert same_tensors(tmp_path / "run" / "last.pt", whole_run / "last.pt"), f"seed {seed}"


def test_two_processes_average_their_gradients_over_crops_that_differ(lakes: Path, tmp_path: Path) -> None:
    # Without normalisation layers and with every pixel valid, two batches of 2 are one batch of 4.
    plain = ["--no-batch-norm", "--loss", "bce", "--rotation", "0", "--zoom", "1", "--optimiser", "sgd", "--ema", "0"]
    options = options_for(lakes, tmp_path / "two", steps=4)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*command, "train.fit", *as_arguments(options), *plain],
        env=environment(), cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 process(es)") == 1, "one process talks"
    changes = {"batch_norm": False, "loss": "bce", "rotation_deg": 0.0, "zoom": 1.0, "optimiser": "sgd", "ema": 0.0}
    fit(options_for(lakes, tmp_path / "one", steps=4, batch=4, **changes))
    two, one = (load_checkpoint(tmp_path / name / "last.pt").state_dict for name in ("two", "one"))
    start = Segmenter(architecture("unet-w16", batch_norm=False)).net.state_dict()
    moved = max((one[name] - start[name]).abs().max() for name in one)
    assert all(torch.allclose(two[name], one[name], atol=float(moved) * 1e-3) for name in one)


def test_bf16_trains_on_a_cpu(lakes: Path, tmp_path: Path) -> None:
    fit(options_for(lakes, tmp_path / "run", steps=2, precision="bf16"))
    tensors = load_checkpoint(tmp_path / "run" / "best.pt").state_dict.values()
    assert all(tensor.isfinite().all() for tensor in tensors)
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_takes_bf16_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    assert choose_precision("auto", torch.device("cpu")) == expected


def test_fp16_is_refused_on_a_cpu() -> None:
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        choose_precision("fp16", torch.device("cpu"))


def test_gim_is_a_second_channel(lakes: Path, tmp_path: Path) -> None:
    fit(options_for(lakes, tmp_path / "run", steps=2, channels="sar,gim"))
    arch = load_checkpoint(tmp_path / "run" / "best.pt").architecture
    assert [(channel.name, channel.unit) for channel in arch.channels] == [
        ("sar", "amplitude_dn"),
        ("gim", "incidence_dn"),
    ]


def test_a_run_starts_from_another_ones_weights(lakes: Path, whole_run: Path, tmp_path: Path, capsys: Any) -> None:
    fit(options_for(lakes, tmp_path / "run", steps=1, init=whole_run / "best.pt", channels="sar,gim"))
    assert "1 adapted, 0 skipped, 0 start fresh" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "run" / "best.pt").training["init"]["name"] == "best.pt"


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_normalisation_keeps_its_statistics_and_nothing_else(
    lakes: Path, whole_run: Path, tmp_path: Path, frozen: bool
) -> None:
    begun_with = whole_run / "last.pt"
    fit(options_for(lakes, tmp_path / "run", init=begun_with, frozen_norm=frozen, steps=2))
    before, after = (load_checkpoint(path).state_dict for path in (begun_with, tmp_path / "run" / "last.pt"))
    statistics = {name for name in before if "running_" in name}
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics) == frozen
    kernels = {name for name in before if before[name].dim() == 4}
    assert kernels
    assert not any(torch.equal(before[name], after[name]) for name in kernels)


def test_the_gate_alone_is_trained_on_the_answers_of_a_network_that_stays_as_it_is(
    whole_run: Path, tmp_path: Path, capsys: Any
) -> None:
    begun_with = whole_run / "last.pt"
    lakes = write_lakes(tmp_path / "larger", 3, 160)
    fit(options_for(lakes, tmp_path / "run", init=begun_with, coarse=True, part="gate", crop_px=128, steps=3))
    assert "4 start fresh" in capsys.readouterr().err
    before, after = (load_checkpoint(path).state_dict for path in (begun_with, tmp_path / "run" / "last.pt"))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(after[name].abs().sum() > 0 for name in after.keys() - before.keys())


def test_the_gate_alone_needs_a_network_and_two_answers() -> None:
    for options in ({"coarse": True}, {"init": Path("best.pt")}):
        with pytest.raises(UsageError, match="--part gate"):
            FitOptions("unet", data=("lakes",), part="gate", **options)  # type: ignore[arg-type]


def test_the_level_alone_is_learned_from_crops_whose_gain_it_is_told(
    whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_with = whole_run / "last.pt"
    lakes = write_lakes(tmp_path / "larger", 3, 160)
    options = {"coarse": True, "level_control": True, "part": "level", "gain_db": 6.0, "shoreline": 0.0}
    run = options_for(
        lakes,
        tmp_path / "run",
        init=begun_with,
        crop_px=128,
        steps=120,
        batch=4,
        learning_rate=1e-2,
        evaluate_every=120,
        **options,
    )
    fit(run)
    before, after = (load_checkpoint(path).state_dict for path in (begun_with, tmp_path / "run" / "last.pt"))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert after.keys() - before.keys() > {"level.readout.2.weight"}
    segmenter = load_checkpoint(tmp_path / "run" / "last.pt").segmenter()
    amplitude = torch.from_numpy(lake(128, seed=3)[0].astype("float32"))[None, None]
    with torch.no_grad():
        off_db = [float(segmenter.off_level_db(amplitude * 10 ** (gain_db / 20))) for gain_db in (-5, 0, 5)]
    assert off_db[0] < off_db[1] < off_db[2]
    assert off_db[2] - off_db[0] > 5

    update = State.update

    def interrupted(state: State, pixels: torch.Tensor, truth: torch.Tensor) -> None:
        if state.step == 75:
            raise KeyboardInterrupt
        update(state, pixels, truth)

    cut = replace(run, out=tmp_path / "cut", evaluate_every=60)
    with monkeypatch.context() as patched:
        patched.setattr(State, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(cut)
    fit(replace(cut, resume=True))
    resumed = load_checkpoint(tmp_path / "cut" / "last.pt").state_dict
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in after.items())


def test_the_level_alone_needs_a_network_its_control_and_a_gain() -> None:
    whole = {"coarse": True, "level_control": True, "init": Path("best.pt"), "gain_db": 3.0}
    for missing in ({"level_control": False}, {"init": None}, {"gain_db": 0.0}):
        with pytest.raises(UsageError, match="--part level"):
            FitOptions("unet", data=("lakes",), part="level", **{**whole, **missing})  # type: ignore[arg-type]


def test_halfway_is_what_is_scored_and_kept_also_by_a_resumed_run(
    lakes: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_for(lakes, tmp_path / "run", init=whole_run / "last.pt", halfway=True, steps=4, evaluate_every=2)
    fit(options)
    last = load_checkpoint(tmp_path / "run" / "last.pt")
    assert last.resume is not None
    assert last.training["averaged_with"] == "last.pt"
    begun, learned = load_checkpoint(whole_run / "last.pt").state_dict, last.resume["average"]
    for name, tensor in last.state_dict.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (begun[name] + learned[name]) / 2)
    (scored,) = last.training["metrics"]["held_out"]["tiles"]
    (tile,) = (tile for tile in find_tiles(str(lakes)) if tile.name == scored["name"])
    mask = water_mask(last.segmenter(), tile, last.threshold)
    assert score_tile(tile.name, mask, tile.truth()).confusion.iou == scored["iou"]

    update = State.update

    def interrupted(state: State, pixels: torch.Tensor, truth: torch.Tensor) -> None:
        if state.step == 2:
            raise KeyboardInterrupt
        update(state, pixels, truth)

    again = replace(options, out=tmp_path / "again")
    with monkeypatch.context() as patch:
        patch.setattr(State, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(again)
    fit(replace(again, resume=True))
    assert same_tensors(tmp_path / "again" / "last.pt", tmp_path / "run" / "last.pt")


def test_halfway_needs_a_beginning() -> None:
    with pytest.raises(UsageError, match="--halfway"):
        FitOptions("unet", data=("lakes",), halfway=True)


def test_the_threshold_is_the_models_own_and_that_of_its_evaluation(lakes: Path, tmp_path: Path) -> None:
    water_px = []
    for threshold in (0.001, 0.999):
        fit(options_for(lakes, tmp_path / str(threshold), steps=3, threshold=threshold))
        last = load_checkpoint(tmp_path / str(threshold) / "last.pt")
        assert last.threshold == threshold
        (tile,) = last.training["metrics"]["held_out"]["tiles"]
        water_px.append(tile["recall"])
    assert water_px[0] > water_px[1]


def test_epochs_count_the_training_area(lakes: Path, tmp_path: Path) -> None:
    # Two tiles of 96 x 96 px hold 18 crops of 32 x 32 px, 9 batches of 2.
    fit(options_for(lakes, tmp_path / "run", steps=1, epochs=1))
    assert load_checkpoint(tmp_path / "run" / "last.pt").training["step"] == 9


def test_sources_are_mixed_with_weights(lakes: Path, tmp_path: Path) -> None:
    other = write_lakes(tmp_path / "other", 1, 64, west_m=600_000.0)
    for path in other.rglob("WTR0*"):
        path.rename(path.with_name(path.name.replace("WTR0", "LAKE0")))
    fit(options_for(lakes, tmp_path / "run", steps=1, data=(f"{lakes}=1", f"{other}=0.25"), holdout=("LAKE0@50",)))
    data = load_checkpoint(tmp_path / "run" / "best.pt").training["data"]
    assert [source["weight"] for source in data] == [1.0, 0.25]


class TestRefusals:
    """Each before the first step, naming the file or the flag."""

    def refuse(self, error: type[Exception], match: str, lakes: Path, out: Path, **changes: Any) -> None:
        with pytest.raises(error, match=match):
            fit(options_for(lakes, out, **changes))
        assert not (out / "log.csv").exists()

    def test_a_crop_that_the_network_cannot_take(self, lakes: Path, tmp_path: Path) -> None:
        self.refuse(
            UsageError, r"--crop 40: unet-w16 takes multiples of 16 px, such as 32", lakes, tmp_path, crop_px=40
        )

    def test_a_batch_with_nothing_to_normalise_over(self, lakes: Path, tmp_path: Path) -> None:
        self.refuse(UsageError, "--crop 16 --batch 1: the coarsest map", lakes, tmp_path, crop_px=16, batch=1)

    def test_an_unknown_channel(self, lakes: Path, tmp_path: Path) -> None:
        self.refuse(UsageError, "no channel 'xx'; expected some of: sar, hh", lakes, tmp_path, channels="xx")

    def test_a_crop_larger_than_the_tile(self, lakes: Path, tmp_path: Path) -> None:
        self.refuse(DataError, r"WTR0_K5_T\.tif: 96 x 96 px is smaller", lakes, tmp_path, crop_px=128)

    def test_an_unknown_holdout(self, lakes: Path, tmp_path: Path) -> None:
        self.refuse(UsageError, "--holdout WTR7: no such tile", lakes, tmp_path, holdout=("WTR7",))

    def test_a_weight_that_is_no_number(self, lakes: Path, tmp_path: Path) -> None:
        self.refuse(UsageError, "the weight is 'x'", lakes, tmp_path, data=(f"{lakes}=x",))

    def test_a_checkpoint_of_another_network(self, lakes: Path, tmp_path: Path) -> None:
        other = Segmenter(architecture("deepunet"))
        save_checkpoint(tmp_path / "other.pt", Checkpoint(other.arch, other.net.state_dict()))
        self.refuse(CheckpointInvalid, r"other\.pt: of deepunet", lakes, tmp_path, init=tmp_path / "other.pt")

    def test_a_folder_that_holds_a_run(self, lakes: Path, whole_run: Path) -> None:
        with pytest.raises(UsageError, match="holds a run already; --resume"):
            fit(options_for(lakes, whole_run))

    def test_a_run_to_resume_that_is_not_there(self, lakes: Path, tmp_path: Path) -> None:
        self.refuse(UsageError, "no run to resume", lakes, tmp_path, resume=True)

    def test_resuming_with_other_options(self, lakes: Path, whole_run: Path) -> None:
        with pytest.raises(UsageError, match=r"last\.pt: .*batch is 3, the run began with 2"):
            fit(options_for(lakes, whole_run, resume=True, batch=3))

    def test_resuming_with_another_network(self, lakes: Path, whole_run: Path) -> None:
        with pytest.raises(CheckpointInvalid, match=r"last\.pt: a checkpoint of unet-w16, expected unet-w32"):
            fit(options_for(lakes, whole_run, resume=True, model="unet-w32"))

    def test_a_disk_too_small_for_the_checkpoints(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=rf"{tmp_path}/new: .* GB free, the checkpoints .* need 9000000\.00 GB"):
            check_room(tmp_path / "new", 10**15)
        with pytest.raises(OutputError, match=r"need 11000000\.00 GB"):
            check_room(tmp_path / "new", 10**15, halfway=True)


def test_a_full_disk_keeps_the_old_checkpoint_and_names_the_file(tmp_path: Path) -> None:
    segmenter = Segmenter(architecture("unet-w16"))
    path = tmp_path / "best.pt"
    save_checkpoint(path, Checkpoint(segmenter.arch, {}))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # writing beyond fails as on a full disk
    try:
        with pytest.raises(OutputError, match=r"best\.pt: cannot write the checkpoint"):
            save_checkpoint(path, Checkpoint(segmenter.arch, segmenter.net.state_dict()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["best.pt"]


def test_a_diverging_run_stops_and_keeps_its_last_good_checkpoint(
    lakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = State.update

    def spoiled(state: State, pixels: torch.Tensor, truth: torch.Tensor) -> None:
        update(state, pixels * (float("nan") if state.step == 5 else 1), truth)

    monkeypatch.setattr(State, "update", spoiled)
    with pytest.raises(UsageError, match=r"step 6: the loss is nan, training diverged; lower --learning-rate"):
        fit(options_for(lakes, tmp_path / "run"))
    kept = load_checkpoint(tmp_path / "run" / "last.pt")
    assert kept.training["step"] == 3
    assert all(tensor.isfinite().all() for tensor in kept.state_dict.values())
