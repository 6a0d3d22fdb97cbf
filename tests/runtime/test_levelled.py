"""A scene that is brought to the usual level: DN stay DN up to the network, and the mask is that of brighter pixels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from runtime.backends import open_backend
from runtime.pipeline import infer_scene, open_for
from sarwater.models import Model
from sarwater.request import Request
from tests.support.models import box_model
from tests.support.rasters import write_geotiff


@pytest.fixture
def model(tmp_path: Path) -> Model:
    model = box_model(tmp_path / "box.onnx", dark=40)
    return Model(model.path, dataclasses.replace(model.manifest, level_db=-14.0))


def mask_and_dtype(model: Model, path: Path, request: Request) -> tuple[np.ndarray, np.ndarray, np.dtype]:
    with open_backend(model, "cpu") as backend, open_for(backend, path, request) as scene:
        parts = list(infer_scene(scene, backend, request))
        assert abs(scene.change.gain_db) > 3
        return np.concatenate([p.mask for p in parts]), np.concatenate([p.confidence for p in parts]), scene.dtype


@pytest.mark.parametrize("nodata", [0, 7])
def test_dn_are_multiplied_on_their_way_into_the_network_with_the_mask_of_pixels_that_are_brighter(
    tmp_path: Path, model: Model, nodata: int
) -> None:
    rng = np.random.default_rng(3)
    pixels = np.maximum(200 * np.sqrt(rng.gamma(4, 1 / 4, (200, 300))), 8).astype(np.uint16)
    pixels[60:120, 100:200] //= 8
    pixels[:, :30] = nodata
    request = Request(nodata=float(nodata))
    small = mask_and_dtype(model, write_geotiff(tmp_path / "dn.tif", pixels), request)
    wide = mask_and_dtype(model, write_geotiff(tmp_path / "float.tif", pixels.astype(np.float32)), request)
    assert (small[2], wide[2]) == (np.uint16, np.float32)
    assert (small[0] == wide[0]).all()
    assert (small[1] == wide[1]).all()
    assert set(np.unique(small[0])) == {0, 1, 255}
