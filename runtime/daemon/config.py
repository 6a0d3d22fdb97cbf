"""Settings of the daemon: one frozen model, filled from defaults, a TOML file, the environment, the command line.

A key `settle_s` is `settle_s = 2` in the file, `SARWATER_SETTLE_S=2` in the environment and `--set settle_s=2` as a
flag; lists of tables (`priority`, `product`) are JSON in the latter two.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from runtime.job import SCENE_UNITS
from sarwater.enlargement import MOST_COPIES
from sarwater.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - JetPack 6 has Python 3.10
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

ENVIRONMENT_PREFIX = "SARWATER_"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class PriorityRule(_Frozen):
    """Scenes whose name matches go before others; the first rule that matches counts."""

    glob: str
    """Pattern on the file or folder name, as in a shell."""
    priority: int
    """Higher goes first; scenes without a rule have 0."""


class ProductRule(_Frozen):
    """A scene that arrives as a folder of several files."""

    folder: str
    """Pattern on the folder's name, e.g. `*.SAFE`."""
    main: tuple[str, ...]
    """Patterns of the one file that is opened, relative to the folder; the first that matches counts."""
    members: tuple[str, ...] = ()
    """Patterns that each need at least one file before the product is complete."""

    def matches(self, name: str) -> bool:
        return fnmatchcase(name, self.folder)


class Config(_Frozen):
    """All that the daemon can be told. Paths that are relative count from the working directory."""

    incoming: Path
    """Folder that is watched for scenes."""
    outgoing: Path
    """Folder that receives the masks and their side products."""
    state: Path
    """Folder of the ledger, the scenes in work, `done/` and `quarantine/`; one mount with incoming."""
    model: str = "hrnet"
    """Model or engine: a file, or a family name."""
    device: str = "auto"
    """Where inference runs; `auto` decides by the model file and never falls back from GPU to CPU."""
    threshold: float | None = Field(None, gt=0, lt=1)
    """Probability from which a pixel is water; none means the model's own."""
    products: tuple[str, ...] = ("mask", "stac")
    """What is made of each scene; the mask always is."""
    polarisations: tuple[str, ...] = ()
    """What feeds the model's `sar` channels, by name (`vv`) or band number; none means the obvious ones."""
    unit: str | None = None
    """Unit of the pixels of every scene, such as `sigma0_db`; none means what each says. Others are refused."""
    nodata: float | None = None
    """Pixel value without a measurement in every scene; none means what each says, else 0."""
    enlarge: int | None = Field(None, ge=1, le=MOST_COPIES)
    """How many copies of each pixel the network sees along each axis; none goes by the pixel spacing of each scene."""

    ignore: tuple[str, ...] = (".*", "*.tmp", "*.part", "*.filepart", "*.crdownload", "*~")
    """Names that are still being written; a rename from one of them to another name completes a file."""
    accept: tuple[str, ...] = ("*",)
    """Names of files to take for scenes; others stay in the inbox and count as ignored."""
    settle_s: float = Field(5.0, ge=0)
    """How long inode, size and modification time stay the same before a file counts as complete."""
    scan_s: float = Field(10.0, gt=0)
    """Time between two scans of the inbox; events only make the daemon look sooner."""
    require_marker: bool = False
    """Take only files with a marker (`NAME.done`) or a manifest (`NAME.sha256`) beside them."""
    read_only_inbox: bool = False
    """Leave scenes where they are and remember them in the ledger alone."""
    after: Literal["done", "remove"] = "done"
    """What becomes of a scene once its mask is published: kept under state/done, or removed."""
    product: tuple[ProductRule, ...] = (
        ProductRule(folder="*.SAFE", main=("manifest.safe",), members=("measurement/*.tiff", "annotation/*.xml")),
        ProductRule(folder="K5_*", main=("K5_*_L1?.tif", "K5_*_L1?.h5"), members=("*_Aux.xml",)),
    )
    """Scenes that arrive as folders."""
    product_timeout_s: float = Field(3600.0, gt=0)
    """A folder product whose members are not all there after this time is quarantined."""
    priority: tuple[PriorityRule, ...] = ()
    """Which scenes go first; within one priority the order of arrival counts."""

    max_claimed: int = Field(2, ge=1)
    """Scenes taken out of the inbox at one time; the rest waits there."""
    max_attempts: int = Field(3, ge=1)
    """Transient failures of one scene before it is quarantined."""
    max_worker_deaths: int = Field(2, ge=1)
    """Workers that may die on one scene before it is quarantined."""
    max_interruptions: int = Field(10, ge=1)
    """Times that the whole daemon may die on one scene before it is quarantined."""
    retry_first_s: float = Field(10.0, ge=0)
    """Wait before the first retry; doubles with each further one, with jitter."""
    retry_cap_s: float = Field(900.0, ge=0)
    """Longest wait between two retries."""
    free_fraction: float = Field(0.05, ge=0, lt=1)
    """Share of the file system that stays free; below it (or twice the expected output) no scene is claimed."""

    max_input_bytes: int = Field(4 * 2**30, gt=0)
    """Largest input file."""
    max_pixels: int = Field(10**9, gt=0)
    """Largest scene."""
    max_expansion: int = Field(2000, gt=0)
    """Largest ratio of decoded to stored bytes, against decompression bombs; Deflate at its best reaches 1032."""
    scene_s: float = Field(3600.0, gt=0)
    """Longest time for one scene, from validation to the last byte."""
    stall_s: float = Field(120.0, gt=0)
    """Longest time without any progress before the worker counts as hanging and is killed."""
    start_s: float = Field(600.0, gt=0)
    """Longest time for the worker to open the model; a first start on a GPU may compile kernels."""
    stop_s: float = Field(8.0, gt=0)
    """Time that a stopping daemon gives the current batch before the worker is killed."""

    latency_log: Path | None = None
    """File of the latency records, one JSON line per scene; none means state/latency.jsonl."""
    latency_log_bytes: int = Field(64 * 2**20, ge=0)
    """Size at which the latency log is rotated; 0 leaves that to logrotate."""
    latency_log_keep: int = Field(5, ge=1)
    """Rotated latency logs to keep."""
    metrics_file: Path | None = None
    """Prometheus text file for the node exporter's textfile collector; none means state/metrics.prom."""
    metrics_port: int | None = Field(None, ge=1, le=65535)
    """Loopback port that serves the same metrics; none opens no port."""

    @field_validator("unit")
    @classmethod
    def _known_unit(cls, unit: str | None) -> str | None:
        if unit is not None and unit not in SCENE_UNITS:
            raise ValueError(f"expected one of: {', '.join(SCENE_UNITS)}")
        return unit

    @model_validator(mode="after")
    def _folders_apart(self) -> Config:
        folders = {name: Path(os.path.abspath(getattr(self, name))) for name in ("incoming", "outgoing", "state")}
        for name, folder in folders.items():
            for other, parent in folders.items():
                if name != other and (folder == parent or (other == "incoming" and parent in folder.parents)):
                    raise ValueError(f"{name} ({folder}) is, or lies in, {other} ({parent}); expected folders apart")
        return self

    @property
    def latency_path(self) -> Path:
        return self.latency_log or self.state / "latency.jsonl"

    @property
    def metrics_path(self) -> Path:
        return self.metrics_file or self.state / "metrics.prom"


