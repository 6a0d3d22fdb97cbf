from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from runtime.backends import Backend
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from runtime.products.qgis_style import ALIASES
from sarwater.scenes.raster import gdal
from tests.support.rasters import lake_scene, write_geotiff

QGIS = """
import json, sys
from qgis.core import QgsApplication, QgsRasterLayer, QgsVectorLayer
application = QgsApplication([], False)
application.initQgis()
mask, confidence = (QgsRasterLayer(path, "") for path in sys.argv[1:3])
water = QgsVectorLayer(sys.argv[3] + "|layername=water", "", "ogr")
print("FOUND" + json.dumps({
    "classes": [[entry.value, entry.label, entry.color.alpha()] for entry in mask.renderer().classes()],
    "ramp": [label for label, _ in confidence.renderer().legendSymbologyItems()],
    "fields": [water.attributeDisplayName(index) for index in range(water.fields().count())],
    "fill": water.renderer().symbol().color().name(),
}), flush=True)
application.exitQgis()
"""


@pytest.fixture
def made(tmp_path: Path, backend: Backend, out: Path) -> Path:
    publish(process_scene(write_geotiff(tmp_path / "a.tif", lake_scene(90, 100)), backend, out))
    return out


def entries(path: Path, tag: str) -> list[dict[str, str]]:
    return [entry.attrib for entry in ElementTree.fromstring(path.read_text()).iter(tag)]


def test_the_legend_names_the_classes_that_occur_and_land_is_transparent(made: Path) -> None:
    shown = {int(entry["value"]): entry for entry in entries(made / "a_water.qml", "paletteEntry")}
    occurring = set(np.unique(gdal.Open(str(made / "a_water.tif")).ReadAsArray()).tolist()) - {255}
    assert set(shown) == occurring
    assert {value: entry["alpha"] for value, entry in shown.items()} == {
        value: "0" if value == 0 else "255" for value in occurring
    }
    assert [entry["label"] for entry in shown.values()] == [{0: "land", 1: "water"}[value] for value in shown]


def test_a_band_says_what_its_values_mean(made: Path) -> None:
    mask, confidence = (gdal.Open(str(made / f"a_{name}.tif")) for name in ("water", "confidence"))
    assert mask.GetRasterBand(1).GetDescription() == "Water mask"
    assert confidence.GetRasterBand(1).GetDescription() == "Probability of water, percent"


def test_the_confidence_is_a_ramp_in_percent(made: Path) -> None:
    stops = entries(made / "a_confidence.qml", "item")
    assert [stop["label"] for stop in stops] == ["0 %", "50 %", "100 %"]


def test_the_polygons_bring_their_style(made: Path) -> None:
    dataset = gdal.OpenEx(str(made / "a_water.gpkg"))
    (style,) = list(dataset.GetLayer("layer_styles"))
    assert (style["f_table_name"], style["useAsDefault"]) == ("water", 1)
    assert "Area (m²)" in style["styleQML"]
    assert dataset.GetLayer(0).GetName() == "water"  # what opens the first layer finds the water


def test_a_style_of_another_mask_is_made_anew(made: Path, tmp_path: Path, backend: Backend) -> None:
    (made / "a_water.qml").write_text("<qgis/>")
    publish(process_scene(tmp_path / "a.tif", backend, made))
    assert entries(made / "a_water.qml", "paletteEntry")


def test_a_real_qgis_shows_it_so(made: Path, tmp_path: Path) -> None:
    python = "/usr/bin/python3"  # where Debian's QGIS lives
    there = subprocess.run([python, "-c", "import qgis.core"], capture_output=True).returncode == 0
    if not there:
        pytest.skip("no QGIS on this machine")
    # Without the paths of this environment, whose NumPy is another.
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    files = [str(made / name) for name in ("a_water.tif", "a_confidence.tif", "a_water.gpkg")]
    done = subprocess.run(
        [python, "-c", QGIS, *files],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
        env=quiet | {"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path)},
    )  # fmt: skip
    line = next((line for line in done.stdout.splitlines() if line.startswith("FOUND")), None)
    assert line, (done.returncode, done.stderr)
    found: dict[str, Any] = json.loads(line.removeprefix("FOUND"))
    assert {tuple(entry) for entry in found["classes"]} <= {(0, "land", 0), (1, "water", 255)}
    assert found["ramp"] == ["0 %", "50 %", "100 %"]
    assert found["fields"] == ["fid", *ALIASES.values()]
    assert found["fill"] == "#266bb3"
