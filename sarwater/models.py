"""Where models live, and which file MODEL means, in every folder and on every command.

hrnet, hrnet-w18-small, hrnet-int8       the model of that family that ships: in engines/ of a checkout, in
                                         sarwater/shipped/ of a wheel; nothing that was made here takes its name
engines/my-lakes.onnx, x.engine          a file, with its manifest beside it
runs/hrnet-w18-small/latest              a training run: its best.pt, for the commands that take checkpoints
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from sarwater.errors import ModelNotFound
from sarwater.families import FAMILIES, model_name, parse_model
from sarwater.manifest import PRECISIONS, ModelManifest, manifest_path

DEFAULT_MODEL = "hrnet"
RUNS = Path("runs")
ENGINES = Path("engines")
SUFFIXES = (".onnx", ".engine", ".pt")


@dataclass(frozen=True)
class Model:
    """A model file and its manifest; the manifest's hash has not been checked yet."""

    path: Path
    manifest: ModelManifest

    @property
    def title(self) -> str:
        """What every command says of the model that it took: name, precision, the first digits of its hash."""
        digest = self.manifest.files.get(self.path.name, "")
        return f"{self.manifest.name}, {self.manifest.precision}, sha256 {digest[:12]}… ({self.path})"


def find_model(name_or_path: str | Path) -> Model:
    """The model that MODEL means, for those who run it. Raises ModelUnknown, ModelNotFound, ManifestInvalid."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or looks_like_path(text):
        return open_model(Path(name_or_path))
    precision = next((kind for kind in PRECISIONS if text.endswith(f"-{kind}")), "fp32")
    return shipped_model(precision, text.removesuffix(f"-{precision}"))


def shipped_model(precision: str = "fp32", name: str = DEFAULT_MODEL) -> Model:
    """The model of a family that ships. Raises ModelUnknown for a name that is no family or variant, ModelNotFound
    where none of that family, variant or precision ships, with those that do and how to train or convert it."""
    family, variant = parse_model(name)
    ships = model_name(family.name, family.ships) if family.ships is not None else None
    if ships is None or name not in (family.name, ships):
        wanted = model_name(family.name, variant)
        raise ModelNotFound(
            f"{name}: no model of that name ships; those that do: {', '.join(shipped_names())}. Train it: "
            f"`sarwater fit {wanted} --data DIR`, export it: `sarwater export {RUNS}/{wanted}/latest`, and name the "
            "file by its path"
        )
    file = f"{ships}.onnx" if precision == "fp32" else f"{ships}-{precision}.onnx"
    package = Path(__file__).resolve().parent
    for path in (package / "shipped" / file, package.parent / "engines" / file):
        if path.is_file():
            return open_model(path)
    raise ModelNotFound(
        f"{name}: {ships} does not ship in {precision}, expected it at {path}. Convert it: "
        f"`sarwater export {name} --precision {precision}`, then name it by its path"
    )


def shipped_models() -> list[Model]:
    """Every model file that ships, fp32 first."""
    found = []
    for name in shipped_names():
        for precision in PRECISIONS:
            with contextlib.suppress(ModelNotFound):
                found.append(shipped_model(precision, name))
    return found


def model_names() -> list[str]:
    """What a model that ships may be called: its family, itself, and with a precision."""
    found = []
    for family in FAMILIES.values():
        if family.ships is not None:
            found += [family.name, model_name(family.name, family.ships)]
    kinds = {model.manifest.precision for model in shipped_models()} - {"fp32"}
    return found + [f"{name}-{kind}" for name in found for kind in sorted(kinds)]


def shipped_names() -> list[str]:
    return [model_name(family.name, family.ships) for family in FAMILIES.values() if family.ships is not None]


def followed(path: Path) -> Path:
    """Where a link leads that has no manifest of its own beside it, as that to the model in force
    (runtime/activation.py); anything else is itself."""
    return path.resolve() if path.is_symlink() and not manifest_path(path).exists() else path


def open_model(path: Path) -> Model:
    """The model file at `path`, or that a link there leads to, with the manifest beside it. Raises ModelNotFound,
    ManifestInvalid."""
    path = followed(path)
    if path.is_dir() or (path.suffix == ".pt" and path.is_file()):
        raise ModelNotFound(
            f"{path}: a training run or a checkpoint, expected an .onnx or .engine file; make one of it: "
            f"`sarwater export {path}`"
        )
    if not path.is_file():
        raise ModelNotFound(
            f"{path}: no such model file; expected an .onnx or .engine file, or one of: {', '.join(shipped_names())}"
        )
    return Model(path, ModelManifest.read(manifest_path(path)))


def checkpoint_path(path: Path) -> Path:
    """The checkpoint at `path`: a file, or a run's folder, of which it is best.pt. Raises ModelNotFound."""
    if path.is_dir():
        path = path / "best.pt"
    if not path.is_file():
        raise ModelNotFound(
            f"{path}: no such checkpoint; expected a .pt file or a run's folder with best.pt: "
            f"`sarwater fit FAMILY --data DIR` makes one, {RUNS}/FAMILY/latest"
        )
    return path


def looks_like_path(name_or_path: str) -> bool:
    return "/" in name_or_path or Path(name_or_path).suffix in SUFFIXES
