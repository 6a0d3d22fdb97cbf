"""`make demo`: a scene dropped in a folder becomes a water mask, by the same daemon that runs at a ground station.

    python demo/run.py [SCENE]

Without SCENE, the bundled simulated scene is used, and the mask is scored against its truth. It was made by
`python -m train.simulator.simulate --out demo --count 1 --size 1536 --seed 3 --type coast`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from runtime.latency import LatencyRecord
from sarwater.command import command, run
from sarwater.errors import SarwaterError, SceneMissing
from sarwater.metrics import confusion

HERE = Path(__file__).resolve().parent
BUNDLED = HERE / "img" / "SIM00001_k5.tif"
TRUTH = HERE / "mask" / "SIM00001_k5_label.tif"

STAGES = {
    "settle": "settle: until the file is surely complete; not in the total",
    "queue": "queue: complete to claimed",
    "open": "open: validation",
    "first rows": "first rows: decoded",
    "network": "network: reading, inference and writing, side by side",
    "finish": "finish: the products' ends",
    "sync": "sync: fsync",
    "publish": "publish: link",
}


@command(
    "demo", "Drop a scene in a folder and see what the daemon makes of it.", examples="make demo SCENE=my_scene.tif"
)
@click.argument("scene", default=BUNDLED, type=click.Path(path_type=Path))
def demo(scene: Path) -> int:
    scene = scene.resolve()
    if not scene.is_file():
        raise SceneMissing(f"{scene}: no such file; give a SAR scene: make demo SCENE=path")
    out = HERE / "out"
    incoming, outgoing, state = out / "incoming", out / "outgoing", out / "state"
    shutil.rmtree(out, ignore_errors=True)
    for folder in (incoming, outgoing, state):
        folder.mkdir(parents=True)
    _deliver(scene, incoming)
    watch = [sys.executable, "-m", "sarwater", "watch", "--once"]
    watch += ["--incoming", str(incoming), "--outgoing", str(outgoing), "--state", str(state)]
    code = subprocess.run(watch, cwd=HERE.parent).returncode
    masks = sorted(outgoing.glob("*_water.tif"))
    if code or not masks:
        raise SarwaterError(f"{scene.name}: the daemon made no mask (exit {code}); its reason is above and in {state}")
    _report(json.loads((state / "latency.jsonl").read_text().splitlines()[-1]), masks[0], scene)
    return 0


def _deliver(scene: Path, incoming: Path) -> None:
    """As a downlink should: write under a name that the daemon ignores, then rename."""
    arriving = incoming / f".{scene.name}.part"
    shutil.copyfile(scene, arriving)
    os.rename(arriving, incoming / scene.name)


def _report(record: dict[str, Any], mask: Path, scene: Path) -> None:
    console = Console(highlight=False)
    table = Table(title="Where the time went", title_justify="left", box=None)
    table.add_column("stage")
    table.add_column("ms", justify="right")
    for name, seconds in LatencyRecord.from_dict(record).stages_s.items():
        table.add_row(STAGES[name], f"{seconds * 1000:,.0f}")
    table.add_row("total: complete to visible", f"{record['total_s'] * 1000:,.0f}")
    console.print()
    console.print(table)
    console.print(
        f"\n{record['width_px']} x {record['height_px']} px, {record['tiles']} tiles "
        f"({record['tiles_skipped']} of nodata skipped), {record['backend']} on {record['device']}"
    )
    console.print("\nProducts")
    for path in sorted(mask.parent.iterdir()):
        console.print(f"  {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}", soft_wrap=True)
    for picture in mask.parent.glob("*_quicklook.png"):
        console.print(f"\nLook at it: {picture}", soft_wrap=True)
    if scene == BUNDLED:
        counts = confusion(_classes(mask), _classes(TRUTH))
        console.print(f"\nAgainst the simulated truth: IoU {counts.iou:.3f}, F1 {counts.f1:.3f}")


def _classes(path: Path) -> Any:
    """A mask (0, 1, 255) or a label (0, 255) as uint8 classes."""
    from osgeo import gdal

    gdal.UseExceptions()
    pixels = gdal.Open(str(path)).ReadAsArray()
    return (pixels == 255).astype("uint8") if path == TRUTH else pixels


if __name__ == "__main__":
    sys.exit(run(demo, program="make demo"))
