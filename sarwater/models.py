"""Where models live, and which file `MODEL` on a command line means.

runs/<family>-<variant>/<date>/best.pt   checkpoints of train.fit (PyTorch)
engines/*.onnx, *.engine                 what export made here
the model that ships                     engines/hrnet-w18-small*.onnx in a checkout, sarwater/shipped/ in a wheel
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sarwater.errors import ManifestInvalid, ModelNotFound
from sarwater.manifest import FAMILIES, ModelManifest, manifest_path

SHIPPED = {"fp32": "hrnet-w18-small.onnx", "int8": "hrnet-w18-small-int8.onnx"}
"""By precision: the master, and what a CPU computes nearly twice as fast."""
RUNS = Path("runs")
ENGINES = Path("engines")


@dataclass(frozen=True)
class Model:
    """A model file and its manifest; the manifest's hash has not been checked yet."""

    path: Path
    manifest: ModelManifest


def shipped_model(precision: str = "fp32") -> Model:
    """The default model, in a checkout or an installed wheel."""
    package, name = Path(__file__).resolve().parent, SHIPPED[precision]
    for path in (package / "shipped" / name, package.parent / "engines" / name):
        if path.is_file():
            return open_model(path)
    raise ModelNotFound(f"{name}: the model that ships is missing from this installation; install sarwater again")


def open_model(path: Path) -> Model:
    """The model file at `path` with the manifest beside it. Raises ModelNotFound, ManifestInvalid."""
    if not path.is_file():
        raise ModelNotFound(
            f"{path}: no such model file; expected an .onnx or .engine file, or one of: {', '.join(FAMILIES)}"
        )
    return Model(path, ModelManifest.read(manifest_path(path)))


def resolve_onnx(name_or_path: str, engines: Path = ENGINES) -> Model:
    """MODEL for those who run networks: a file, or a family name, which means the newest fp32 ONNX of that family
    under `engines`, else the model that ships.

    A name may carry its variant (`unet-w16`), and `int8` at its end for that precision (`hrnet-int8`). Raises
    ModelNotFound where nothing of that name was exported.
    """
    if looks_like_path(name_or_path):
        return open_model(Path(name_or_path))
    family, name = check_family(name_or_path), name_or_path.removesuffix("-int8")
    precision = "fp32" if name == name_or_path else "int8"
    found = [
        model
        for model in _exported(engines)
        if name in (family, model.manifest.name) and model.manifest.precision == precision
    ]
    if precision == "fp32":
        found = [model for model in found if "source" not in model.manifest.recipe]
    if found:
        return max(found, key=lambda model: model.path.stat().st_mtime_ns)
    shipped = shipped_model(precision)
    if name in (shipped.manifest.family, shipped.manifest.name):
        return shipped
    raise ModelNotFound(
        f"{name_or_path}: no model of that name in {engines}/, and the one that ships is {shipped.manifest.name}; "
        f"train and export one (`sarwater-fit {family} --data DIR`, `sarwater-export {family}`)"
    )


def newest_checkpoint(name: str, runs: Path = RUNS) -> Path | None:
    """The newest `best.pt` of a family or family-variant under `runs`, or None."""
    folders = [folder for folder in runs.glob("*") if folder.name == name or folder.name.split("-")[0] == name]
    checkpoints = [path for folder in folders for path in folder.glob("*/best.pt")]
    return max(checkpoints, key=lambda path: path.stat().st_mtime_ns, default=None)


def looks_like_path(name_or_path: str) -> bool:
    return "/" in name_or_path or Path(name_or_path).suffix in (".onnx", ".engine", ".pt")


def check_family(name: str) -> str:
    """The family of `hrnet` or `hrnet-w48`; raises ModelNotFound with the list of families."""
    family = name.split("-")[0]
    if family not in FAMILIES:
        raise ModelNotFound(f"{name}: unknown model; expected a file or one of: {', '.join(FAMILIES)}")
    return family


def _exported(engines: Path) -> list[Model]:
    models = []
    for path in engines.glob("*.onnx"):
        try:
            models.append(open_model(path))
        except ManifestInvalid:
            continue  # an ONNX file of someone else's; asked for by path it is refused with the reason
    return models
