"""Every error that a user can cause or meet, in one tree. Bugs are not here: they crash.

SarwaterError                 exit 1
├── UsageError                exit 2    what was asked for cannot be
│   ├── ModelUnknown                    no family of that name
│   ├── ModelNotFound                   no such file, or nothing of that name ships
│   └── SettingInvalid                  a value that a setting cannot have; names it
├── ConfigurationError        exit 78   a restart cannot help: settings, missing software, wrong machine
│   ├── DependencyMissing               a library is not installed
│   └── DeviceUnavailable               no such GPU, driver too old, engine of another card
├── ModelError                exit 1
│   ├── ManifestInvalid                 a manifest that cannot be read or says something impossible
│   ├── HashMismatch                    a file is not the one its manifest describes
│   ├── CheckpointInvalid
│   └── ProofFailed                     a model is wrong on this machine: golden scenes, or the first ones
├── SceneError                exit 1    the input is at fault; the same bytes would fail again
│   ├── SceneMissing
│   ├── SceneEmpty
│   ├── SceneTruncated
│   ├── SceneUnreadable                 not a raster, or not one of the accepted formats
│   ├── SceneIncomplete                 a product of several files of which some are missing
│   ├── SceneIsProduct                  one of our own products, which is never an input
│   ├── SceneNoBackscatter              a mask, heights, angles, a picture: no SAR scene
│   ├── SceneUnsafe                     links to other files, or declares an absurd size
│   ├── SceneOffLevel                   brighter or darker than models know, and to be refused for it
│   ├── ChannelMissing
│   └── UnitMismatch
├── DataError                 exit 1    training or evaluation data
├── DeviceLost                exit 1    the GPU failed in mid-work: the process must end, another may work
├── DeviceOutOfMemory         exit 1    too little GPU memory for this scene; also a MemoryError
│   └── PinnedOutOfMemory               of the host's memory, too little can be page-locked for it
├── OutputError               exit 1    products cannot be written: full disk, read-only folder
└── ExportError               exit 1    a graph or engine cannot be made, or failed its accuracy gate

A message says what was found (value, path), what was expected, and what to do. It is one line, whatever the file at
fault put into it: as text, an error has control characters escaped, and is no longer than a screen.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from sarwater.installing import for_this_environment
from sarwater.shown import shown

_LONGEST = 2000
"""Characters of a message."""


class SarwaterError(Exception):
    """Base of the tree. `exit_code` is what a command returns; `reason` labels metrics and reason.json."""

    exit_code = 1
    reason = "error"

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > _LONGEST:
            half = _LONGEST // 2  # what was found stands first, what to do last
            text = f"{text[:half]} … {text[-half:]}"
        return shown(text)


class UsageError(SarwaterError):
    exit_code = 2
    reason = "usage"


class ModelUnknown(UsageError):
    reason = "model_unknown"


class ModelNotFound(UsageError):
    reason = "model_not_found"


class SettingInvalid(UsageError):
    """`key` is the setting, "" where several do not go together."""

    reason = "setting_invalid"

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class ConfigurationError(SarwaterError):
    exit_code = 78
    reason = "configuration"


class DependencyMissing(ConfigurationError):
    """`message` names the command that brings it, as it is typed where an environment is activated."""

    reason = "dependency_missing"

    def __init__(self, message: str) -> None:
        super().__init__(for_this_environment(message))


class DeviceUnavailable(ConfigurationError):
    reason = "device_unavailable"


class ModelError(SarwaterError):
    reason = "model"


class ManifestInvalid(ModelError):
    reason = "manifest_invalid"


class HashMismatch(ModelError):
    reason = "hash_mismatch"


class CheckpointInvalid(ModelError):
    reason = "checkpoint_invalid"


class ProofFailed(ModelError):
    reason = "proof_failed"


class SceneError(SarwaterError):
    reason = "scene"


class SceneMissing(SceneError):
    reason = "scene_missing"


class SceneEmpty(SceneError):
    reason = "scene_empty"


class SceneTruncated(SceneError):
    reason = "scene_truncated"


class SceneUnreadable(SceneError):
    reason = "scene_unreadable"


class SceneIncomplete(SceneError):
    reason = "scene_incomplete"


class SceneIsProduct(SceneError):
    reason = "scene_is_product"


class SceneNoBackscatter(SceneError):
    reason = "scene_no_backscatter"


class SceneUnsafe(SceneError):
    reason = "scene_unsafe"


class SceneOffLevel(SceneError):
    reason = "scene_off_level"


class ChannelMissing(SceneError):
    reason = "channel_missing"


class UnitMismatch(SceneError):
    reason = "unit_mismatch"


class DataError(SarwaterError):
    reason = "data"


class DeviceLost(SarwaterError):
    """No later call into CUDA can be trusted (errors 700 to 719 poison the context): whoever meets this ends."""

    reason = "gpu"


class DeviceOutOfMemory(SarwaterError, MemoryError):
    """Nothing is broken: another scene, or the same one later, may fit."""

    reason = "out_of_memory"


class PinnedOutOfMemory(DeviceOutOfMemory):
    """A smaller batch of the network would not help: its memory is the GPU's."""


class OutputError(SarwaterError):
    reason = "output"


class ExportError(SarwaterError):
    reason = "export"


def expected(name: str, known: Iterable[str]) -> str:
    """`expected one of: vgg16, vgg19; did you mean 'vgg16'?`: the end of a message about a name that is not known."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    return f"expected one of: {', '.join(names)}" + (f"; did you mean {close[0]!r}?" if close else "")
