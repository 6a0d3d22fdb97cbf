from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from export.from_onnx import segmenter_from_onnx
from export.graph import read_graph, with_tile
from export.runners import backend_runner, onnxruntime_runner
from export.samples import labelled_samples
from export.to_onnx import export_checkpoint, main, to_graph, torch_network
from sarwater.errors import CheckpointInvalid, ExportError, ModelNotFound, UsageError
from sarwater.manifest import Channel, ModelManifest, sha256_of
from sarwater.models import shipped_model
from tests.export.conftest import SMALL, TILE_PX, random_segmenter, speckle
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.models.initialise import read_weights

PARITY = 1e-4
"""Largest difference of a probability between PyTorch and any runtime of the same fp32 graph."""
NETWORKS = ("hrnet-w18-small", "unet-w16", "deepunet")


@pytest.mark.parametrize("name", [*NETWORKS, pytest.param("fcn-vgg16", marks=pytest.mark.slow)])
def test_onnx_runtime_and_openvino_agree_with_pytorch(name: str, make_onnx: Callable[[str], Path]) -> None:
    path = make_onnx(name)
    pixels = speckle(1, TILE_PX)
    expected = torch_network(read_graph(path))(pixels)
    for runner in (onnxruntime_runner(read_graph(path)), backend_runner(path)):
        with runner.open() as network:
            assert np.abs(network(pixels) - expected).max() <= PARITY, runner.title


@pytest.mark.realdata
def test_the_runtimes_agree_with_pytorch_on_real_pixels(make_onnx: Callable[[str], Path], realdata: Path) -> None:
    path = make_onnx("hrnet-w18-small")
    graph = read_graph(path)
    network = torch_network(graph)
    for tile in labelled_samples(realdata / "k5", graph.manifest.channels, TILE_PX, limit=4):
        expected = network(tile.pixels[None])
        for runner in (onnxruntime_runner(graph), backend_runner(path)):
            with runner.open() as answer:
                assert np.abs(answer(tile.pixels[None]) - expected).max() <= PARITY, runner.title


def test_every_resize_layer_agrees_with_pytorch(make_onnx: Callable[[str], Path]) -> None:
    """Each on its own, so that an error in a coarse branch cannot hide behind the finer ones."""
    proto = onnx.load(make_onnx("hrnet-w18-small"))
    scales = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    resizes = [node for node in proto.graph.node if node.op_type == "Resize"]
    names = [name for node in resizes for name in (node.input[0], node.output[0])]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names))
    found = onnxruntime.InferenceSession(proto.SerializeToString()).run(names, {"sar": speckle(1, TILE_PX)})
    assert len(resizes) > 10
    for node, before, after in zip(resizes, found[::2], found[1::2], strict=True):
        factor = float(scales[node.input[2]][-1])
        enlarged = torch.nn.functional.interpolate(
            torch.from_numpy(before), scale_factor=factor, mode="bilinear", align_corners=False
        )
        np.testing.assert_allclose(after, enlarged.numpy(), atol=1e-5, err_msg=node.name)


