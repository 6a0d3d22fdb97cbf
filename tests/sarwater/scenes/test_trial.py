from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from sarwater import open_scene
from sarwater.errors import SceneTruncated, SceneUnreadable, SceneUnsafe
from sarwater.request import Limits
from sarwater.scenes import trial
from sarwater.scenes.life import signs_of_life
from sarwater.scenes.trial import open_on_trial
from tests.support.on_trial import SERVE
from tests.support.rasters import lake_scene, write_geotiff

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the plain way elsewhere")

LIMITS = Limits(max_open_s=1, max_open_bytes=100 << 20)
ROOT = Path(__file__).parents[3]


def try_to(look: str) -> None:
    open_on_trial(Path(look), "x", LIMITS)


def server() -> int:
    assert trial._server is not None
    return trial._server.pid


def ends(process: int) -> bool:
    """Within some seconds: it is gone, or dead and not waited for by whoever adopted it."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def run(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=120,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.usefixtures("looks")
class TestBudget:
    def test_what_never_ends_is_ended(self) -> None:
        with pytest.raises(SceneUnsafe, match=r"^x: takes more than 1 s .* --max-open-s"):
            try_to("never-end")

    def test_what_takes_all_memory_is_refused_it(self) -> None:
        with pytest.raises(SceneUnsafe, match=r"^x: needs more than 104,857,600 bytes .* --max-open-bytes"):
            try_to("take-200-mib")

    def test_memory_within_the_limit_is_given(self) -> None:
        try_to("take-50-mib")

    def test_a_crash_is_one_of_the_child(self) -> None:
        with pytest.raises(SceneUnreadable, match=r"^x: the library that decodes it crashed \(SIGSEGV\)"):
            try_to("crash")

    def test_an_error_that_is_known_is_the_same_error(self) -> None:
        with pytest.raises(SceneTruncated, match=r"^x: cut\\x0ashort$"):
            try_to("cut")

    def test_an_error_that_nobody_foresaw_costs_the_file_alone(self) -> None:
        with pytest.raises(SceneUnreadable, match=r"^x: cannot be made sense of \(IndexError: 7\).* report it"):
            try_to("index")

    def test_a_disk_at_fault_is_left_to_the_plain_way(self) -> None:
        try_to("disk")

    def test_who_waits_without_computing_proves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trial, "PATIENCE_S", 0.2)
        try_to("wait")

    def test_who_waits_for_it_shows_life(self) -> None:
        signs: list[None] = []
        with signs_of_life(lambda: signs.append(None)), pytest.raises(SceneUnsafe):
            try_to("never-end")
        assert len(signs) > 1

    def test_one_server_serves_them_all(self) -> None:
        try_to("nothing")
        first = server()
        for look in ("crash", "index", "take-200-mib"):
            with pytest.raises((SceneUnsafe, SceneUnreadable)):
                try_to(look)
        assert server() == first

    def test_nothing_is_printed_and_no_print_is_an_answer(self, capfd: pytest.CaptureFixture[str]) -> None:
        try_to("print")
        assert capfd.readouterr() == ("", "")

    def test_a_path_of_any_bytes_arrives_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        wanted = os.fsencode(tmp_path) + b"/caf\xe9 \n.tif"
        with pytest.raises(SceneTruncated) as caught:
            open_on_trial(Path(os.fsdecode(b"caf\xe9 \n.tif")), "x", LIMITS)
        assert str(caught.value) == f"{wanted!r} /"


@pytest.mark.usefixtures("looks")
class TestServer:
    def test_it_has_one_thread(self) -> None:
        try_to("nothing")
        assert len(os.listdir(f"/proc/{server()}/task")) == 1

    def test_one_that_dies_with_a_scene_proves_nothing_and_the_next_scene_has_another(self) -> None:
        try_to("kill-server")
        with pytest.raises(SceneTruncated):
            try_to("cut")

    def test_one_that_died_between_scenes_costs_no_trial(self) -> None:
        try_to("nothing")
        os.kill(server(), signal.SIGKILL)
        assert ends(server())
        with pytest.raises(SceneTruncated):
            try_to("cut")

    def test_one_that_never_answers_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        try_to("nothing")
        first = server()
        monkeypatch.setattr(trial, "PATIENCE_S", 0.1)
        monkeypatch.setattr(trial, "_START_S", 0.1)
        os.kill(first, signal.SIGSTOP)
        try_to("cut")
        assert ends(first)

    def test_one_that_cannot_be_started_costs_no_scene(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        try_to("cut")
        monkeypatch.setattr(sys, "executable", "/bin/false")
        try_to("cut")

    def test_threads_share_it(self) -> None:
        refused = []

        def refuse() -> None:
            try:
                try_to("cut")
            except SceneTruncated:
                refused.append(server())

        threads = [threading.Thread(target=refuse) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 8
        assert len(set(refused)) == 1

    def test_it_outlives_the_thread_that_started_it(self) -> None:
        thread = threading.Thread(target=try_to, args=("nothing",))
        thread.start()
        thread.join()
        first = server()
        time.sleep(0.1)
        try_to("nothing")
        assert server() == first

    def test_nothing_is_left_behind(self) -> None:
        before = os.listdir("/proc/self/fd")
        for look in ("never-end", "crash"):
            with pytest.raises((SceneUnsafe, SceneUnreadable)):
                try_to(look)
        process = server()
        trial._stop()
        assert os.listdir("/proc/self/fd") == before
        assert not Path(f"/proc/{process}").exists()


START = (
    "import os, sys\nfrom pathlib import Path\nfrom sarwater.scenes import trial\nfrom sarwater.request import Limits\n"
    f"trial._SERVE = {SERVE!r}\n"
    "def try_to(look): trial.open_on_trial(Path(look), 'x', Limits())\n"
    "try_to('nothing')\nprint(trial._server.pid, flush=True)\n"
)


class TestItsParent:
    def test_it_ends_with_its_parent_and_without_a_word(self) -> None:
        done = run(START)
        assert (done.returncode, done.stderr) == (0, "")
        assert not Path(f"/proc/{int(done.stdout)}").exists()

    def test_it_ends_with_a_parent_that_is_killed(self) -> None:
        done = run(START + "os.kill(os.getpid(), 9)")
        assert done.returncode == -signal.SIGKILL
        assert ends(int(done.stdout))

    def test_it_and_its_child_end_with_a_parent_that_is_killed_during_a_trial(self) -> None:
        code = START + "import threading\nthreading.Timer(0.5, os.kill, (os.getpid(), 9)).start()\ntry_to('wait')"
        done = run(code)
        assert done.returncode == -signal.SIGKILL
        process = int(done.stdout)
        children = Path(f"/proc/{process}/task/{process}/children")
        assert ends(process)
        assert not children.exists() or children.read_text() == ""

    def test_a_fork_of_its_parent_has_one_of_its_own_and_ends_none(self) -> None:
        fork = (
            "child = os.fork()\n"
            "try_to('nothing')\nprint(trial._server.pid, flush=True)\n"
            "if child == 0: sys.exit()\n"
            "assert os.waitpid(child, 0)[1] == 0\n"
            "try_to('nothing')\nprint(trial._server.pid, flush=True)\n"
        )
        done = run(START + fork)
        assert (done.returncode, done.stderr) == (0, "")
        first, *others = map(int, done.stdout.split())
        assert others.count(first) == 2
        assert len(set(others)) == 2
        assert all(map(ends, others))

    def test_it_runs_nothing_of_main(self, tmp_path: Path) -> None:
        (tmp_path / "script.py").write_text("print('main')\n" + START)
        command = [sys.executable, "script.py"]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        assert re.fullmatch(r"main\n\d+\n", done.stdout), done.stderr

    def test_it_finds_the_package_where_its_parent_found_it(self, tmp_path: Path) -> None:
        """Not in the folder that the process runs in, nor in the environment."""
        (tmp_path / "json.py").write_text("raise SystemExit('not the module of this name')")
        code = f"import sys; sys.path[0] = {str(ROOT)!r}\n{START}\ntry_to('cut')"
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=clean)
        assert "SceneTruncated" in done.stderr

    def test_none_of_its_descriptors_are_inherited(self) -> None:
        code = (
            "import os, socket\nkept = socket.socket()\nos.set_inheritable(kept.fileno(), True)\n"
            f"{START}\nfolder = f'/proc/{{trial._server.pid}}/fd'\n"
            "print(sorted(os.readlink(f'{folder}/{fd}').split(':')[0] for fd in os.listdir(folder)))"
        )
        done = run(code)
        assert done.stdout.splitlines()[1] == "['/dev/null', '/dev/null', '/dev/null', 'socket']", done


def test_a_sound_scene_is_open_afterwards(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(20, 30))
    with open_scene(path, Limits(max_open_s=10)) as scene:
        assert (scene.width_px, scene.height_px) == (30, 20)


def test_of_an_archive_what_was_in_it_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sarwater.scenes.readers import archived_product

    path = write_geotiff(tmp_path / "a.tif", lake_scene(20, 30))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(path, "a.tif")
    tried: list[str] = []
    monkeypatch.setattr(archived_product, "open_on_trial", lambda path, name, limits: tried.append(name))
    monkeypatch.setattr("sarwater.scenes.readers.open_on_trial", lambda path, name, limits: tried.append(name))
    with open_scene(tmp_path / "b.zip") as scene:
        assert (scene.width_px, scene.height_px) == (30, 20)
    assert tried == ["a.tif"]
