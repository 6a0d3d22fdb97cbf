"""`sarwater activate`: what passes its proof is put in force, what does not changes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.graph import read_graph, with_tile, write_graph
from runtime.activation import model_in_force, read_activation
from runtime.commands import station
from runtime.commands.activate import main
from sarwater.errors import ConfigurationError, ModelNotFound, ProofFailed, UsageError
from sarwater.models import Model, find_model, open_model
from tests.support.derived import derived
from tests.support.models import box_model

TILE_PX = 256


@pytest.fixture
def link(tmp_path: Path) -> Path:
    return tmp_path / "active"


@pytest.fixture
def box(tmp_path: Path) -> Model:
    return box_model(tmp_path / "box.onnx", box_px=9, dark=75)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models that ship, at a small tile: fp32 and the int8 one that was made of it."""
    folder = tmp_path_factory.mktemp("shipped")
    small = {}
    for name in ("hrnet", "hrnet-int8"):
        small[name] = with_tile(read_graph(find_model(name).path), TILE_PX)
    fp32 = write_graph(small["hrnet"], folder / "hrnet.onnx")
    assert fp32.path is not None
    recipe = {"source": open_model(fp32.path).manifest.files["hrnet.onnx"]}
    write_graph(small["hrnet-int8"].with_manifest(recipe=recipe), folder / "hrnet-int8.onnx")
    return folder


def activated(model: Path, link: Path, *more: str) -> int:
    return main([str(model), f"--link={link}", *more])


def test_a_model_that_ships_and_its_int8_file_pass_and_are_put_in_force(
    shipped: Path, link: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert activated(shipped / "hrnet.onnx", link) == 0
    assert activated(shipped / "hrnet-int8.onnx", link) == 0
    assert model_in_force(link) == shipped / "hrnet-int8.onnx"
    known = read_activation(link)
    assert known is not None
    assert known.reference == str(shipped / "hrnet.onnx")
    assert 0.7 < known.proof["reference_iou"] < known.proof["iou"] + 0.005
    assert 0 < known.proof["changed_share"] < 0.01
    said = capsys.readouterr().out
    assert "% of pixels differ" in said
    assert "systemctl reload sarwater-watch" in said


def perturbed(source: Path, path: Path, share: float, **changes: object) -> Path:
    """The graph with noise on its convolutions' weights, of `share` times their spread."""
    graph = read_graph(source)
    rng = np.random.default_rng(1)
    for tensor in graph.proto.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.ndim == 4:
            noise = share * weights.std() * rng.standard_normal(weights.shape)
            tensor.CopyFrom(numpy_helper.from_array((weights + noise).astype(np.float32), tensor.name))
    write_graph(graph.with_manifest(**changes), path)
    return path


def test_ruined_weights_are_refused_with_figures_and_change_nothing(shipped: Path, link: Path) -> None:
    activated(shipped / "hrnet.onnx", link)
    before = read_activation(link)
    ruined = perturbed(shipped / "hrnet.onnx", link.parent / "ruined.onnx", 1.0)
    with pytest.raises(ProofFailed, match=r"IoU 0\.\d+ on the golden scenes, expected 0\.\d+ at least"):
        activated(ruined, link)
    assert read_activation(link) == before


def test_weights_that_are_a_little_off_are_refused_where_their_graph_is_known(shipped: Path, link: Path) -> None:
    fp32 = open_model(shipped / "hrnet.onnx").manifest
    recipe = {"source": fp32.files["hrnet.onnx"]}
    off = perturbed(shipped / "hrnet.onnx", shipped / "off.onnx", 0.2, precision="fp16", recipe=recipe)
    with pytest.raises(ProofFailed, match=r"[\d.]+% of the pixels differ; allowed in fp16 are 0.10 points and 1%"):
        activated(off, link)
    assert model_in_force(link) is None


def test_a_derived_model_that_answers_otherwise_than_its_graph_is_refused_with_figures(box: Model, link: Path) -> None:
    wrong = derived(box, box.path.with_name("wrong.onnx"), gain=0.8)
    with pytest.raises(
        ProofFailed, match=r"loses .* points of IoU .* and [\d.]+% of the pixels differ; allowed in int8"
    ):
        activated(wrong.path, link, "--may-lose=100")
    assert model_in_force(link) is None


def test_a_derived_model_without_its_graph_is_refused_and_takes_one_that_is_named(box: Model, link: Path) -> None:
    away = link.parent / "away"
    away.mkdir()
    right = derived(box, away / "right.onnx")
    with pytest.raises(ProofFailed, match="--reference FILE"):
        activated(right.path, link, "--may-lose=100")
    assert activated(right.path, link, "--may-lose=100", f"--reference={box.path}") == 0


def test_the_bar_is_the_model_in_force(shipped: Path, link: Path, box: Model) -> None:
    activated(box.path, link, "--may-lose=100")
    assert activated(shipped / "hrnet.onnx", link, "--may-lose=0") == 0  # better than what was
    with pytest.raises(ProofFailed):
        activated(box.path, link)


def test_back_returns_to_the_model_before(box: Model, link: Path) -> None:
    other = box_model(box.path.with_name("other.onnx"), box_px=9, dark=70)
    for model in (box, other):
        activated(model.path, link, "--may-lose=100")
    assert main(["--back", f"--link={link}"]) == 0
    assert model_in_force(link) == box.path
    with pytest.raises(UsageError, match="no model was in force before"):
        main(["--back", f"--link={link}"])


def test_the_link_is_the_model_of_the_daemons_settings(
    box: Model, link: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(station, "SETTINGS_FOLDER", tmp_path)
    with pytest.raises(UsageError, match="give --link PATH"):
        main([str(box.path), "--may-lose=100"])
    settings = tmp_path / "watch.toml"
    for model, refusal in (("hrnet", "expected a link"), (str(box.path), "expected a link")):
        settings.write_text(f'model = "{model}"\n')
        with pytest.raises(UsageError, match=refusal):
            main([str(box.path), "--may-lose=100"])
    settings.write_text(f'model = "{link}"\n')
    assert main([str(box.path), "--may-lose=100"]) == 0
    assert model_in_force(link) == box.path


@pytest.mark.parametrize(
    ("words", "kind"), [([], UsageError), (["x.onnx", "--back"], UsageError), (["x.onnx"], ModelNotFound)]
)
def test_what_cannot_be_asked_for_is_refused(words: list[str], kind: type[Exception], link: Path) -> None:
    with pytest.raises(kind):
        main([*words, f"--link={link}"])


def test_a_link_in_a_folder_that_takes_none_is_refused_with_its_path(box: Model, tmp_path: Path) -> None:
    with pytest.raises((ConfigurationError, OSError, UsageError)):
        activated(box.path, box.path / "active", "--may-lose=100")


def test_a_file_that_is_not_that_of_its_manifest_is_refused(box: Model, link: Path) -> None:
    manifest = dataclasses.replace(box.manifest, files={box.path.name: "0" * 64})
    box.path.with_suffix(".json").write_text(manifest.to_json())
    with pytest.raises(Exception, match="sha256 is"):
        activated(box.path, link, "--may-lose=100")
    onnx.checker.check_model(str(box.path))
