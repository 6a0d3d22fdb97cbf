"""Products in archives: the same scene as unpacked, the identity of the archive, and nothing out of bounds."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.backends import Backend
from runtime.pipeline import process_scene, scene_sha256
from runtime.products.publish import publish
from sarwater.errors import (
    OutputError,
    SceneEmpty,
    SceneError,
    SceneIncomplete,
    SceneNoBackscatter,
    SceneTruncated,
    SceneUnreadable,
    SceneUnsafe,
)
from sarwater.identity import stem_of
from sarwater.manifest import Channel
from sarwater.request import Limits
from sarwater.scenes import archive
from sarwater.scenes.life import signs_of_life
from sarwater.scenes.readers import members, open_model_input, open_scene
from sarwater.scratch import PREFIX
from tests.support.deliveries import whole, write_hdf5, write_k5_folder, write_safe
from tests.support.rasters import lake_scene, read_raster, write_geotiff

PIXELS = lake_scene(60, 70)
SAFE = "S1A_IW_GRDH_1SDV_20240726T091530_20240726T091555_054921_06B0A4_0000.SAFE"
K5 = "K5_20240726091530_000000_12345_D_ES19_HH_GTC_B_L1D"
HYP3 = "S1A_IW_20240716T093112_DVP_RTC10_G_gpuned_1A2B"
TIME = "2024-07-26T09:15:30Z"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Where archives are unpacked: empty after every test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def zipped(source: Path, path: Path, top: str | None = "") -> Path:
    """`top` is the folder in the archive: "" for the source's own name, None for its contents alone."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member in sorted(source.rglob("*")) if source.is_dir() else [source]:
            file.write(member, member.relative_to(source if top is None else source.parent))
    return path


def tarred(source: Path, path: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as file:
        file.add(source, source.name)
    return path


def safe(folder: Path) -> Path:
    return write_safe(folder / SAFE, {"vv": PIXELS, "vh": PIXELS // 2})


def k5(folder: Path) -> Path:
    return write_k5_folder(folder / K5, PIXELS, np.full(PIXELS.shape, 190, np.uint8))


def hdf5(folder: Path) -> Path:
    return write_hdf5(folder / f"{K5}.h5", "L1D", PIXELS)


def geotiff(folder: Path) -> Path:
    return write_geotiff(folder / f"{K5}.tif", PIXELS)


PRODUCTS = (safe, k5, hdf5, geotiff)
PACKED: dict[str, Callable[[Path, Path], Path]] = {
    ".zip": zipped,
    ".tar": lambda source, path: tarred(source, path, "w"),
    ".tar.gz": tarred,
    ".tgz": tarred,
}


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("product", PRODUCTS)
def test_a_product_in_an_archive_is_the_product(
    tmp_path: Path, product: Callable[[Path], Path], suffix: str, temporary: Path
) -> None:
    source = product(tmp_path)
    path = PACKED[suffix](source, tmp_path / (source.stem + suffix))
    with open_scene(source) as plain, open_scene(path) as scene:
        assert not any(temporary.iterdir()), "not even while it is read"
        assert np.array_equal(scene.read(), plain.read())
        assert scene.format == plain.format
        assert scene.acquired == plain.acquired == TIME
        assert [band.polarisation for band in scene.bands] == [band.polarisation for band in plain.bands]
        assert scene.georeference == plain.georeference
        assert (scene.incidence is None) == (plain.incidence is None)
        assert scene.name == path.name
    assert members(path) == [path]
    assert scene_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["scene.tif.gz", "scene.gz"])
def test_a_file_in_gzip_is_the_file(tmp_path: Path, name: str) -> None:
    source = geotiff(tmp_path)
    (tmp_path / name).write_bytes(gzip.compress(source.read_bytes()))
    with open_scene(tmp_path / name) as scene:
        assert np.array_equal(scene.read(), PIXELS)


def test_files_without_a_folder_around_them_are_told_by_the_name_of_the_archive(tmp_path: Path) -> None:
    with open_scene(zipped(k5(tmp_path), tmp_path / f"{K5}.zip", None)) as scene:
        assert (scene.format, scene.acquired) == ("KOMPSAT-5 L1D", TIME)
    plain = write_geotiff(tmp_path / "image.tif", PIXELS)
    with open_scene(zipped(plain, tmp_path / f"{K5}.tif.zip")) as scene:
        assert (scene.acquired, scene.bands[0].polarisation) == (TIME, "hh")


def test_a_product_may_lie_in_folders(tmp_path: Path) -> None:
    nested = tmp_path / "order" / "delivery"
    nested.mkdir(parents=True)
    (tmp_path / "order" / "readme.txt").write_text("thank you")
    safe(nested)
    with open_scene(zipped(tmp_path / "order", tmp_path / "order.zip")) as scene:
        assert scene.format == "Sentinel-1 GRD"
        assert np.array_equal(scene.read(), PIXELS)


def test_names_may_be_in_any_encoding(tmp_path: Path) -> None:
    data = geotiff(tmp_path).read_bytes()
    name = os.fsdecode(f"한강_{K5}.tif".encode("cp949"))
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.addfile(_member(name, len(data)), io.BytesIO(data))
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data))
    for path in (tmp_path / "a.tar", tmp_path / f"{name}.gz"):
        with open_scene(path) as scene:
            assert np.array_equal(scene.read(), PIXELS)
            assert scene.acquired == TIME


