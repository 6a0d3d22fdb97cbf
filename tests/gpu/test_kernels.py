"""The kernels as device code, against numpy."""

from __future__ import annotations

import pytest

from runtime.backends.gpu.cuda import CudaDevice
from tests.gpu.random_scenes import differing_pixels


@pytest.mark.parametrize("seed", range(40))
def test_a_random_scene_over_the_gpu_is_numpys(device: CudaDevice, seed: int) -> None:
    assert differing_pixels(device, seed) == 0