def test_the_same_checkpoint_gives_the_same_bytes(make_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.onnx" for name in "ab"]
    for path in paths:
        assert main([str(make_checkpoint(SMALL)), "-o", str(path), "--tile", "256"]) == 0
    assert sha256_of(paths[0]) == sha256_of(paths[1])


def test_the_manifest_says_what_the_checkpoint_said(make_onnx: Callable[[str], Path]) -> None:
    path = make_onnx(SMALL)
    manifest = ModelManifest.read(path.with_suffix(".json"))
    assert (manifest.name, manifest.threshold, manifest.tile_px) == (SMALL, 0.4, TILE_PX)
    assert manifest.training == {"data": "random", "date": "2026-01-01"}
    assert manifest.verify(path) == sha256_of(path)


def test_the_graph_carries_its_manifest_and_what_deepness_reads(make_onnx: Callable[[str], Path]) -> None:
    meta = onnxruntime.InferenceSession(make_onnx(SMALL)).get_modelmeta().custom_metadata_map
    assert json.loads(meta["sarwater"])["family"] == "unet"
    assert json.loads(meta["model_type"]) == "Segmentor"
    assert json.loads(meta["class_names"]) == {"0": "land", "1": "water"}
    assert json.loads(meta["tile_size"]) == TILE_PX
    assert json.loads(meta["seg_thresh"]) == 0.4
    assert meta["channels"] == "sar [amplitude_dn]"


def test_the_standardisation_for_deepness_gives_back_raw_pixels(small_graph: object) -> None:
    meta = {item.key: item.value for item in small_graph.proto.metadata_props}  # type: ignore[attr-defined]
    mean, std = json.loads(meta["standardization_mean"])[0], json.loads(meta["standardization_std"])[0]
    pixels = np.arange(256)
    np.testing.assert_allclose((pixels / 255 - mean) / std, pixels)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_weights_come_back_bit_for_bit(
    name: str, make_checkpoint: Callable[[str], Path], make_onnx: Callable[[str], Path]
) -> None:
    checkpoint = load_checkpoint(make_checkpoint(name))
    segmenter = segmenter_from_onnx(make_onnx(name))
    assert segmenter.arch == checkpoint.architecture
    tensors = segmenter.net.state_dict()
    assert tensors.keys() == checkpoint.state_dict.keys()
    for key, tensor in checkpoint.state_dict.items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(tensors[key], tensor), key


def test_a_second_channel_keeps_its_own_normalisation() -> None:
    channels = (Channel("sar", "amplitude_dn"), Channel("gim", "incidence_dn"))
    segmenter = random_segmenter(SMALL, channels)
    graph = to_graph(Checkpoint(segmenter.arch, segmenter.net.state_dict()), TILE_PX, 32, {})
    pixels = speckle(2, TILE_PX)
    with onnxruntime_runner(graph).open() as network, torch.inference_mode():
        assert np.abs(network(pixels) - segmenter(torch.from_numpy(pixels)).numpy()).max() <= PARITY


def test_the_coarsest_spacing_goes_along_and_comes_back(tmp_path: Path) -> None:
    segmenter = random_segmenter(SMALL, (Channel("sar", "amplitude_dn"),))
    save_checkpoint(tmp_path / "a.pt", Checkpoint(segmenter.arch, segmenter.net.state_dict(), coarsest_m=30.0))
    path, manifest = export_checkpoint(tmp_path / "a.pt", tmp_path / "a.onnx", TILE_PX)
    assert manifest.coarsest_m == read_weights(path).coarsest_m == read_weights(tmp_path / "a.pt").coarsest_m == 30.0


def test_batch_norm_stays_a_layer_so_that_training_can_go_on(small_graph: object) -> None:
    operators = {node.op_type for node in small_graph.proto.graph.node}  # type: ignore[attr-defined]
    assert "BatchNormalization" in operators


def test_another_tile_size_needs_no_torch(make_onnx: Callable[[str], Path]) -> None:
    path = make_onnx("hrnet-w18-small")
    pixels = speckle(1, 256)
    with onnxruntime_runner(with_tile(read_graph(path), 256)).open() as network:
        assert np.abs(network(pixels) - torch_network(read_graph(path))(pixels)).max() <= PARITY


def test_a_folded_graph_gives_no_weights_back(tmp_path: Path, make_onnx: Callable[[str], Path]) -> None:
    from export.graph import Graph, write_graph
    from export.precision import folded

    graph = read_graph(make_onnx(SMALL))
    proto = folded(graph)
    proto.metadata_props.extend(graph.proto.metadata_props)
    write_graph(Graph(proto, graph.manifest), tmp_path / "folded.onnx")
    with pytest.raises(ExportError, match="weights come back only from an fp32 file"):
        segmenter_from_onnx(tmp_path / "folded.onnx")


def test_a_tile_that_the_strides_do_not_divide_is_refused(make_checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match="deepunet takes multiples of 128 px"):
        to_graph(load_checkpoint(make_checkpoint("deepunet")), 96, 0, {})


def test_a_run_without_a_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no such checkpoint; .*sarwater fit FAMILY"):
        main([str(tmp_path)])


def test_a_name_is_the_model_that_ships_at_another_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["hrnet", "--tile-px", "256", "--overlap-px", "16", "-o", "small.onnx"]) == 0
    manifest = ModelManifest.read(tmp_path / "small.json")
    assert (manifest.tile_px, manifest.overlap_px) == (256, 16)
    assert manifest.training == shipped_model().manifest.training
    assert manifest.recipe["source"] == sha256_of(shipped_model().path)


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(CheckpointInvalid, match=r"broken\.pt: not a readable checkpoint"):
        main([str(path), "-o", str(tmp_path)])


def test_initialisers_carry_official_names(make_onnx: Callable[[str], Path]) -> None:
    proto = onnx.load(make_onnx("hrnet-w18-small"))
    names = {item.name for item in proto.graph.initializer}
    assert {"conv1.weight", "bn1.running_mean", "stage4.0.fuse_layers.0.3.0.weight", "last_layer.3.bias"} <= names
    assert numpy_helper.to_array(next(i for i in proto.graph.initializer if i.name == "conv1.weight")).shape == (
        64,
        4,  # the channel, its means at two scales, its contrast
        3,
        3,
    )


def test_wrapped_weights_with_foreign_prefixes_give_the_graph_of_the_checkpoint(
    make_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    path = make_checkpoint("unet-w16")
    tensors = load_checkpoint(path).state_dict
    wrapped = {"ema": {"state_dict": {f"module.model.{name}": tensor for name, tensor in tensors.items()}}}
    torch.save(wrapped, tmp_path / "their.pt")
    expected, found = (
        {item.name: numpy_helper.to_array(item) for item in onnx.load(onnx_path).graph.initializer}
        for onnx_path in (
            export_checkpoint(file, tmp_path / file.stem, TILE_PX)[0] for file in (path, tmp_path / "their.pt")
        )
    )
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
