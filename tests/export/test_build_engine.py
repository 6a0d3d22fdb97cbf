from __future__ import annotations

import dataclasses
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from export.accuracy import Accuracy
from export.artefacts import GateMissed, Workshop, check_space, find_source
from export.build_engine import BuildOptions, _told_apart, build_engine, main
from export.graph import write_model
from export.to_onnx import main as export_main
from sarwater.errors import (
    DataError,
    DependencyMissing,
    ExportError,
    HashMismatch,
    ModelNotFound,
    ModelUnknown,
    OutputError,
    UsageError,
)
from sarwater.gpu import Gpu
from sarwater.manifest import ModelManifest, sha256_of
from sarwater.metrics import LARGEST_IOU_LOSS
from sarwater.models import find_model, shipped_model
from sarwater.tensorrt_library import Library
from tests.conftest import CHECKOUT
from tests.export.conftest import SMALL, TILE_PX, be_quick, speckle
from tests.export.test_samples import write_tiff
from train.finetuning.start import start_path

rtx = pytest.importorskip("tensorrt_rtx")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with engines/ in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "engines"


def small_build(onnx: Path, folder: Path) -> BuildOptions:
    workshop = Workshop(folder=folder, tile_px=TILE_PX, say=lambda text: None)
    return BuildOptions(str(onnx), workshop, flavor="rtx", max_batch=2, opt_batch=1, from_onnx=True)


@pytest.fixture
def options(folder: Path, make_onnx: Callable[[str], Path]) -> BuildOptions:
    """A build in an empty folder."""
    return small_build(make_onnx(SMALL), folder)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, make_onnx: Callable[[str], Path]) -> Path:
    folder = tmp_path_factory.mktemp("built") / "engines"
    with pytest.MonkeyPatch.context() as patch:
        be_quick(patch)
        build_engine(small_build(make_onnx(SMALL), folder))
    return folder


@pytest.fixture
def built(once: Path, options: BuildOptions) -> BuildOptions:
    """The same build, already done."""
    shutil.copytree(once, options.workshop.folder)
    return options


