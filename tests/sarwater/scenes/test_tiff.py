from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sarwater.errors import SceneError, SceneTruncated
from sarwater.scenes.tiff import check_structure, is_tiff
from tests.support.rasters import lake_scene, write_geotiff

LAYOUTS = {
    "strips": [],
    "deflated": ["COMPRESS=DEFLATE"],
    "tiles": ["TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=32"],
    "bigtiff": ["BIGTIFF=YES", "TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64"],
    "big-endian": ["ENDIANNESS=BIG"],
}


@pytest.fixture(params=LAYOUTS)
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_geotiff(tmp_path / "scene.tif", lake_scene(100, 150), options=LAYOUTS[request.param])


def test_a_whole_file_passes_and_tells_its_size(whole: Path) -> None:
    structure = check_structure(whole)
    assert (structure.width_px, structure.height_px) == (150, 100)
    assert structure.stored_bytes >= 150 * 100 * 2


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_a_file_cut_anywhere_is_refused(whole: Path, tmp_path: Path, share: float) -> None:
    data = whole.read_bytes()
    cut = tmp_path / "cut.tif"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SceneError):
        check_structure(cut)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 400), value=st.integers(0, 255))
def test_a_changed_byte_never_ends_in_another_error(whole: Path, tmp_path: Path, position: int, value: int) -> None:
    data = bytearray(whole.read_bytes())
    data[position] = value
    changed = tmp_path / "changed.tif"
    changed.write_bytes(data)
    with contextlib.suppress(SceneError):
        check_structure(changed)


def test_sparse_blocks_cost_nothing(tmp_path: Path) -> None:
    options = ["SPARSE_OK=TRUE", "TILED=YES", "COMPRESS=DEFLATE"]
    path = write_geotiff(tmp_path / "sparse.tif", np.zeros((1000, 1000), np.uint16), options=options)
    assert check_structure(path).stored_bytes == 0


def test_a_text_is_no_tiff(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_text("II, and nothing else")
    assert not is_tiff(tmp_path / "x.tif")


def test_an_end_in_the_middle_of_the_pixels_is_named(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "scene.tif", lake_scene(100, 150))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(SceneTruncated, match=r"send it again"):
        check_structure(path)
