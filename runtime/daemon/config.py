"""Settings of the daemon: one frozen model, filled from defaults, a TOML file, the environment, the command line.

A key `settle_s` is `settle_s = 2` in the file, `SARWATER_SETTLE_S=2` in the environment and `--settle-s 2` as a flag;
lists are `a,b` and lists of tables (`priority`) are JSON in the latter two.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from runtime.products import chosen
from runtime.telling.channel import Channel
from sarwater.errors import ConfigurationError, SettingInvalid
from sarwater.models import followed, looks_like_path
from sarwater.record import Record
from sarwater.request import Request

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - JetPack 6 has Python 3.10
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

ENVIRONMENT_PREFIX = "SARWATER_"
_GONE = {
    "product": "the readers know which folders are scenes and when they are complete: delete every [[product]]",
    "enlarge": "it is called upsampling_factor",
}
"""Settings of earlier versions, and what becomes of them."""


class PriorityRule(BaseModel):
    """Scenes whose name matches go before others; the first rule that matches counts."""

    model_config = Record.model_config

    glob: str
    """Pattern on the file or folder name, as in a shell."""
    priority: int
    """Higher goes first; scenes without a rule have 0."""


class Config(Request):
    """All that the daemon can be told. Paths that are relative count from the working directory."""

    incoming: Path
    """Folder that is watched for scenes."""
    outgoing: Path
    """Folder that receives the masks and their side products."""
    state: Path
    """Folder of the ledger, the scenes in work, `done/` and `quarantine/`; one mount with incoming."""
    model: str = "hrnet"
    """A model that ships, by its name, a model or engine file, or the link that `sarwater activate` sets."""
    device: str = "auto"
    """Where inference runs; `auto` decides by the model file and never falls back from GPU to CPU."""
    ignore: tuple[str, ...] = (
        *(".*", "*~", "*.tmp", "*.temp", "*.part", "*.partial", "*.filepart", "*.crdownload", "*.opdownload"),
        *("*.download", "*.!qB", "*.!ut", "*.aria2", "*.aria2__temp", "*.lftp-pget-status", "*.st"),
    )
    """Names that are still being written; a rename from one of them to another name completes a file. While `NAME.x`
    lies beside NAME and `*.x` is one of these, NAME is left alone, too."""
    accept: tuple[str, ...] = Field(("*",), examples=["*.tif,*.h5"])
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
    product_timeout_s: float = Field(3600.0, gt=0)
    """A product folder whose members are not all there after this time is quarantined."""
    companion_s: float = Field(60.0, ge=0)
    """How long a loose KOMPSAT-5 image waits for the `_Aux.xml` and GIM that its name promises, after the last file of
    it arrived; then it is taken as it is."""
    priority: tuple[PriorityRule, ...] = Field((), examples=['[{"glob": "*URGENT*", "priority": 10}]'])
    """Which scenes go first; within one priority the order of arrival counts."""

    tell: tuple[Channel, ...] = Field((), examples=['[{"name": "ops", "to": "https://ops.example/sar"}]'])
    """Who is told when a mask is published, a scene goes to quarantine, the daemon pauses: tables with `name`, `to`,
    `events`, `secret_file` and more; see systemd/README.md."""

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
    health_file: Path | None = None
    """What the daemon does now, as JSON, for `sarwater status` and for health checks; none means state/health.json."""
    metrics_port: int | None = Field(None, ge=1, le=65535)
    """Loopback port that serves the same metrics; none opens no port."""

    page: int | Path | None = Field(None, examples=["8040", "/run/sarwater/page.sock"])
    """Where the status page is served: a port of the loopback, or the path of a Unix socket; none serves none."""
    page_token_file: Path | None = None
    """File with the token, 16 characters or more, that lets the status page requeue and drop scenes; none makes it
    read-only."""

    _model_file: str = PrivateAttr("")

    def model_post_init(self, _context: Any) -> None:
        self._model_file = str(followed(Path(self.model))) if looks_like_path(self.model) else self.model

    @property
    def model_file(self) -> str:
        """`model`, where it is a link what that led to when these settings were read: until the next reload, whatever
        becomes of the link."""
        return self._model_file

    @field_validator("page", mode="before")
    @classmethod
    def _port_or_path(cls, value: Any) -> Any:
        number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
        if isinstance(number, int) and not 1 <= number <= 65535:
            raise ValueError("expected a port, 1 to 65535, or the path of a Unix socket")
        return number

    @field_validator("ignore", "accept", "priority", "tell", "products", "polarisations", mode="before")
    @classmethod
    def _of_text(cls, value: Any, info: ValidationInfo) -> Any:
        """`*.tif,*.h5`, or JSON, which the environment and a flag may hold."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"not valid JSON ({error})") from None
        if info.field_name not in ("ignore", "accept"):
            return value  # a Request splits its own
        return tuple(part for part in map(str.strip, value.split(",")) if part)

    @field_validator("products")
    @classmethod
    def _known_products(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        chosen(names)
        return names

    @field_validator("tell")
    @classmethod
    def _each_once(cls, channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
        names = [channel.name for channel in channels]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is the name of two channels; expected names of their own")
        return channels

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

    @property
    def health_path(self) -> Path:
        return self.health_file or self.state / "health.json"


def load(
    file: Path | None, flags: Mapping[str, str] | None = None, environment: Mapping[str, str] = os.environ
) -> Config:
    """Merge file, environment and flags (the later wins) into a Config.

    Raises ConfigurationError with the key and the place it came from.
    """
    values, origin = gather(file, flags, environment)
    where = str(file) if file else "settings"
    missing = (
        [] if values.keys() - Config.model_fields else missing_keys(values)
    )  # a key unknown may be the one missing
    for key in missing:
        variable = ENVIRONMENT_PREFIX + key.upper()
        raise ConfigurationError(f"{where}: {key} is missing; set it in the file, as {variable}, or as --{key} DIR")
    return validated(values, origin, where)


def missing_keys(values: Mapping[str, Any]) -> list[str]:
    """Required settings that nobody set."""
    return [key for key, field in Config.model_fields.items() if field.is_required() and key not in values]


def validated(values: Mapping[str, Any], origin: Mapping[str, str], where: str = "settings") -> Config:
    """Raises ConfigurationError with the key and the place it came from."""
    try:
        return Config(**values)
    except SettingInvalid as error:
        raise ConfigurationError(f"{origin.get(error.key, where)}: {error}") from None


def gather(
    file: Path | None, flags: Mapping[str, str] | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings by key, as they were given, and where each comes from. Raises ConfigurationError."""
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    if file is not None:
        values.update(read_toml(file))
        origin.update(dict.fromkeys(values, str(file)))
    for key in Config.model_fields:
        variable = ENVIRONMENT_PREFIX + key.upper()
        if variable in environment:
            values[key], origin[key] = environment[variable], f"environment variable {variable}"
    for key, text in (flags or {}).items():
        values[key], origin[key] = text, "command line"
    for key, what_now in _GONE.items():
        variable = ENVIRONMENT_PREFIX + key.upper()
        if key in values or variable in environment:
            source = origin.get(key, f"environment variable {variable}")
            raise ConfigurationError(f"{source}: {key} is no setting any more; {what_now}")
    return values, origin


def read_toml(file: Path) -> dict[str, Any]:
    """What a file of settings says. Raises ConfigurationError."""
    try:
        document: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        return document
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror}); expected a TOML file") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError; brackets without end
        raise ConfigurationError(f"{file}: not valid TOML: {error}") from None
