"""One product in an archive: unpacked, told by what it holds, opened by the reader of that.

The input's hash and the mask's key are those of the archive's own bytes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sarwater.errors import SceneError, SceneIncomplete, SceneIsProduct, SceneNoBackscatter, SceneUnreadable
from sarwater.scenes.archive import is_archive, unpacked, without_suffix
from sarwater.scenes.backscatter import no_backscatter
from sarwater.scenes.names import polarisation_in, time_in
from sarwater.scenes.readers.base import Reader, Source
from sarwater.scenes.readers.products_within import incomplete, levels, listed
from sarwater.scenes.scene import Scene
from sarwater.scenes.trial import open_on_trial


class ArchivedProduct(Reader):
    name = "archive of one product"
    reads = "what the product in it is read for; of a HyP3 zip, its backscatter"
    unit = "that of the product"
    unused = "what is no backscatter; archives within, encrypted ones"
    looks_for = "a .zip, .tar, .tar.gz or .gz"

    def matches(self, path: Path, name: str) -> bool:
        return path.is_file() and is_archive(path)

    def open(self, source: Source) -> Scene:
        """The folder is gone before the scene is read: a file that is open stays readable without its name, and so
        nothing is left behind, whatever becomes of the scene and of this process."""
        with unpacked(source.path, source.name, source.limits) as folder:
            try:
                scene = _scene_in(folder, source)
            except SceneError as error:
                text = str(error).replace(f"{folder.resolve()}/", "").replace(f"{folder}/", "")
                raise type(error)(f"{source.name}: {text}") from error
        scene.acquired = scene.acquired or time_in(source.name)
        if len(scene.bands) == 1 and scene.bands[0].polarisation is None:
            scene.bands = (replace(scene.bands[0], polarisation=polarisation_in(source.name)),)
        return scene


def _scene_in(folder: Path, source: Source) -> Scene:
    """The scene of the uppermost products in `folder`, of which archives are none: there may be one in each, for ever.
    Raises SceneError, without the archive's name."""
    from sarwater.scenes.readers import _opened, find_reader  # which know this reader

    left_out: list[str] = []
    packed: list[str] = []
    for products in levels(folder, without_suffix(source.name)):
        scenes = []
        for path, name in products:
            if isinstance(find_reader(path, name), ArchivedProduct):
                packed.append(name)
                continue
            try:
                decoder = None
                with suppress(SceneNoBackscatter):  # it is left out below
                    decoder = open_on_trial(path, name, source.limits)
                scene = _opened(path, source.limits, name, decoder)
            except SceneIsProduct:
                left_out.append(f"{name} (one of our own products)")
                continue
            if why := no_backscatter(scene):
                left_out.append(f"{name} ({why})")
            else:
                scenes.append(scene)
        if scenes:
            scene = _as_one(scenes)
            if left_out:
                scene.notes += (f"in the archive, and not used: {'; '.join(left_out)}",)
            return scene
    if left_out:
        raise SceneNoBackscatter(f"holds no backscatter, but {listed(left_out)}; give the product that holds it")
    if packed:
        raise SceneUnreadable(f"holds another archive ({listed(packed)}); unpack it and give what is in that one")
    if lack := incomplete(folder, without_suffix(source.name)):
        raise SceneIncomplete(f"{lack}; pack all of the product")
    files = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    raise SceneUnreadable(f"holds no product that this version reads, but {listed(files)}; give one product")


def _as_one(scenes: list[Scene]) -> Scene:
    """The polarisations of one scene in files of their own, as HyP3 has them. Raises SceneUnreadable for several
    scenes."""
    first = scenes[0]
    polarisations = {band.polarisation for scene in scenes for band in scene.bands}
    same = {(scene.width_px, scene.height_px, scene.georeference, scene.acquired) for scene in scenes}
    if len(scenes) > 1 and (
        len(same) > 1 or len(polarisations) < sum(len(scene.bands) for scene in scenes) or None in polarisations
    ):
        names = listed([scene.name for scene in scenes])
        raise SceneUnreadable(f"holds {len(scenes)} scenes, {names}, expected one; unpack it and give each by itself")
    first.bands = tuple(band for scene in scenes for band in scene.bands)
    return first
