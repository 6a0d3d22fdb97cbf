"""A product folder, given by one of its files or by the folder around it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sarwater.errors import SceneIncomplete, SceneUnreadable
from sarwater.manifest import Channel
from sarwater.request import Request
from sarwater.scenes.readers import find_reader, members, open_here, open_model_input
from tests.support.deliveries import whole, write_k5_folder, write_safe
from tests.support.product_folders import write_radarsat2, write_rcm, write_terrasarx
from tests.support.rasters import lake_scene, write_geotiff

HEIGHT, WIDTH = 90, 70
DN = lake_scene(HEIGHT, WIDTH, lake=300, land=2000)
GAINS = np.linspace(2e7, 4e7, WIDTH)
SIGMA0 = (Channel("sar", "sigma0_linear"),)


def radarsat2(folder: Path) -> Path:
    return write_radarsat2(folder / "RS2_OK1", {"HH": DN, "HV": DN // 2}, GAINS)


def rcm(folder: Path) -> Path:
    return write_rcm(folder / "RCM1_OK1", {"HH": DN, "HV": DN // 2}, GAINS)


def terrasarx(folder: Path) -> Path:
    return write_terrasarx(folder / "TSX1_SAR__MGD_1", {"HH": DN, "HV": DN // 2}, {"HH": 1e-5, "HV": 2e-5})


def safe(folder: Path) -> Path:
    return write_safe(folder / "S1A_1.SAFE", {"vv": DN, "vh": DN // 2})


def kompsat5(folder: Path) -> Path:
    return write_k5_folder(folder / "K5_20240726091530", DN)


KINDS = {
    "RADARSAT-2": (radarsat2, "imagery_HV.tif"),
    "RCM": (rcm, "imagery/*HV*.tif"),
    "TerraSAR-X": (terrasarx, "IMAGEDATA/*HV*.tif"),
    "Sentinel-1": (safe, "measurement/*vh*.tif*"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_a_product_folder_is_refused_with_the_way_to_its_calibrated_pixels(
    tmp_path: Path, kind: str
) -> None:
    write, pattern = KINDS[kind]
    folder = write(tmp_path)
    (image,) = folder.glob(pattern)
    with pytest.raises(SceneUnreadable, match="calibration and time; give the folder") as refused:
        open_here(image)
    path, option, polarisation = shlex.split(str(refused.value).partition("give the folder: ")[2])
    assert option == "--polarisations"
    with open_model_input(Path(path), SIGMA0, Request(polarisations=(polarisation,))) as advised:
        pixels = whole(advised)[0]
    with open_model_input(folder, SIGMA0, Request(polarisations=("vh" if kind == "Sentinel-1" else "hv",))) as scene:
        assert np.array_equal(pixels, whole(scene)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_was_taken_out_of_its_folder_is_read(tmp_path: Path, kind: str) -> None:
    write, pattern = KINDS[kind]
    (image,) = write(tmp_path).glob(pattern)
    alone = image.rename(tmp_path / image.name)
    with open_here(alone) as scene:
        assert np.array_equal(scene.read(), DN // 2)


def test_an_image_beside_which_the_product_is_not_whole_is_read(tmp_path: Path) -> None:
    folder = radarsat2(tmp_path)
    (folder / "product.xml").unlink()
    with open_here(folder / "imagery_HH.tif") as scene:
        assert np.array_equal(scene.read(), DN)


@pytest.mark.parametrize("part", ["metadata/product.xml", "metadata/calibration/lutSigma_HH.xml"])
def test_any_other_file_of_a_product_says_which_folder_to_give(tmp_path: Path, part: str) -> None:
    folder = rcm(tmp_path)
    with pytest.raises(SceneUnreadable, match="It lies in a RCM folder: give the folder, ") as refused:
        open_here(folder / part)
    (given,) = shlex.split(str(refused.value).partition("give the folder, ")[2])
    with open_here(Path(given)) as scene:
        assert scene.format.startswith("RCM")


@pytest.mark.parametrize("write", [kompsat5, radarsat2, rcm, terrasarx, safe])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_folder_around_one_product_is_that_product(tmp_path: Path, write: Callable[[Path], Path], depth: int) -> None:
    outer = tmp_path / "download"
    inner = outer / "again" if depth == 2 else outer
    inner.mkdir(parents=True)
    (outer / "readme.txt").write_text("how to cite")
    folder = write(inner)
    with open_here(folder) as expected, open_here(outer) as scene:
        assert np.array_equal(scene.read(), expected.read())
        assert (scene.acquired, scene.georeference) == (expected.acquired, expected.georeference)
        assert [band.calibration is None for band in scene.bands] == [
            band.calibration is None for band in expected.bands
        ]
    assert members(outer) == members(folder), "one identity"


@pytest.mark.parametrize("write", [kompsat5, radarsat2, rcm, terrasarx, safe])
def test_a_product_in_a_folder_of_its_own_name_is_read(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    (tmp_path / "here").mkdir()
    folder = write(tmp_path / "here")
    outer = tmp_path / folder.name
    (tmp_path / "here").rename(outer)
    with open_here(outer) as scene, open_here(outer / folder.name) as expected:
        assert np.array_equal(scene.read(), expected.read())


def test_a_folder_of_scenes_names_them(tmp_path: Path) -> None:
    paths = [write_geotiff(tmp_path / f"{number}.tif", DN) for number in range(2)]
    with pytest.raises(SceneUnreadable) as refused:
        open_here(tmp_path)
    assert shlex.split(str(refused.value).partition("one by one: ")[2]) == list(map(str, paths))


def test_a_folder_of_several_products_names_them(tmp_path: Path) -> None:
    folders = [write_k5_folder(tmp_path / f"K5_2024072609153{number}", DN) for number in range(2)]
    with pytest.raises(
        SceneUnreadable, match=r"a folder of 2 scenes, and no product; give them one by one: "
    ) as refused:
        open_here(tmp_path)
    assert shlex.split(str(refused.value).partition("one by one: ")[2]) == [str(folder) for folder in folders]


@pytest.mark.parametrize("write", [radarsat2, safe])
def test_a_scene_beside_a_product_makes_two(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    write(tmp_path)
    write_geotiff(tmp_path / "other.tif", DN)
    with pytest.raises(SceneUnreadable, match=r"a folder of 2 scenes.*other\.tif"):
        open_here(tmp_path)


def test_a_folder_around_a_product_that_is_not_whole_says_what_it_lacks(tmp_path: Path) -> None:
    (safe(tmp_path) / "manifest.safe").unlink()
    assert find_reader(tmp_path) is None, "it is still coming"
    with pytest.raises(SceneIncomplete, match=r"S1A_1\.SAFE: lacks manifest\.safe"):
        open_here(tmp_path)