def load(
    file: Path | None, flags: Mapping[str, str] | None = None, environment: Mapping[str, str] = os.environ
) -> Config:
    """Merge file, environment and flags (the later wins) into a Config.

    Raises ConfigurationError with the key and the place it came from.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    if file is not None:
        values.update(_read_toml(file))
        origin.update(dict.fromkeys(values, str(file)))
    for key in Config.model_fields:
        variable = ENVIRONMENT_PREFIX + key.upper()
        if variable in environment:
            values[key], origin[key] = _from_text(key, environment[variable]), f"environment variable {variable}"
    for key, text in (flags or {}).items():
        values[key], origin[key] = _from_text(key, text), "command line"
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, origin, str(file) if file else "settings")) from None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        return document
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror}); expected a TOML file") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
        raise ConfigurationError(f"{file}: not valid TOML: {error}") from None


def _from_text(key: str, text: str) -> Any:
    field = Config.model_fields.get(key)
    if field is not None and get_origin(field.annotation) is tuple:
        try:
            return json.loads(text)
        except ValueError:
            return text.split(",")
    return text


def _explain(error: ValidationError, origin: Mapping[str, str], where: str) -> str:
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    if not path:
        return f"{where}: {first['msg'].removeprefix('Value error, ')}"
    source = origin.get(str(first["loc"][0]), where)
    if first["type"] == "missing":
        return f"{source}: {path} is missing; set it in the file, as {ENVIRONMENT_PREFIX}{path.upper()}, or as a flag"
    if first["type"] == "extra_forbidden":
        return f"{source}: unknown key {path!r}; known keys: {', '.join(Config.model_fields)}"
    others = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{source}: {path} = {first['input']!r}: {first['msg']}{others}"