ENGINE = f"unet-w16-fp16-{TILE_PX}-rtx.engine"
FP16 = f"unet-w16-fp16-{TILE_PX}.onnx"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_one_command_makes_every_file_up_to_the_engine(
    folder: Path, make_onnx: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--from-onnx", str(make_onnx(SMALL)), "--flavor", "rtx", "--tile", "64", "--max-batch", "2"]
    assert main(argv) == 0
    assert names(folder) == {
        "unet-w16-fp32-64.onnx",
        "unet-w16-fp32-64.json",
        "unet-w16-fp16-64.onnx",
        "unet-w16-fp16-64.json",
        "unet-w16-fp16-64-rtx.engine",
        "unet-w16-fp16-64-rtx.json",
        "unet-w16-fp16-64-rtx.layers.json",
    }
    said = "".join(capsys.readouterr())
    assert f"{SMALL}.onnx" in said
    assert "no GPU here" in said
    assert "IoU" in said


def test_the_manifest_of_an_engine_says_what_it_is_bound_to(built: BuildOptions) -> None:
    path, manifest = build_engine(dataclasses.replace(built, compute_capabilities=("8.6", "8.9")))
    assert path.name == f"unet-w16-fp16-{TILE_PX}-rtx-sm86-sm89.engine"
    assert manifest == ModelManifest.read(path.with_suffix(".json"))
    manifest.verify(path)
    engine = manifest.engine
    assert engine is not None
    assert (engine.flavor, engine.compute_capability, engine.max_batch) == ("tensorrt-rtx", "8.6, 8.9", 2)
    assert engine.library_version == rtx.__version__
    assert "graph_iou_loss" in engine.accuracy


def test_what_has_not_changed_is_not_made_again(built: BuildOptions) -> None:
    folder = built.workshop.folder
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    said: list[str] = []
    again = dataclasses.replace(built, workshop=dataclasses.replace(built.workshop, say=said.append))
    assert build_engine(again)[0] == folder / ENGINE
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert "is up to date" in said[-1]


@pytest.mark.parametrize(
    "change",
    [{"max_batch": 3}, {"workspace_bytes": 1 << 28}, {"version_compatible": True}],
    ids=["batch", "workspace", "version"],
)
def test_another_option_builds_the_plan_again_and_nothing_else(built: BuildOptions, change: dict[str, object]) -> None:
    engine, onnx = built.workshop.folder / ENGINE, built.workshop.folder / FP16
    before = engine.stat().st_mtime_ns, onnx.stat().st_mtime_ns
    build_engine(dataclasses.replace(built, **change))  # type: ignore[arg-type]
    assert engine.stat().st_mtime_ns > before[0]
    assert onnx.stat().st_mtime_ns == before[1]


def test_a_damaged_engine_is_built_again(built: BuildOptions) -> None:
    path = built.workshop.folder / ENGINE
    path.write_bytes(b"damaged")
    _, manifest = build_engine(built)
    manifest.verify(path)
    assert path.stat().st_size > 100


def test_force_makes_everything_again(built: BuildOptions) -> None:
    files = [built.workshop.folder / name for name in (ENGINE, FP16)]
    before = [path.stat().st_mtime_ns for path in files]
    build_engine(dataclasses.replace(built, workshop=dataclasses.replace(built.workshop, force=True)))
    assert all(path.stat().st_mtime_ns > then for path, then in zip(files, before, strict=True))


def test_int8_builds_from_the_same_command(built: BuildOptions) -> None:
    path, manifest = build_engine(dataclasses.replace(built, precision="int8"))
    assert manifest.precision == "int8"
    assert path.with_name(f"unet-w16-int8-{TILE_PX}.onnx").is_file()


def test_a_converted_onnx_builds_without_a_conversion(built: BuildOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Jetson: no torch, no ModelOpt, the precision is what the file has."""
    for name in ("torch", "modelopt"):
        monkeypatch.setitem(sys.modules, name, None)
    elsewhere = dataclasses.replace(built.workshop, folder=built.workshop.folder.with_name("jetson"))
    onnx = str(built.workshop.folder / FP16)
    path, manifest = build_engine(dataclasses.replace(built, model=onnx, workshop=elsewhere))
    assert (path.parent.name, manifest.precision) == ("jetson", "fp16")


def test_a_converted_onnx_cannot_become_another_precision(built: BuildOptions) -> None:
    onnx = str(built.workshop.folder / FP16)
    with pytest.raises(UsageError, match="is fp16 and cannot become int8; give the fp32 ONNX file"):
        build_engine(dataclasses.replace(built, model=onnx, precision="int8"))


def test_a_conversion_that_misses_its_gate_is_set_aside(options: BuildOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LARGEST_IOU_LOSS, "fp16", -1.0)
    with pytest.raises(GateMissed, match=r"misses its gate.*largest relative errors: /.*--calibration DIR") as caught:
        build_engine(options)
    assert caught.value.path.name == f"{FP16}.rejected"
    assert caught.value.path.is_file()
    assert not list(options.workshop.folder.glob("*fp16*.onnx"))
    assert not list(options.workshop.folder.glob("*.engine"))


def test_what_was_kept_without_gates_is_refused_by_the_next_build_with_gates(
    built: BuildOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LARGEST_IOU_LOSS, "fp16", -1.0)
    build_engine(dataclasses.replace(built, workshop=dataclasses.replace(built.workshop, gates=False)))
    with pytest.raises(GateMissed):
        build_engine(built)


def test_an_interrupted_build_leaves_nothing_half_written(built: BuildOptions) -> None:
    def interrupted(phase: str, done: int, steps: int) -> None:
        if phase != "reading the model":
            raise KeyboardInterrupt

    before = names(built.workshop.folder)
    with pytest.raises(KeyboardInterrupt):
        build_engine(dataclasses.replace(built, compute_capabilities=("8.6",)), interrupted)
    assert names(built.workshop.folder) == before


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow past 100 kB: writing more fails as on a full disk. Only for so long: the log of the tests may be
    a file, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(options: BuildOptions) -> None:
    with full_disk(), pytest.raises(OutputError, match=r"cannot be written .*free some space"):
        build_engine(options)
    assert names(options.workshop.folder) == set()


def test_too_little_space_is_seen_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"MB free, x\.engine needs about"):
        check_space(tmp_path / "x.engine", 1 << 60)


def test_an_onnx_that_was_changed_is_refused(options: BuildOptions, tmp_path: Path) -> None:
    copy = tmp_path / "copy.onnx"
    manifest = ModelManifest.read(Path(options.model).with_suffix(".json"))
    copy.write_bytes(Path(options.model).read_bytes()[:-1] + b"\x00")
    renamed = dataclasses.replace(manifest, files={copy.name: sha256_of(Path(options.model))})
    copy.with_suffix(".json").write_text(renamed.to_json())
    with pytest.raises(HashMismatch, match="the file was changed or damaged"):
        build_engine(dataclasses.replace(options, model=str(copy)))


def test_a_tile_that_the_strides_do_not_divide_is_refused(
    options: BuildOptions, make_onnx: Callable[[str], Path]
) -> None:
    workshop = options.workshop.of(96)
    with pytest.raises(ExportError, match="the network's strides do not divide it"):
        build_engine(dataclasses.replace(options, model=str(make_onnx("deepunet")), workshop=workshop))


def test_an_unknown_model_lists_the_families(folder: Path) -> None:
    with pytest.raises(ModelUnknown, match=r"unknown model; expected .* one of: fcn, unet, deepunet, hrnet"):
        find_source("segformer", Workshop(folder=folder))


@pytest.mark.parametrize("name", ["fcn-vgg16", "unet-w64", "hrnet-w48"])
def test_a_network_that_does_not_ship_is_never_answered_by_another(folder: Path, name: str) -> None:
    for command in (main, export_main):
        with pytest.raises(ModelNotFound, match=rf"{name}: .*hrnet-w18-small.*sarwater fit .*runs/.*latest") as caught:
            command([name])
        assert caught.value.exit_code == 2
    assert not folder.exists()


def test_what_was_made_here_takes_no_name(
    folder: Path, make_checkpoint: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run and an export of the network that ships, in the folders where they go."""
    run = tmp_path / "runs" / "hrnet-w18-small" / "2026-01-01"
    run.mkdir(parents=True)
    shutil.copy(make_checkpoint("hrnet-w18-small"), run / "best.pt")
    (run.parent / "latest").symlink_to(run.name)
    quiet = Workshop(folder=folder, tile_px=TILE_PX, say=lambda text: None)
    assert export_main(["runs/hrnet-w18-small/latest", "--tile", str(TILE_PX)]) == 0
    assert "hrnet-w18-small, fp32, sha256" in capsys.readouterr().out
    mine = find_model(f"engines/hrnet-w18-small-fp32-{TILE_PX}.onnx")
    for name in ("hrnet", "hrnet-w18-small"):
        assert find_model(name) == shipped_model()
        assert start_path(name) == shipped_model().path
        assert find_source(name, quiet).path == shipped_model().path
    own = find_source("runs/hrnet-w18-small/latest", quiet)
    assert own.sha256 == mine.manifest.files[mine.path.name]
    assert start_path("runs/hrnet-w18-small/latest") == Path("runs/hrnet-w18-small/latest/best.pt")


def test_a_crash_after_a_missed_gate_cannot_leave_a_model(
    options: BuildOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What misses its gate never has a model's name, not for a moment."""
    seen = []
    write = write_model

    def write_and_look(content: bytes, manifest: ModelManifest, path: Path) -> ModelManifest:
        seen.append(path.name)
        return write(content, manifest, path)

    monkeypatch.setattr("export.graph.write_model", write_and_look)
    monkeypatch.setitem(LARGEST_IOU_LOSS, "fp16", -1.0)
    with pytest.raises(GateMissed):
        build_engine(options)
    assert seen == [f"unet-w16-fp32-{TILE_PX}.onnx", f"{FP16}.rejected"]


def test_each_file_is_read_once_and_written_once(
    options: BuildOptions, monkeypatch: pytest.MonkeyPatch, make_onnx: Callable[[str], Path]
) -> None:
    opened: list[str] = []
    read_bytes = Path.read_bytes

    def read_and_count(path: Path) -> bytes:
        opened.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read_and_count)
    build_engine(options)
    assert [name for name in opened if name.endswith(".onnx")] == [make_onnx(SMALL).name]


def test_an_int8_onnx_is_one_command(folder: Path, make_onnx: Callable[[str], Path]) -> None:
    assert export_main([str(make_onnx(SMALL)), "--precision", "int8", "--tile", str(TILE_PX)]) == 0
    assert names(folder) == {f"unet-w16-int8-{TILE_PX}.onnx", f"unet-w16-int8-{TILE_PX}.json"}


def test_compute_capabilities_come_in_every_spelling() -> None:
    for words, given in ((("hrnet", "8.9"), ("8.6",)), (("hrnet",), ("8.6,8.9",)), (("hrnet",), ("8.6", "8.9"))):
        assert _told_apart(words, given) == (["hrnet"], ("8.6", "8.9"))
    assert _told_apart(("8.6",), ()) == (["8.6"], ())


def test_labels_that_are_coded_otherwise_are_declared(built: BuildOptions, tmp_path: Path) -> None:
    pixels = speckle(1, TILE_PX)[0, 0].astype(np.uint16)
    label = np.where(np.arange(TILE_PX) < TILE_PX // 3, 2, 1).astype(np.uint8)[None].repeat(TILE_PX, axis=0)
    write_tiff(tmp_path / "data" / "img" / "A.tif", pixels)
    write_tiff(tmp_path / "data" / "mask" / "A_label.tif", label)
    argv = ["--from-onnx", built.model, "--flavor", "rtx", "--tile", str(TILE_PX), "--max-batch", "2"]
    with pytest.raises(DataError, match=r"label values 1, 2.*--labels land=VALUE"):
        main([*argv, "--calibration", str(tmp_path / "data")])
    assert main([*argv, "--calibration", str(tmp_path / "data"), "--labels", "land=1,water=2"]) == 0


def test_a_checkpoint_without_torch_says_what_to_do(
    make_checkpoint: Callable[[str], Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("torch", "train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DependencyMissing, match=r"exporting a checkpoint needs torch.*--from-onnx FILE"):
        find_source(str(make_checkpoint(SMALL)), Workshop(folder=folder))


def test_a_checkpoint_is_exported_and_taken(make_checkpoint: Callable[[str], Path], folder: Path) -> None:
    said: list[str] = []
    source = find_source(str(make_checkpoint(SMALL)), Workshop(folder=folder, tile_px=TILE_PX, say=said.append))
    assert (source.manifest.name, source.manifest.tile_px, source.path) == (SMALL, TILE_PX, None)
    assert not folder.exists()
    assert said == [
        f"model unet-w16, checkpoint, sha256 {sha256_of(make_checkpoint(SMALL))[:12]}… ({make_checkpoint(SMALL)})"
    ]


@pytest.fixture
def machine_with_gpu(built: BuildOptions, monkeypatch: pytest.MonkeyPatch) -> BuildOptions:
    """A machine with a GPU. It is the only part that is not real: the graph on the CPU gives its answers."""
    from export.runners import backend_runner

    monkeypatch.setattr("export.build_engine.ENGINE_SAMPLES", 1)
    fp16 = built.workshop.folder / FP16
    gpu = Gpu("Test GPU", "8.6")
    monkeypatch.setattr("export.build_engine.choose_library", lambda *asked: Library("tensorrt-rtx", rtx, gpu))
    monkeypatch.setattr("export.runners.plan_network", lambda plan, manifest: backend_runner(fp16).open())
    return dataclasses.replace(built, max_batch=3)


def test_an_engine_is_measured_on_the_gpu_that_is_there(machine_with_gpu: BuildOptions) -> None:
    path, manifest = build_engine(machine_with_gpu)
    assert manifest.engine is not None
    assert 0 < manifest.engine.accuracy["max_error"] < 0.1
    assert ModelManifest.read(path.with_suffix(".json")) == manifest


def test_an_engine_that_fails_on_the_gpu_is_set_aside(
    machine_with_gpu: BuildOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = Accuracy.passes
    calls: list[Accuracy] = []

    def fails_second(self: Accuracy, precision: str) -> bool:
        calls.append(self)
        return passes(self, precision) and len(calls) < 2

    monkeypatch.setattr(Accuracy, "passes", fails_second)
    with pytest.raises(GateMissed, match=r"on this GPU, though its graph passed.*polygraphy run") as caught:
        build_engine(machine_with_gpu)
    assert caught.value.path.name == f"{ENGINE}.rejected"
    assert not (machine_with_gpu.workshop.folder / ENGINE).exists()


@pytest.mark.parametrize(
    "argv", [[], ["hrnet", "--from-onnx", "x.onnx"], ["hrnet", "--opt-batch", "9"], ["hrnet", "--precision", "fp8"]]
)
def test_options_that_cannot_be_are_usage_errors(argv: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        main(argv)
    assert caught.value.exit_code == 2


def test_an_impossible_tile_is_one_clear_line(folder: Path, make_onnx: Callable[[str], Path]) -> None:
    argv = ["--from-onnx", str(make_onnx(SMALL)), "--flavor", "rtx", "--tile", "100"]
    command = [sys.executable, "-m", "export.build_engine", *argv]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=120)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[1:] == ["sarwater build-engine: tile_px is 100, expected a multiple of 32"]


def test_the_layers_of_a_plan_are_saved(built: BuildOptions) -> None:
    layers = json.loads((built.workshop.folder / ENGINE).with_suffix(".layers.json").read_text())
    assert {"half", "float"} <= {layer["output_type"] for layer in layers}
