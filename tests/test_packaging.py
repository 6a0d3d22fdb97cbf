"""The ways in: each says what it needs, and needs the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from osgeo import gdal
from packaging.requirements import Requirement

from sarwater import __version__
from sarwater.installing import for_this_environment
from sarwater.scenes.raster import INSTALL
from tests.conftest import CHECKOUT
from tests.test_habits import asked_for

PACKAGING = CHECKOUT / "packaging"
CONTAINERS = sorted(PACKAGING.glob("Containerfile*"))
HADOLINT = Path(sys.executable).with_name("hadolint")


def test_the_wheel_leaves_the_choice_of_gdal_to_the_machine() -> None:
    assert "gdal" not in {requirement.name.lower() for requirement in asked_for(())}


def test_without_gdal_the_first_scene_ends_with_the_command_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "osgeo").mkdir()
    (tmp_path / "osgeo" / "__init__.py").write_text(
        "raise ImportError('libgdal.so.99: cannot open shared object file')"
    )
    scene = CHECKOUT / "demo" / "img" / "SIM00001_k5.tif"
    done = subprocess.run(
        [sys.executable, "-m", "sarwater", "predict", str(scene), "-o", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{CHECKOUT}"},
        capture_output=True, text=True, timeout=250, cwd=tmp_path,
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 78, done.stderr
    assert "libgdal.so.99" in last
    assert f"`{for_this_environment(INSTALL)}`" in last


def test_the_page_brings_gdal_by_the_command_of_the_message() -> None:
    lines = INSTALL.replace(" && ", "\n    ")
    assert f"\n    {lines}\n" in (CHECKOUT / "docs" / "install.md").read_text()


@pytest.mark.skipif(not HADOLINT.exists(), reason="needs hadolint")
@pytest.mark.parametrize(
    "file",
    [*CONTAINERS, CHECKOUT / "docs" / "archive" / "Containerfile"],
    ids=lambda file: f"{file.parent.name}-{file.name}",
)
def test_a_linter_finds_nothing_in_a_container_file(file: Path) -> None:
    done = subprocess.run([HADOLINT, file], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("file", CONTAINERS, ids=lambda file: file.name)
def test_what_a_container_file_copies_leaves_environments_and_history_out(file: Path) -> None:
    assert "COPY . ." in file.read_text()
    ignored = (CHECKOUT / ".dockerignore").read_text().split()
    assert {".git", ".venv*", "runs"} <= set(ignored)


def test_the_conda_recipe_asks_for_what_the_wheel_asks_for_and_gdal() -> None:
    recipe = yaml.safe_load((PACKAGING / "conda" / "recipe.yaml").read_text())
    assert recipe["context"]["version"] == __version__
    run = [Requirement(line.replace("_", "-")) for line in recipe["requirements"]["run"]]
    theirs = {requirement.name: requirement.specifier for requirement in run}
    ours = {requirement.name: requirement.specifier for requirement in asked_for(())}
    assert ours.items() <= theirs.items()
    assert theirs.keys() - ours.keys() == {"python", "gdal", "libgdal-hdf5"}


@pytest.mark.parametrize("script", sorted((PACKAGING / "debian").iterdir()), ids=lambda script: script.name)
def test_a_script_of_the_debian_package_is_a_script(script: Path) -> None:
    shell = script.read_text().splitlines()[0].split("/")[-1].split()[-1]
    subprocess.run([shell, "-n", script], check=True)
    assert os.access(script, os.X_OK)


def test_what_is_staged_names_the_final_folder_alone(tmp_path: Path) -> None:
    """`make --dry-run` of the installation: what lies below DESTDIR is to run without it."""
    done = subprocess.run(
        ["make", "--dry-run", "install", f"DESTDIR={tmp_path}", "RELEASE=7"],
        capture_output=True, text=True, cwd=CHECKOUT, check=True, timeout=60,
    )  # fmt: skip
    assert f'./environment.sh "{tmp_path}/opt/sarwater/releases/7"' in done.stdout
    assert f"s|{tmp_path}/opt/sarwater/releases/7|/opt/sarwater/releases/7|g" in done.stdout.replace('"', "")
    assert "systemctl" not in done.stdout.split("else", 1)[0]


STAGED = r"""#!/bin/bash
# In place of make: the files as they are, and of the environment what the package is told by.
for word in "$@"; do
    case $word in
        DESTDIR=*) tree=${word#DESTDIR=} ;;
        RELEASE=*) release=${word#RELEASE=} ;;
        install) word=install-files ;;
    esac
    arguments+=("$word")