@pytest.mark.parametrize("product", [safe, k5])
def test_a_product_may_lie_beside_other_files_in_an_archive_of_its_name(
    tmp_path: Path, product: Callable[[Path], Path]
) -> None:
    folder = tmp_path / "order"
    folder.mkdir()
    source = product(folder)
    (folder / f"{source.name}_readme.txt").write_text("thank you")
    with open_scene(zipped(folder, tmp_path / f"{source.name}.zip", None)) as scene:
        assert np.array_equal(scene.read(), PIXELS)
        assert scene.bands[0].calibration is not None


def test_of_hyp3_the_backscatter_is_taken_and_the_rest_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / HYP3
    folder.mkdir()
    power = {name: rng.gamma(4, level / 4, (90, 100)).astype(np.float32) for name, level in (("VV", 0.1), ("VH", 0.02))}
    for name, pixels in power.items():
        write_geotiff(folder / f"{HYP3}_{name}.tif", pixels, nodata=0)
    smooth = np.add.outer(np.linspace(30, 40, 90), np.linspace(0, 1, 100)).astype(np.float32)
    for name in ("dem", "inc_map", "area"):
        write_geotiff(folder / f"{HYP3}_{name}.tif", smooth)
    write_geotiff(folder / f"{HYP3}_ls_map.tif", np.ones((90, 100), np.uint8))
    write_geotiff(folder / f"{HYP3}_rgb.tif", np.full((3, 90, 100), 90, np.uint8), options=["PHOTOMETRIC=RGB"])
    (folder / f"{HYP3}.README.md.txt").write_text("read me")
    written(folder / f"{HYP3}_rgb.kmz", ("doc.kml", b"<kml/>"))
    path = zipped(folder, tmp_path / f"{HYP3}.zip")
    channels = (Channel("vv", "amplitude_dn"), Channel("vh", "amplitude_dn"))
    with open_model_input(path, channels) as scene:
        assert [band.unit for band in scene.bands] == ["gamma0_linear", "gamma0_linear"]
        assert whole(scene) == pytest.approx(400 * np.sqrt(np.stack([power["VV"], power["VH"]])), rel=1e-5)
        assert scene.scene.acquired == "2024-07-16T09:31:12Z"
        assert all(
            f"{HYP3}_{name}.tif" in " ".join(scene.notes) for name in ("dem", "inc_map", "area", "ls_map", "rgb")
        )


