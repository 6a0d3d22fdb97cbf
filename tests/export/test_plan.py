from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from export.graph import Graph, read_graph
from export.plan import PlanOptions, _cache_path, _load_timings, _save_timings, build_plan, choose_library
from export.precision import to_fp16, to_int8
from export.samples import simulated_samples
from sarwater.errors import DependencyMissing, DeviceUnavailable, ExportError, UsageError
from sarwater.gpu import Gpu
from sarwater.tensorrt_library import Library
from tests.export.conftest import TILE_PX, speckle
from tests.support.models import box_model

rtx = pytest.importorskip("tensorrt_rtx")

SMALLEST = ("hrnet-w18-small", "unet-w16", "deepunet")
LARGER = ("hrnet-w18", "hrnet-w32", "hrnet-w48", "unet-w32", "unet-w64", "fcn-vgg16")


def ignore(phase: str, done: int, steps: int) -> None:
    pass


def options(**changes: object) -> PlanOptions:
    return PlanOptions(**{"tile_px": TILE_PX, "channels": 1, "max_batch": 2, "opt_batch": 1, **changes})  # type: ignore[arg-type]


def library(flavor: str = "tensorrt-rtx", gpu: Gpu | None = None) -> Library:
    return Library(flavor, rtx, gpu)


def build(graph: Graph, **changes: object) -> bytes:
    plan, layers = build_plan(library(), graph.proto.SerializeToString(), options(**changes), ignore)
    assert layers
    return plan


def all_precisions(name: str, make_onnx: Callable[[str], Path]) -> None:
    """fp32, fp16 and int8 graphs of one network, each built into a plan."""
    graph = read_graph(make_onnx(name))
    tiles = speckle(1, TILE_PX, count=1)
    probes = simulated_samples(graph.manifest.channels, TILE_PX, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.precision.CALIBRATION_METHODS", ("max",))
        patch.setattr("export.precision.INT8_TARGET_LOSS", 1.0)
        fp16 = to_fp16(graph, tiles, {})
        int8 = to_int8(graph, tiles, probes, {}, ignore)
    sizes = [len(build(each)) for each in (graph, fp16, int8)]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_of_a_family_builds_in_every_precision(name: str, make_onnx: Callable[[str], Path]) -> None:
    all_precisions(name, make_onnx)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LARGER)
def test_every_larger_variant_builds_in_every_precision(name: str, make_onnx: Callable[[str], Path]) -> None:
    all_precisions(name, make_onnx)


def test_progress_is_told_while_building(small_graph: Graph) -> None:
    told: list[tuple[str, int, int]] = []
    build_plan(library(), small_graph.proto.SerializeToString(), options(), lambda *event: told.append(event))
    assert len(told) > 5
    assert all(0 <= done <= steps for _, done, steps in told)