done
/usr/bin/make "${arguments[@]}"
program=$tree/opt/sarwater/releases/$release
"$PYTHON" -m venv --without-pip "$program"
install -D -t "$program/lib/python3.0/site-packages/osgeo" "$LIBRARY"
echo "#!${program#"$tree"}/bin/python" > "$program/bin/sarwater"
ln -s "releases/$release" "$tree/opt/sarwater/current"
mkdir -p "$tree/usr/bin" && ln -s /opt/sarwater/current/bin/sarwater "$tree/usr/bin/sarwater"
"""


def build_and_install(tmp_path: Path) -> tuple[Path, list[str]]:
    """(the root of a system with the package, how dpkg is called for it)."""
    subprocess.run([PACKAGING / "debian" / "build.sh", tmp_path / "dist"], check=True, timeout=1500)
    (package,) = (tmp_path / "dist").glob("*.deb")
    depends = subprocess.run(["dpkg-deb", "--field", package, "Depends"], capture_output=True, text=True, check=True)
    assert re.search(r"libgdal\d+", depends.stdout)
    assert re.search(r"python3 \(>= 3\.\d+\), python3 \(<< 3\.\d+\)", depends.stdout)
    root = tmp_path / "root"
    for folder in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "etc"):
        (root / folder).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    dpkg = ["dpkg", f"--root={root}", "--force-depends", "--force-not-root", "--force-script-chrootless"]
    subprocess.run([*dpkg, "--install", package], check=True, timeout=300)
    return root, dpkg


def check_installed(root: Path, dpkg: list[str]) -> None:
    """The files are where Debian has them; settings stay when the package goes."""
    assert "sarwater" in (root / "etc/passwd").read_text()
    assert (root / "var/lib/sarwater/incoming").is_dir()
    assert (root / "usr/lib/systemd/system/sarwater-watch.service").is_file()
    assert os.readlink(root / "usr/bin/sarwater") == "/opt/sarwater/current/bin/sarwater"
    program = (root / "opt/sarwater/current/bin/sarwater").read_text()
    assert program.startswith(f"#!/opt/sarwater/releases/{__version__}/bin/python")
    settings = root / "etc/sarwater/watch.toml"
    settings.write_text(settings.read_text() + "# ours\n")
    subprocess.run([*dpkg, "--remove", "sarwater"], check=True, timeout=300)
    assert settings.read_text().endswith("# ours\n")
    assert not (root / "opt/sarwater").exists()


needs_dpkg = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None or os.geteuid() != 0, reason="needs dpkg-deb, and root to make an account"
)


@needs_dpkg
def test_the_debian_package_is_told_by_its_files_installs_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the environment, which takes minutes to build."""
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text(STAGED)
    make.chmod(0o755)
    (library,) = Path(gdal.__file__).parent.glob("_gdal.*.so")
    monkeypatch.setenv("LIBRARY", str(library))
    monkeypatch.setenv("PATH", f"{make.parent}{os.pathsep}{os.environ['PATH']}")
    check_installed(*build_and_install(tmp_path))


@needs_dpkg
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_debian_package_runs(tmp_path: Path) -> None:
    root, dpkg = build_and_install(tmp_path)
    python = root / "opt/sarwater/current/bin/python"
    for arguments in (["--version"], ["doctor"]):
        done = subprocess.run([python, "-m", "sarwater", *arguments], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    check_installed(root, dpkg)
