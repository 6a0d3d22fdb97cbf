from __future__ import annotations

import pytest

from tests.support.host_kernels import HostKernels, compile_for_host


@pytest.fixture(scope="session")
def host_kernels(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    return compile_for_host(tmp_path_factory.mktemp("kernels"))