def test_an_interrupt_stops_the_build(small_graph: Graph) -> None:
    def interrupted(phase: str, done: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(library(), small_graph.proto.SerializeToString(), options(), interrupted)


def test_a_node_that_cannot_be_parsed_is_named(small_graph: Graph) -> None:
    import onnx

    proto = onnx.ModelProto()
    proto.CopyFrom(small_graph.proto)
    node = next(node for node in proto.graph.node if node.op_type == "Relu")
    node.op_type = "Bernoulli"
    with pytest.raises(ExportError, match=rf"node {node.name} \(Bernoulli\) cannot be parsed"):
        build_plan(library(), proto.SerializeToString(), options(), ignore)


def test_a_plan_can_be_bound_to_some_gpus(small_graph: Graph) -> None:
    assert len(build(small_graph, compute_capabilities=("8.6",))) > 0


def test_an_unknown_gpu_is_refused_with_the_choices(small_graph: Graph) -> None:
    with pytest.raises(
        UsageError, match=r"--compute-capability 9\.0: TensorRT-RTX .* builds for 7\.5, .*8\.6, .*12\.1"
    ):
        build(small_graph, compute_capabilities=("9.0",))


def test_workspace_and_version_compatibility_are_accepted(small_graph: Graph) -> None:
    assert build(small_graph, workspace_bytes=1 << 28, version_compatible=True)


def test_a_dla_core_needs_tensorrt(small_graph: Graph) -> None:
    with pytest.raises(UsageError, match=r"only TensorRT .* builds for a DLA core"):
        build(small_graph, dla_core=0)


def test_a_dla_core_that_is_not_there_is_counted(small_graph: Graph) -> None:
    double = library("tensorrt", Gpu("Test GPU", "8.7"))
    with pytest.raises(DeviceUnavailable, match="--dla 0: this device has 0 DLA cores"):
        build_plan(double, small_graph.proto.SerializeToString(), options(dla_core=0), ignore)


def test_timings_are_kept_per_device_and_version(tmp_path: Path) -> None:
    double = library("tensorrt", Gpu("NVIDIA Jetson AGX Orin", "8.7"))
    path = _cache_path(double, options(timing_cache=tmp_path))
    assert path == tmp_path / f"nvidia-jetson-agx-orin-{rtx.__version__}.cache"
    assert _cache_path(library(), options(timing_cache=tmp_path)) is None


@pytest.mark.parametrize("content", [None, b"", b"not a cache"])
def test_a_missing_or_damaged_timing_cache_starts_afresh(tmp_path: Path, content: bytes | None) -> None:
    config = rtx.Builder(rtx.Logger(rtx.Logger.ERROR)).create_builder_config()
    path = tmp_path / "x.cache"
    if content is not None:
        path.write_bytes(content)
    _load_timings(config, path)
    _save_timings(config, path)
    assert path.stat().st_size > 0


def without_tensorrt(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def test_auto_takes_tensorrt_where_it_finds_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", rtx)
    monkeypatch.setattr("export.plan.first_gpu", lambda: Gpu("NVIDIA Jetson AGX Orin", "8.7"))
    assert choose_library("auto").flavor == "tensorrt"


def test_auto_takes_tensorrt_rtx_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", rtx)
    monkeypatch.setattr("export.plan.first_gpu", lambda: None)
    assert choose_library("auto").flavor == "tensorrt-rtx"


@pytest.mark.parametrize(
    ("name", "capability"), [("Orin", "8.7"), ("NVIDIA H200", "9.0"), ("NVIDIA B200", "10.0"), ("Thor", "11.0")]
)
def test_a_gpu_that_rtx_does_not_serve_is_told_before_building(
    monkeypatch: pytest.MonkeyPatch, name: str, capability: str
) -> None:
    without_tensorrt(monkeypatch, "tensorrt")
    monkeypatch.setattr("export.plan.first_gpu", lambda: Gpu(name, capability))
    with pytest.raises(DeviceUnavailable, match=rf"{name} has .* {capability}, .*8\.6.*TensorRT, not RTX") as caught:
        choose_library("auto")
    assert caught.value.exit_code == 78


def test_a_turing_gpu_has_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.plan.first_gpu", lambda: Gpu("Tesla T4", "7.5"))
    with pytest.raises(DeviceUnavailable, match=r"--compute-capability 7\.5"):
        choose_library("rtx")
    assert choose_library("rtx", ("7.5", "8.6")).gpu == Gpu("Tesla T4", "7.5")


def test_an_engine_for_other_gpus_is_built_on_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.plan.first_gpu", lambda: Gpu("NVIDIA H200", "9.0"))
    assert choose_library("rtx", ("8.9",)).gpu is None


def test_every_gpu_on_the_librarys_list_is_built_for(tmp_path: Path) -> None:
    listed = library().compute_capabilities
    assert {"7.5", "8.6", "8.9"} <= set(listed)
    assert list(listed) == sorted(listed, key=float)
    onnx_bytes = box_model(tmp_path / "box.onnx", tile_px=TILE_PX).path.read_bytes()
    plan, _ = build_plan(library(), onnx_bytes, options(compute_capabilities=listed), ignore)
    assert plan


def test_tensorrt_without_a_gpu_says_where_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", rtx)
    monkeypatch.setattr("export.plan.first_gpu", lambda: None)
    with pytest.raises(DeviceUnavailable, match=r"no NVIDIA GPU answers.*--flavor rtx"):
        choose_library("tensorrt")


def test_without_any_library_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without_tensorrt(monkeypatch, "tensorrt", "tensorrt_rtx")
    with pytest.raises(DependencyMissing, match=r"sarwater\[tensorrt\].*sarwater\[rtx\]"):
        choose_library("auto")


def test_type_stubs_alone_are_not_taken_for_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    with pytest.raises(DependencyMissing, match="no tensorrt in this Python"):
        choose_library("tensorrt")
