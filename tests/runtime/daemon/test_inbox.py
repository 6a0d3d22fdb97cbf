"""What counts as complete, and what is never touched."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.daemon import inbox as inbox_module
from runtime.daemon.companions import Checksum
from runtime.daemon.config import Config
from runtime.daemon.inbox import Inbox
from runtime.daemon.inotify import Hint, Hints
from runtime.daemon.kinds import Kind, examine
from tests.support.deliveries import write_k5_folder, write_safe
from tests.support.product_folders import write_dimap, write_envi
from tests.support.rasters import lake_scene

DIGEST = "0" * 64


def inbox(folder: Path, **settings: object) -> Inbox:
    incoming = folder / "incoming"
    incoming.mkdir(exist_ok=True)
    defaults: dict[str, object] = {"outgoing": folder / "out", "state": folder / "state", "settle_s": 0}
    return Inbox(Config.model_validate({"incoming": incoming, **defaults, **settings}))


def complete(box: Inbox) -> list[str]:
    return sorted(candidate.name for candidate in box.candidates.values() if candidate.complete)


def test_a_file_found_by_a_scan_is_complete_only_at_the_second_look(tmp_path: Path) -> None:
    box = inbox(tmp_path)
    (tmp_path / "incoming/a.tif").write_bytes(b"x")
    box.scan()
    assert complete(box) == []
    box.scan()
    assert complete(box) == ["a.tif"]


def test_a_file_that_grows_between_two_looks_is_not_complete(tmp_path: Path) -> None:
    box = inbox(tmp_path)
    path = tmp_path / "incoming/a.tif"
    path.write_bytes(b"x")
    box.scan()
    path.write_bytes(b"xy")
    box.scan()
    assert complete(box) == []
    box.scan()
    assert complete(box) == ["a.tif"]


def test_a_file_rewritten_in_place_after_completion_has_to_settle_again(tmp_path: Path) -> None:
    box = inbox(tmp_path)
    path = tmp_path / "incoming/a.tif"
    path.write_bytes(b"x")
    box.scan()
    box.scan()
    path.write_bytes(b"longer")
    assert not box.verify(box.candidates["a.tif"])


def test_a_file_within_its_settle_time_is_not_complete(tmp_path: Path) -> None:
    box = inbox(tmp_path, settle_s=1000)
    (tmp_path / "incoming/a.tif").write_bytes(b"x")
    box.scan()
    box.scan()
    box.due()
    assert complete(box) == []


@pytest.mark.parametrize("hidden", [".a.tif", "a.tif.part", "a.tmp", "a.filepart"])
def test_a_rename_from_an_ignored_name_completes_at_once(tmp_path: Path, hidden: str) -> None:
    box = inbox(tmp_path, settle_s=1000)
    with Hints(tmp_path / "incoming") as hints:
        (tmp_path / "incoming" / hidden).write_bytes(b"x")
        box.follow(hints.read())
        assert box.candidates == {}
        os.rename(tmp_path / "incoming" / hidden, tmp_path / "incoming/final.tif")
        box.follow(hints.read())
    assert complete(box) == ["final.tif"]
    assert box.candidates["final.tif"].found_by == "event"


def test_a_rename_between_two_open_names_proves_nothing(tmp_path: Path) -> None:
    box = inbox(tmp_path, settle_s=1000)
    with Hints(tmp_path / "incoming") as hints:
        (tmp_path / "incoming/a.tif").write_bytes(b"x")
        os.rename(tmp_path / "incoming/a.tif", tmp_path / "incoming/b.tif")
        box.follow(hints.read())
    assert complete(box) == []


def test_a_file_moved_in_from_another_folder_is_complete(tmp_path: Path) -> None:
    box = inbox(tmp_path, settle_s=1000)
    (tmp_path / "a.tif").write_bytes(b"x")
    with Hints(tmp_path / "incoming") as hints:
        os.rename(tmp_path / "a.tif", tmp_path / "incoming/a.tif")
        box.follow(hints.read())
    assert complete(box) == ["a.tif"]


def test_events_that_never_end_are_read_up_to_now(tmp_path: Path) -> None:
    with Hints(tmp_path) as hints:
        (tmp_path / "a").touch()
        for number, _ in enumerate(hints.read()):
            (tmp_path / f"b{number}").touch()
            assert number < 10


def test_names_that_never_rest_do_not_keep_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "_TURN_S", 0.0)
    box = inbox(tmp_path)
    (tmp_path / "incoming/a.tif").write_bytes(b"x")
    box.follow([Hint("a.tif")] * 1000)
    assert box.candidates == {}
    assert box.next_look_s is not None
    monkeypatch.setattr(inbox_module, "_TURN_S", 1000.0)
    box.follow([])
    assert list(box.candidates) == ["a.tif"]


def test_one_that_somebody_has_a_lease_on_waits_until_it_is_given_up(tmp_path: Path) -> None:
    box = inbox(tmp_path)
    path = tmp_path / "incoming/a.tif"
    path.write_bytes(b"x")
    with path.open("r+b") as holder:
        fcntl.fcntl(holder, fcntl.F_SETSIG, signal.SIGURG)  # which is ignored
        try:
            fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            pytest.skip("no leases on this file system")
        box.scan()
        box.scan()
        assert complete(box) == []
    box.scan()
    assert complete(box) == ["a.tif"]


def test_one_that_is_closed_after_its_rename_has_arrived(tmp_path: Path) -> None:
    box = inbox(tmp_path, settle_s=1000)
    (tmp_path / "incoming/a.tif").write_bytes(b"x")
    box.follow([Hint("a.tif", ".a.tif"), Hint("a.tif")])
    assert complete(box) == ["a.tif"]


def test_lost_events_ask_for_a_scan(tmp_path: Path) -> None:
    assert not inbox(tmp_path).follow([Hint(None)])


def test_a_marker_completes_the_file_beside_it(tmp_path: Path) -> None:
    box = inbox(tmp_path, require_marker=True)
    (tmp_path / "incoming/a.tif").write_bytes(b"x")
    box.scan()
    box.scan()
    assert complete(box) == []
    (tmp_path / "incoming/a.tif.done").touch()
    box.scan()
    assert complete(box) == ["a.tif"]
    assert "a.tif.done" not in box.candidates


def test_a_checksum_of_another_size_keeps_the_file_waiting(tmp_path: Path) -> None:
    box = inbox(tmp_path, require_marker=True)
    (tmp_path / "incoming/a.tif").write_bytes(b"half")
    (tmp_path / "incoming/a.tif.sha256").write_text(f'{{"sha256": "{DIGEST}", "size": 8}}')
    box.scan()
    assert complete(box) == []
    (tmp_path / "incoming/a.tif").write_bytes(b"the rest")
    box.scan()
    assert complete(box) == ["a.tif"]


@given(st.text())
def test_a_checksum_of_any_text_is_understood_or_refused(text: str) -> None:
    checksum = Checksum.parse(text)
    assert checksum is None or len(checksum.sha256) == 64


def test_a_checksum_in_the_format_of_sha256sum_is_understood() -> None:
    assert Checksum.parse(f"{DIGEST}  a.tif\n") == Checksum(DIGEST)


def test_links_pipes_and_unknown_folders_are_ignored(tmp_path: Path) -> None:
    box = inbox(tmp_path)
    (tmp_path / "incoming/link.tif").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "incoming/pipe.tif")
    (tmp_path / "incoming/folder").mkdir()
    box.scan()
    assert {candidate.kind for candidate in box.candidates.values()} == {Kind.IGNORED}
    assert len(box.candidates) == 3


def test_names_outside_of_accept_are_ignored(tmp_path: Path) -> None:
    box = inbox(tmp_path, accept=("*.tif",))
    (tmp_path / "incoming/readme.txt").write_text("hello")
    box.scan()
    assert box.candidates["readme.txt"].kind is Kind.IGNORED


def test_a_product_folder_is_complete_when_all_members_are_there(tmp_path: Path) -> None:
    box = inbox(tmp_path)
    product = tmp_path / "incoming/K5_X"
    product.mkdir()
    (product / "K5_X_L1D.tif").write_bytes(b"x")
    for _ in range(2):
        box.scan()
    assert complete(box) == []
    (product / "K5_X_Aux.xml").write_bytes(b"<x/>")
    for _ in range(3):
        box.scan()
    assert complete(box) == ["K5_X"]
    assert box.candidates["K5_X"].lack == ()


def test_a_product_that_stays_incomplete_is_claimed_after_the_timeout_to_be_refused(tmp_path: Path) -> None:
    box = inbox(tmp_path, product_timeout_s=1e-9)
    (tmp_path / "incoming/S1.SAFE").mkdir()
    box.scan()
    assert complete(box) == ["S1.SAFE"]
    assert box.candidates["S1.SAFE"].lack == ("manifest.safe",)


@pytest.mark.parametrize("first", [(), ("preview.png",), ("nested/half",)])
def test_a_folder_that_becomes_a_product_is_as_new(tmp_path: Path, first: tuple[str, ...]) -> None:
    box = inbox(tmp_path)
    folder = tmp_path / "incoming/delivery"
    for name in (".", *first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x") if name != "." else folder.mkdir(exist_ok=True)
    box.scan()
    assert box.candidates["delivery"].kind is Kind.IGNORED
    box.fresh.clear()
    write_k5_folder(folder / "new", lake_scene(8, 8))
    for path in (folder / "new").iterdir():
        path.rename(folder / path.name)
    box.scan()
    assert [candidate.kind for candidate in box.fresh] == [Kind.FOLDER]
    box.scan()
    assert complete(box) == ["delivery"]


def test_a_product_that_stops_being_one_is_not_complete(tmp_path: Path) -> None:
    box = inbox(tmp_path)
    folder = write_k5_folder(tmp_path / "incoming/delivery", lake_scene(8, 8))
    for _ in range(2):
        box.scan()
    box.fresh.clear()
    for path in folder.iterdir():
        path.unlink()
    assert not box.verify(box.candidates["delivery"])
    assert [candidate.kind for candidate in box.fresh] == [Kind.IGNORED]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_product_that_may_not_be_looked_into_waits(tmp_path: Path) -> None:
    box = inbox(tmp_path)
    folder = write_safe(tmp_path / "incoming/S1.SAFE", {"vv": lake_scene(8, 8)})
    folder.chmod(0)
    for _ in range(2):
        box.scan()
    folder.chmod(0o755)
    assert complete(box) == []


def test_what_is_ignored_says_why_and_what_was_looked_for(tmp_path: Path) -> None:
    box = inbox(tmp_path, accept=("*.tif",))
    (tmp_path / "incoming/folder").mkdir()
    (tmp_path / "incoming/notes.txt").write_text("hello")
    (tmp_path / "incoming/link.tif").symlink_to("/etc/hostname")
    box.scan()
    why = box.candidates["folder"].why
    assert "looked for: " in why
    assert "Sentinel-1 SAFE folder: a folder named *.SAFE" in why
    assert "`accept` takes: *.tif" in box.candidates["notes.txt"].why
    assert "a link" in box.candidates["link.tif"].why


@pytest.mark.parametrize("order", [1, -1])
def test_the_header_stands_for_the_parts_of_a_product_once_all_are_there(tmp_path: Path, order: int) -> None:
    box = inbox(tmp_path, settle_s=0)
    sigma0 = lake_scene(20, 20).astype(np.float32) / 1000
    write_dimap(tmp_path / "a.dim", {"Sigma0_VV": sigma0})
    write_envi(tmp_path / "b.img", sigma0)
    for parts, head in ((["a.dim", "a.data"], "a.dim"), (["b.img", "b.hdr"], "b.hdr")):
        first, last = parts[::order]
        (tmp_path / first).rename(tmp_path / "incoming" / first)
        for _ in range(3):
            box.scan()
        assert head not in complete(box)
        if first != head:
            assert f"it waits for {head}, which is not here" in box.candidates[first].why
        (tmp_path / last).rename(tmp_path / "incoming" / last)
        for _ in range(3):
            box.scan()
        assert head in complete(box)
        assert list(box.candidates[head].beside) == [part for part in parts if part != head]
        assert [name for name in box.candidates if name in parts] == [head]


def test_a_header_waits_for_the_last_byte_of_its_pixels(tmp_path: Path) -> None:
    box = inbox(tmp_path, settle_s=0)
    pixels = write_envi(tmp_path / "incoming/b.img", lake_scene(20, 20).astype(np.float32))
    content = pixels.read_bytes()
    pixels.write_bytes(content[:-1])
    for _ in range(4):
        box.scan()
    assert complete(box) == []
    pixels.write_bytes(content)
    for _ in range(3):
        box.scan()
    assert complete(box) == ["b.hdr"]


def test_what_somebody_takes_away_is_reported_gone(tmp_path: Path) -> None:
    box = inbox(tmp_path)
    path = tmp_path / "incoming/a.tif"
    path.write_bytes(b"x")
    box.scan()
    box.candidates["a.tif"].job = 7
    path.unlink()
    box.scan()
    assert box.gone == [7]


def test_the_first_matching_rule_gives_the_priority(tmp_path: Path) -> None:
    rules = ({"glob": "*URGENT*", "priority": 9}, {"glob": "*", "priority": -1})
    box = inbox(tmp_path, priority=rules)
    for name in ("a.tif", "a-URGENT.tif"):
        (tmp_path / "incoming" / name).write_bytes(b"x")
    box.scan()
    assert box.candidates["a-URGENT.tif"].priority == 9
    assert box.candidates["a.tif"].priority == -1


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "name", ["pair.hdr", "pair.dim", "x.img", "x.raw.hdr", "x_Aux.xml", "x.sha256", "x.h5", "x.zip"]
)
def test_a_pipe_is_not_waited_for_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    box = inbox(tmp_path)
    os.mkfifo(tmp_path / "incoming" / name)
    for beside in ("pair.img", "x.raw", "x.tif"):
        (tmp_path / "incoming" / beside).write_bytes(bytes(100))
    box.scan()
    assert box.candidates[name].kind is Kind.IGNORED


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["manifest.safe", "product.xml", "x.xml", "x.hdr", "x.dim", "x_Aux.xml", "x.tif"])
def test_a_pipe_in_a_folder_is_not_waited_for_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    box = inbox(tmp_path)
    (tmp_path / "incoming/product").mkdir()
    os.mkfifo(tmp_path / "incoming/product" / name)
    box.scan()
    assert list(box.candidates) == ["product"]


def _with_one_bad(monkeypatch: pytest.MonkeyPatch, folder: Path, bad: Callable[[], object]) -> Inbox:
    """An inbox of three scenes, of which whoever looks at `b.tif` meets `bad`."""
    box = inbox(folder)
    for name in ("a.tif", "b.tif", "c.tif"):
        (folder / "incoming" / name).write_bytes(b"x")
    monkeypatch.setattr(
        "runtime.daemon.inbox.examine", lambda path, accept: (path.name == "b.tif" and bad(), examine(path, accept))[1]
    )
    return box


def _raising(error: BaseException) -> Callable[[], object]:
    def bad() -> None:
        raise error

    return bad


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), KeyError("x"), TypeError("y"), struct.error("z"), MemoryError()]
)
def test_an_item_that_cannot_be_looked_at_costs_itself(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = _with_one_bad(monkeypatch, tmp_path, _raising(error))
    box.scan()
    box.scan()
    assert complete(box) == ["a.tif", "c.tif"]
    assert box.candidates["b.tif"].why.startswith("it cannot be looked at (")


def test_a_process_without_descriptors_is_no_fault_of_an_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = _with_one_bad(monkeypatch, tmp_path, _raising(OSError(errno.EMFILE, "Too many open files")))
    with pytest.raises(OSError, match="Too many"):
        box.scan()


def _for_ever() -> None:
    while True:
        with contextlib.suppress(Exception):
            sum(range(1000))


@pytest.mark.timeout(60)
def test_a_look_without_end_costs_the_item_and_no_scan_looks_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []
    box = _with_one_bad(monkeypatch, tmp_path, lambda: (looks.append(None), _for_ever()))
    monkeypatch.setattr("runtime.daemon.item.LOOK_S", 0.3)
    box.scan()
    box.scan()
    assert complete(box) == ["a.tif", "c.tif"]
    assert "processor time" in box.candidates["b.tif"].why
    assert len(looks) == 1


def test_a_folder_of_thousands_of_files_is_ignored_before_a_reader_looks_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = inbox(tmp_path)
    crowd = tmp_path / "incoming/crowd.SAFE"
    crowd.mkdir()
    for number in range(2001):
        (crowd / str(number)).touch()
    monkeypatch.setattr("runtime.daemon.inbox.examine", None)
    box.scan()
    assert "2,000 entries" in box.candidates["crowd.SAFE"].why


def test_a_scan_that_is_told_to_stop_takes_nothing_for_gone(tmp_path: Path) -> None:
    box = inbox(tmp_path)
    for name in ("a.tif", "b.tif"):
        (tmp_path / "incoming" / name).write_bytes(b"x")
    assert box.scan()
    box.go_on = lambda: False
    assert not box.scan()
    assert list(box.candidates) == ["a.tif", "b.tif"]
    assert box.gone == []
