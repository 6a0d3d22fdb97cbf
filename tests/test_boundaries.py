"""The rules of ARCHITECTURE.md that a machine can check."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import export
import runtime
import sarwater
import train
from sarwater.cli import COMMANDS
from tests.conftest import CHECKOUT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
CONVERTED = ("predict", "watch", "status", "queue", "activate", "archive", "evaluate", "benchmark")
MODULES = ("runtime.predict", "runtime.watch", "runtime.evaluate")
HEAVY = (
    *("torch", "onnx", "onnxruntime", "openvino", "osgeo", "h5py", "tensorrt", "tensorrt_lean", "tensorrt_rtx"),
    *("pycuda", "modelopt", "scipy", "PIL", "matplotlib", "rich", "boto3", "distributed"),
)


def modules(package: object) -> list[str]:
    name, path = package.__name__, package.__path__  # type: ignore[attr-defined]
    return [name, *(item.name for item in pkgutil.walk_packages(path, prefix=name + "."))]


def imports(module: str) -> set[str]:
    """Top-level names that a module imports anywhere, in functions too."""
    path = CHECKOUT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def run_blocked(code: str, blocked: list[str]) -> subprocess.CompletedProcess[str]:
    """Run code in a process where importing any of `blocked` fails as if it were not installed."""
    finder = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
    return subprocess.run(
        [sys.executable, "-c", finder + code], capture_output=True, text=True, cwd=CHECKOUT, timeout=240
    )


def test_every_runtime_module_imports_without_torch_onnx_train_and_export() -> None:
    """Each as the first of ours, in one process: what they import of others is loaded once."""
    code = f"""
import importlib, traceback
for module in {modules(runtime)!r}:
    for name in [name for name in sys.modules if name.split(".")[0] in ("runtime", "sarwater")]:
        del sys.modules[name]
    try:
        importlib.import_module(module)
    except Exception:
        sys.exit(module + ": " + traceback.format_exc())
"""
    done = run_blocked(code, ["torch", "onnx", "train", "export"])
    assert done.returncode == 0, done.stderr


def test_one_backend_alone_of_the_runtime_names_pytorch_and_onnx() -> None:
    named = {module for module in modules(runtime) if imports(module) & {"torch", "onnx"}}
    assert {module.rpartition(".")[0] for module in named} <= {"runtime.backends.pytorch"}


def test_what_a_gpu_machine_is_visited_with_needs_neither_gdal_nor_openvino_nor_an_exporter() -> None:
    """Such a machine has torch, numpy, onnx and pytest."""
    code = "import benchmarks.gpu_kernels, benchmarks.gpu_peers, benchmarks.gpu_pipeline, benchmarks.gpu_training\n"
    code += "import export.from_onnx, tests.gpu.random_scenes, tests.gpu.test_scene, tests.gpu.test_kernels"
    absent = ["osgeo", "h5py", "openvino", "pydantic", "polygraphy", "modelopt", "onnxslim", "lief", "scipy", "rich"]
    done = run_blocked(code, [*absent, "tensorrt", "tensorrt_rtx", "pycuda"])
    assert done.returncode == 0, done.stderr


MORE_THAN_NUMPY = {
    "sarwater.cli": {"click"},
    "sarwater.command": {"click"},
    "sarwater.prediction": {"runtime"},  # the front door, imported when it is used
    "sarwater.progress": {"rich"},
    "sarwater.record": {"pydantic"},
    "sarwater.request": {"pydantic"},
}


@pytest.mark.parametrize("module", modules(sarwater))
def test_the_ground_imports_nothing_but_the_standard_library_and_numpy(module: str) -> None:
    known = set(sys.stdlib_module_names) | {"numpy", "sarwater"} | MORE_THAN_NUMPY.get(module, set())
    assert imports(module) <= known


@pytest.mark.parametrize("module", modules(train))
def test_training_knows_neither_export_nor_runtime(module: str) -> None:
    assert not imports(module) & {"export", "runtime"}


EXPORT_REACHES = {
    "export.from_onnx": {"torch", "train"},
    "export.to_onnx": {"torch", "train"},
    "export.samples": {"train", "runtime"},  # the simulator, which needs no torch, and the reader of scenes
    "export.runners": {"runtime"},
}


@pytest.mark.parametrize("module", modules(export))
def test_only_four_files_of_export_reach_into_training_and_runtime(module: str) -> None:
    assert imports(module) & {"torch", "train", "runtime"} <= EXPORT_REACHES.get(module, set())


def test_the_simulator_needs_no_torch() -> None:
    done = run_blocked("import train.simulator.simulate, train.simulator.radar, train.simulator.scenery", ["torch"])
    assert done.returncode == 0, done.stderr


def test_the_one_script_is_sarwater() -> None:
    assert PROJECT["project"]["scripts"] == {"sarwater": "sarwater.cli:cli"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in CONVERTED)], ids=str)
def test_help_works_in_a_bare_environment(arguments: list[str]) -> None:
    done = run_blocked(f"from sarwater.cli import cli; sys.exit(cli({arguments!r}))", list(HEAVY))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("Usage: sarwater", "sarwater, version"))


@pytest.mark.parametrize("module", MODULES)
def test_help_of_a_module_works_in_a_bare_environment(module: str) -> None:
    code = f"import runpy; sys.argv = ['x', '--help']; runpy.run_module({module!r}, run_name='__main__')"
    done = run_blocked(code, list(HEAVY))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: sarwater ")


def test_the_wheel_carries_the_model_that_ships_and_no_tests(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(CHECKOUT)]
    subprocess.run(build, check=True, timeout=200)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert {name for name in names if name.endswith("py.typed")} == {
        f"{package}/py.typed" for package in ("sarwater", "train", "export", "runtime")
    }
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {
        "sarwater",
        "train",
        "export",
        "runtime",
    }
    code = "from sarwater.models import shipped_models\nfor m in shipped_models(): "
    code += "m.manifest.verify(m.path); print(m.path)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {code}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.stdout.count(str(tmp_path / "site")) == 8, done.stderr


PAGES = [path for pattern in ("*.md", "docs/*.md", "systemd/*.md") for path in sorted(CHECKOUT.glob(pattern))]


@pytest.mark.parametrize("page", [path for path in PAGES if path.name != "CHANGELOG.md"], ids=lambda path: path.name)
def test_the_documentation_names_only_commands_that_exist(page: Path) -> None:
    text = page.read_text()
    units = {path.name.partition(".")[0].rstrip("@") for path in (CHECKOUT / "systemd").glob("*.service")}
    for name in set(re.findall(r"\b(sarwater-[a-z-]+)", text)):
        assert name in units, name
    for name in set(re.findall(r"(?:^ {4,}|`)sarwater ([a-z][a-z-]*)", text, re.MULTILINE)):
        assert name in COMMANDS, name
    for module in set(re.findall(r"python -m ((?:train|export|runtime)(?:\.\w+)+)", text)):
        assert (CHECKOUT / (module.replace(".", "/") + ".py")).is_file(), module
