from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sarwater.errors import HashMismatch, ManifestInvalid
from sarwater.manifest import Channel, Engine, ModelManifest, manifest_path, sha256_of


def manifest(**changes: object) -> ModelManifest:
    values: dict[str, object] = {
        "family": "hrnet",
        "variant": "w18-small",
        "channels": (Channel("sar", "amplitude_dn"),),
        "tile_px": 1024,
        "overlap_px": 48,
        "threshold": 0.5,
        "precision": "fp32",
        "opset": 17,
        "files": {"m.onnx": "0" * 64},
        "training": {"date": "2026-11-22", "metrics": {"k5": 0.9}},
    }
    return ModelManifest(**{**values, **changes})  # type: ignore[arg-type]


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def document() -> dict[str, object]:
    loaded = json.loads(manifest().to_json())
    assert isinstance(loaded, dict)
    return loaded


ENGINE = Engine("tensorrt-rtx", "1.7.1", "", "portable", 8, 1, {"iou_loss": 0.001})


@pytest.mark.parametrize("engine", [None, ENGINE])
def test_what_is_written_is_read_back_equal(tmp_path: Path, engine: Engine | None) -> None:
    path = tmp_path / "m.json"
    path.write_text(manifest(engine=engine).to_json())
    assert ModelManifest.read(path) == manifest(engine=engine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"family": "segnet"}, "family is 'segnet', expected one of: fcn, unet, deepunet, hrnet"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": True}, "threshold is True, expected float"),
        ({"tile_px": "1024"}, "tile_px is '1024', expected int"),
        ({"tile_px": 1000}, "multiple of 32"),
        ({"overlap_px": 47}, "overlap_px is 47"),
        ({"channels": []}, "channels lists 0"),
        ({"channels": [{"name": "sar", "unit": "furlong"}]}, "channels.unit is 'furlong'"),
        ({"channels": [{"name": "sar"}]}, "channels[0].'unit' is missing"),
        ({"files": {"../m.onnx": "0" * 64}}, "plain file name"),
        ({"files": {"m.onnx": "xyz"}}, "expected a sha256"),
        ({"engine": {"flavor": "openvino"}}, "engine."),
        ({"format": "sarwater-model/2"}, "format is 'sarwater-model/2'"),
    ],
)
def test_an_impossible_manifest_is_refused_with_the_field_and_the_file(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = write(tmp_path / "m.json", {**document(), **change})
    with pytest.raises(ManifestInvalid) as error:
        ModelManifest.read(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_missing_manifest_says_that_model_and_manifest_travel_together(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="copy both"):
        ModelManifest.read(tmp_path / "none.json")


@settings(deadline=None)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5),
    st.sampled_from(list(document())),
)
def test_any_value_in_any_field_is_taken_or_refused_but_never_crashes(value: object, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "m.json", {**document(), name: value})
        with contextlib.suppress(ManifestInvalid):
            ModelManifest.read(path)


def test_a_changed_model_file_does_not_match_its_manifest(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"graph")
    described = manifest(files={"m.onnx": sha256_of(model)})
    assert described.verify(model) == sha256_of(model)
    assert described.read_verified(model) == (b"graph", sha256_of(model))
    model.write_bytes(b"grapf")
    for check in (described.verify, described.read_verified):
        with pytest.raises(HashMismatch, match="changed or damaged"):
            check(model)


def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HashMismatch, match=r"describes m\.onnx, not other\.onnx"):
        manifest().verify(tmp_path / "other.onnx")
    with pytest.raises(HashMismatch, match=r"describes m\.onnx, not other\.onnx"):
        manifest().read_verified(tmp_path / "other.onnx")


def test_the_manifest_lies_beside_the_model() -> None:
    assert manifest_path(Path("engines/x.engine")) == Path("engines/x.json")


DAMAGED = {
    "empty": b"",
    "brackets": b"[" * 100_000,
    "objects": b'{"a":' * 100_000,
    "no utf-8": b"\xff\xfe{}",
    "a number": b"1" * 5000,
    "a wrong type": b'{"files": 3}',
    "null": b"null",
    "a list": b"[]",
    "17 MB": bytes(17 << 20),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_manifest_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(content)
    with pytest.raises(ManifestInvalid, match=r"m\.json: ") as caught:
        ModelManifest.read(path)
    assert str(caught.value).isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(document())), JSON, min_size=1, max_size=3))
def test_whatever_a_field_holds_it_is_taken_or_refused(changes: dict[str, object]) -> None:
    with contextlib.suppress(ManifestInvalid):
        ModelManifest.from_document({**document(), **changes})
