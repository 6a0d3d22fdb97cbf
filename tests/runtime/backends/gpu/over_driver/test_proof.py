"""The proof of an engine: TensorRT's half over the driver of the tests, against the fp32 graph on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.backends.gpu.over_driver.conftest import OverDriver
from tests.support.gpu_scenes import FLAVOURS, TILE_PX, as_engine, assert_nothing_left, install_stand_ins
from tests.support.models import box_model


def proven(engine: str, graph: str, refusal: str) -> None:
    install_stand_ins()
    from runtime.proof import prove
    from sarwater.errors import ProofFailed
    from sarwater.models import open_model

    said = ""
    try:
        proof = prove(open_model(Path(engine)), "gpu", open_model(Path(graph)))
        assert proof.device == "GPU of the tests"
        assert proof.changed_share is not None
        assert proof.changed_share < 1e-4  # two libraries round sums in two ways
        assert proof.reference_iou is not None
        assert abs(proof.reference_iou - proof.iou) < 1e-4
        assert proof.iou > 0.1
    except ProofFailed as error:
        said = str(error)
    assert bool(said) == bool(refusal), said
    assert refusal in said
    assert_nothing_left(engine)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(("dark", "refusal"), [(75.0, ""), (60.0, "% of the pixels differ; allowed in fp32")])
def test_an_engine_is_proven_on_the_gpu_and_a_wrong_one_refused(
    over_driver: OverDriver, tmp_path: Path, flavour: str, dark: float, refusal: str
) -> None:
    graph = box_model(tmp_path / "box.onnx", tile_px=TILE_PX, overlap_px=4, dark=75)
    built = box_model(tmp_path / "built.onnx", tile_px=TILE_PX, overlap_px=4, dark=dark)
    as_engine(built, tmp_path / "box-trt.engine", flavour)
    over_driver(proven, str(tmp_path / "box-trt.engine"), str(graph.path), refusal)
