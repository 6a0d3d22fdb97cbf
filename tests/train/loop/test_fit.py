"""Real runs of a small network on small lakes."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from sarwater.errors import CheckpointInvalid, OutputError, UsageError
from sarwater.models import checkpoint_path
from tests.support.deliveries import write_safe
from tests.support.lakes import lake, write_lakes, write_raster
from tests.support.runs import options_for, same_tensors
from train.fit import fit, main
from train.loop.machine import choose_precision
from train.loop.options import FitOptions
from train.loop.plan import check_room
from train.loop.trainer import TrainingRun
from train.models import Segmenter, architecture
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

CHECKOUT = Path(__file__).resolve().parents[3]


def as_arguments(options: FitOptions) -> list[str]:
    return [
        *(options.model, "--data", options.data[0], "--holdout", "WTR2", "--crop", "32", "--batch", str(options.batch)),
        *("--steps", str(options.steps), "--warmup", "2", "--evaluate-every", "3", "--log-every", "2"),
        *("--workers", str(options.workers), "--learning-rate", "0.003", "--ema", "0.5", "--no-tensorboard"),
        *("--precision", options.precision, "--out", str(options.out)),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}


def test_the_loss_falls_and_the_curve_has_a_row_per_interval(lakes: Path, tmp_path: Path) -> None:
    fit(options_for(lakes, tmp_path / "run", steps=120, evaluate_every=120, log_every=5, flips=False))
    rows = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    assert rows[0] == ["step", "learning_rate", "loss", "pooled_iou", "mean_tile_iou"]
    assert [int(row[0]) for row in rows[1:]] == list(range(5, 121, 5))
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
    update = TrainingRun.update

    def interrupted(state: TrainingRun, pixels: torch.Tensor, truth: torch.Tensor) -> None:
        if state.step == interrupted_after:
            raise KeyboardInterrupt
        update(state, pixels, truth)

    options = options_for(lakes, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(options)
    fit(options.but(resume=True))
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
    fit(options.but(resume=True))
    assert log.read_bytes() == (whole_run / "log.csv").read_bytes(), f"seed {seed}"
    assert same_tensors(tmp_path / "run" / "last.pt", whole_run / "last.pt"), f"seed {seed}"


def test_two_processes_average_their_gradients_over_crops_that_differ(lakes: Path, tmp_path: Path) -> None:
    # Without normalisation layers and with every pixel valid, two batches of 2 are one batch of 4.
    plain = ["--no-batch-norm", "--loss", "bce", "--rotation", "0", "--zoom", "1", "--collar", "0"]
    plain += ["--optimiser", "sgd", "--ema", "0"]
    options = options_for(lakes, tmp_path / "two", steps=4)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*command, "train.fit", *as_arguments(options), *plain],
        env=environment(), cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 process(es)") == 1, "one process talks"
    changes = {"batch_norm": False, "loss": "bce", "rotation_deg": 0.0, "zoom": 1.0, "collar": 0.0}
    changes |= {"optimiser": "sgd", "ema": 0.0}
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


def test_scenes_smaller_than_the_crop_and_of_several_sizes_are_trained_on(tmp_path: Path) -> None:
    data = write_lakes(tmp_path / "data", 3, 24)
    amplitude, label = lake(80, 7)
    write_raster(data / "img" / "LARGE.tif", amplitude)
    write_raster(data / "mask" / "LARGE_label.tif", label)
    fit(options_for(data, tmp_path / "run", crop_px=64, steps=3, evaluate_every=3))
    assert load_checkpoint(tmp_path / "run" / "last.pt").training["data"][0]["count"] == 3


def test_a_sentinel1_folder_is_trained_on(tmp_path: Path) -> None:
    for number in range(2):
        amplitude, label = lake(96, number)
        write_safe(tmp_path / "data" / "img" / f"S1A_{number}.SAFE", {"vv": amplitude, "vh": amplitude})
        write_raster(tmp_path / "data" / "mask" / f"S1A_{number}_label.tif", label)
    main(
        [
            *("unet", "--data", str(tmp_path / "data"), "--holdout", "50%", "--polarisations", "vh", "--steps", "2"),
            *("--crop", "32", "--batch", "2", "--no-tensorboard", "--workers", "0", "-o", str(tmp_path / "run")),
        ]
    )
    training = load_checkpoint(tmp_path / "run" / "last.pt").training
    assert (training["step"], training["options"]["polarisations"]) == (2, ["vh"])


def test_latest_names_the_newest_run(lakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    latest = tmp_path / "runs" / "unet-w16" / "latest"
    for name in ("20260101T000000Z", "20260102T000000Z"):
        fit(options_for(lakes, Path("runs/unet-w16") / name, steps=1))
        assert os.readlink(latest) == name
    fit(options_for(lakes, tmp_path / "elsewhere", steps=1))
    assert os.readlink(latest) == "20260102T000000Z"
    assert not (tmp_path / "latest").exists()
    assert load_checkpoint(checkpoint_path(latest)).architecture.name == "unet-w16"
    assert sorted(os.listdir(latest.parent)) == ["20260101T000000Z", "20260102T000000Z", "latest"]


class TestRefusals:
    """Each before the first step, naming the file or the flag."""

    def refuse(self, error: type[Exception], match: str, lakes: Path, out: Path, **changes: Any) -> None:
        with pytest.raises(error, match=match):
            fit(options_for(lakes, out, **changes))
        assert not (out / "log.csv").exists()

    def test_a_crop_that_the_network_cannot_take(self, lakes: Path, tmp_path: Path) -> None:
        self.refuse(
            UsageError, r"--crop 40: unet-w16 takes multiples of 32 px, such as 32", lakes, tmp_path, crop_px=40
        )

    def test_a_batch_with_nothing_to_normalise_over(self, lakes: Path, tmp_path: Path) -> None:
        self.refuse(
            UsageError, "--crop 16 --batch 1: the coarsest map", lakes, tmp_path, crop_px=16, batch=1, scales=False
        )

    def test_an_unknown_channel(self, lakes: Path, tmp_path: Path) -> None:
        self.refuse(UsageError, "no channel 'xx'; expected some of: sar, hh", lakes, tmp_path, channels="xx")

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
    update = TrainingRun.update

    def spoiled(state: TrainingRun, pixels: torch.Tensor, truth: torch.Tensor) -> None:
        update(state, pixels * (float("nan") if state.step == 5 else 1), truth)

    monkeypatch.setattr(TrainingRun, "update", spoiled)
    with pytest.raises(UsageError, match=r"step 6: the loss is nan, training diverged; lower --learning-rate"):
        fit(options_for(lakes, tmp_path / "run"))
    kept = load_checkpoint(tmp_path / "run" / "last.pt")
    assert kept.training["step"] == 3
    assert all(tensor.isfinite().all() for tensor in kept.state_dict.values())