def test_the_mask_is_that_of_the_product_and_carries_its_name(tmp_path: Path, backend: Backend, out: Path) -> None:
    source = safe(tmp_path)
    for path in (source, zipped(source, tmp_path / f"{SAFE}.zip")):
        publish(process_scene(path, backend, out / path.suffix[1:]))
    masks = [read_raster(out / kind / f"{source.stem}_water.tif") for kind in ("SAFE", "zip")]
    assert np.array_equal(*masks)
    assert np.any(masks[0] == 1)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("S1A.SAFE.zip", "S1A"), ("K5.v2.tar.gz", "K5.v2"), ("a.tif.gz", "a"), ("a.tgz", "a"), ("a.b.tif", "a.b")],
)
def test_products_are_named_after_what_was_packed(name: str, stem: str) -> None:
    assert stem_of(name) == stem


def written(path: Path, *entries: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries:
            file.writestr(name, data)
    return path


def refused(path: Path, kind: type[SceneError], match: str, limits: Limits | None = None) -> None:
    with pytest.raises(kind, match=match) as error:
        open_scene(path, limits)
    assert str(error.value).startswith(f"{path.name}: ")
    assert PREFIX not in str(error.value)


class TestRefusals:
    def test_two_scenes(self, tmp_path: Path) -> None:
        folder = tmp_path / "two"
        folder.mkdir()
        write_geotiff(folder / "a_20240101T000000.tif", PIXELS)
        write_geotiff(folder / "b_20240102T000000.tif", PIXELS)
        refused(zipped(folder, tmp_path / "two.zip"), SceneUnreadable, "holds 2 scenes, a_.*unpack it and give each")

    def test_two_dates_of_two_polarisations_are_two_scenes(self, tmp_path: Path) -> None:
        folder = tmp_path / "two"
        folder.mkdir()
        write_geotiff(folder / "a_20240101T000000_VV.tif", PIXELS)
        write_geotiff(folder / "a_20240102T000000_VH.tif", PIXELS)
        refused(zipped(folder, tmp_path / "two.zip"), SceneUnreadable, "holds 2 scenes")

    def test_none(self, tmp_path: Path) -> None:
        refused(written(tmp_path / "a.zip", ("x/a.txt", b"hello")), SceneUnreadable, "holds no product .* x/a.txt")

    def test_nothing(self, tmp_path: Path) -> None:
        refused(written(tmp_path / "a.zip"), SceneEmpty, "without files")

    def test_heights_alone(self, tmp_path: Path) -> None:
        dem = write_geotiff(tmp_path / f"{HYP3}_dem.tif", PIXELS)
        refused(zipped(dem, tmp_path / "a.zip"), SceneNoBackscatter, "_dem.tif .*heights")

    def test_a_product_that_lacks_files(self, tmp_path: Path) -> None:
        source = safe(tmp_path)
        next((source / "measurement").iterdir()).unlink()
        refused(zipped(source, tmp_path / "a.zip"), SceneIncomplete, "lacks measurement/.*pack all")

    def test_a_damaged_product_within(self, tmp_path: Path) -> None:
        data = geotiff(tmp_path).read_bytes()
        refused(
            written(tmp_path / "a.zip", ("scene.tif", data[: len(data) // 2])), SceneTruncated, "scene.tif: its pix"
        )

    def test_another_archive(self, tmp_path: Path) -> None:
        inner = zipped(geotiff(tmp_path), tmp_path / "inner.zip")
        refused(zipped(inner, tmp_path / "a.zip"), SceneUnreadable, "another archive .'inner.zip'.; unpack it")

    @pytest.mark.parametrize("magic", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\0", b"\xfd7zXZ\0", b"BZh91AY"])
    def test_kinds_that_are_not_unpacked(self, tmp_path: Path, magic: bytes) -> None:
        (tmp_path / "a.tif").write_bytes(magic + bytes(600))
        refused(tmp_path / "a.tif", SceneUnreadable, "expected .zip, .tar or .tar.gz; unpack it")

    def test_a_password(self, tmp_path: Path) -> None:
        path = zipped(geotiff(tmp_path), tmp_path / "a.zip")
        data = bytearray(path.read_bytes())
        for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.index(signature) + at] |= 1
        path.write_bytes(data)
        refused(path, SceneUnreadable, "protected by a password; unpack it")

    def test_a_method_that_python_does_not_know(self, tmp_path: Path) -> None:
        path = zipped(geotiff(tmp_path), tmp_path / "a.zip")
        data = bytearray(path.read_bytes())
        for signature, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            data[data.index(signature) + at] = 9  # Deflate64
        path.write_bytes(data)
        refused(path, SceneUnreadable, "number 9.*unpack it")

    @pytest.mark.parametrize("suffix", PACKED)
    @pytest.mark.parametrize("percent", [2, 30, 70, 90])
    def test_a_part(self, tmp_path: Path, suffix: str, percent: int) -> None:
        path = PACKED[suffix](safe(tmp_path), tmp_path / ("a" + suffix))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * percent // 100])
        with pytest.raises((SceneTruncated, SceneUnreadable, SceneIncomplete)):
            open_scene(path)

    @pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
    def test_bytes_that_changed(self, tmp_path: Path, suffix: str) -> None:
        path = PACKED[suffix](geotiff(tmp_path), tmp_path / ("a" + suffix))
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 40] = bytes(40)
        path.write_bytes(data)
        refused(path, SceneUnreadable, "damaged archive")


class TestHostile:
    @pytest.mark.parametrize(
        "name",
        [
            *("../a.tif", "x/../../a.tif", "/tmp/a.tif", "..\\a.tif", "C:\\a.tif", "a\n.tif", "\x1b[31m.tif"),
            *("x/" * 20 + "a.tif", "a" * 300),
        ],
    )
    @pytest.mark.parametrize("kind", ["zip", "tar"])
    def test_names(self, tmp_path: Path, name: str, kind: str) -> None:
        data = geotiff(tmp_path).read_bytes()
        path = tmp_path / f"a.{kind}"
        if kind == "zip":
            written(path, (name, data))
        else:
            with tarfile.open(path, "w") as file:
                file.addfile(_member(name, len(data)), io.BytesIO(data))
        refused(path, SceneUnsafe, "a name that leads out")
        assert not (tmp_path.parent / "a.tif").exists()

    def test_a_name_with_nul(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.zip", ("aXtif", b"1"))
        path.write_bytes(path.read_bytes().replace(b"aXtif", b"a\0tif"))
        refused(path, SceneUnsafe, "a name that")

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
    def test_members_of_a_tar_that_are_no_files(self, tmp_path: Path, kind: bytes) -> None:
        member = tarfile.TarInfo("a.tif")
        member.type, member.linkname = kind, "/etc/hostname"
        with tarfile.open(tmp_path / "a.tar", "w") as file:
            file.addfile(member)
        refused(tmp_path / "a.tar", SceneUnsafe, "a link or a special file")

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
    def test_members_of_a_zip_that_are_no_files(self, tmp_path: Path, kind: int) -> None:
        member = zipfile.ZipInfo("a.tif")
        member.external_attr = (kind | 0o777) << 16
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr(member, "/etc/hostname")
        refused(tmp_path / "a.zip", SceneUnsafe, "a link or a special file")

    @pytest.mark.parametrize("names", [("a.tif", "./a.tif"), ("a", "a/b.tif"), ("a/b.tif", "a")])
    def test_names_given_twice(self, tmp_path: Path, names: tuple[str, str]) -> None:
        refused(written(tmp_path / "a.zip", *((name, b"x") for name in names)), SceneUnsafe, "twice")

    def test_another_archive_whatever_it_is_called(self, tmp_path: Path) -> None:
        packed = geotiff(tmp_path).read_bytes()
        for _ in range(3):
            packed = gzip.compress(packed)
        (tmp_path / "a.gz").write_bytes(packed)
        refused(tmp_path / "a.gz", SceneUnreadable, "another archive .a.; unpack it")

    @pytest.mark.parametrize("kind", ["zip", "tar"])
    def test_too_many(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / f"a.{kind}"
        if kind == "zip":
            written(path, *((f"{number}.txt", b"") for number in range(archive.MOST_ENTRIES + 1)))
        else:
            with tarfile.open(path, "w") as file:
                for number in range(archive.MOST_ENTRIES + 1):
                    file.addfile(_member(f"{number}.txt", 0))
        refused(path, SceneUnsafe, "more than 2,000 files")

    def test_a_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "SMALL_BYTES", 1 << 20)
        bomb = bytes(3 << 20)
        refused(written(tmp_path / "a.zip", ("a.tif", bomb)), SceneUnsafe, "200 times its size")
        (tmp_path / "b.tif.gz").write_bytes(gzip.compress(bomb))
        refused(tmp_path / "b.tif.gz", SceneUnsafe, "200 times its size")
        (tmp_path / "bomb.tif").write_bytes(bomb)
        refused(tarred(tmp_path / "bomb.tif", tmp_path / "c.tgz"), SceneUnsafe, "200 times its size")

    def test_sizes_that_lie(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "SMALL_BYTES", 1 << 20)
        path = written(tmp_path / "a.zip", ("a.tif", bytes(3 << 20)))
        for declared in (100, 0xFFFFFFFF):
            data = bytearray(path.read_bytes())
            at = data.index(b"PK\x01\x02") + 24
            data[at : at + 4] = struct.pack("<I", declared)
            (tmp_path / "lie.zip").write_bytes(data)
            with pytest.raises((SceneUnsafe, SceneUnreadable)):
                open_scene(tmp_path / "lie.zip")

    def test_the_limit_of_the_input_holds_for_all_files_together(self, tmp_path: Path) -> None:
        path = zipped(safe(tmp_path), tmp_path / "a.zip")
        limits = Limits(max_input_bytes=path.stat().st_size + 100)
        refused(path, SceneUnsafe, "limit of .* raise it with --max-input-bytes", limits)

    def test_a_sparse_member(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tar"
        member = _member("a.tif", 0)
        member.type = tarfile.GNUTYPE_SPARSE
        header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
        header[483:495] = b"77777777777\0"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        path.write_bytes(header + bytes(1024))
        refused(path, SceneUnsafe, "a special file")

    def test_headers_that_fill_the_memory(self, tmp_path: Path) -> None:
        member = _member("././@LongLink", 16 << 20)
        member.type = tarfile.GNUTYPE_LONGNAME
        (tmp_path / "a.tgz").write_bytes(gzip.compress(member.tobuf() + b"x" * (16 << 20)))
        refused(tmp_path / "a.tgz", SceneUnsafe, "of names and headers")

    def test_headers_that_are_too_many_all_together(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as file:
            for number in range(9):
                member = _member(f"{number}.txt", 0)
                member.pax_headers = {"comment": "x" * (1 << 20)}
                file.addfile(member)
        refused(tmp_path / "a.tar", SceneUnsafe, "of names and headers")

    def test_a_bomb_that_is_large_and_not_the_densest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "SMALL_BYTES", 1 << 20)
        monkeypatch.setattr(archive, "LARGE_BYTES", 2 << 20)
        path = written(tmp_path / "a.zip", ("a.tif", bytes(3 << 20) + os.urandom(50_000)))
        refused(path, SceneUnsafe, "20 times")

    def test_a_disk_without_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = zipped(safe(tmp_path), tmp_path / "a.zip")
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: usage._replace(free=10))
        with pytest.raises(OutputError, match="free disk space, or set TMPDIR"):
            open_scene(path)

    def test_hidden_files_are_left_out(self, tmp_path: Path) -> None:
        data = geotiff(tmp_path).read_bytes()
        path = written(tmp_path / "a.zip", ("s.tif", data), ("._s.tif", data), ("__MACOSX/s.tif", data))
        with open_scene(path) as scene:
            assert np.array_equal(scene.read(), PIXELS)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def test_who_unpacks_shows_life_and_may_be_stopped_by_that(tmp_path: Path) -> None:
    path = zipped(geotiff(tmp_path), tmp_path / "a.zip")
    signs: list[None] = []
    with signs_of_life(lambda: signs.append(None)), open_scene(path):
        assert signs

    def stop() -> None:
        raise KeyboardInterrupt

    with signs_of_life(stop), pytest.raises(KeyboardInterrupt):
        open_scene(path)


def test_opening_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    path = zipped(safe(tmp_path), tmp_path / "a.zip")
    open_scene(path).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with open_scene(path) as scene:
            scene.read()
    assert len(os.listdir("/proc/self/fd")) <= before
