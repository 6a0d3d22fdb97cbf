"""The units as systemd itself judges them, and the monitoring files against the metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.daemon.config import load
from runtime.daemon.ledger import Status
from runtime.daemon.metrics import Metrics
from runtime.latency import LatencyRecord
from tests.torture.station import CHECKOUT, Station

SYSTEMD = CHECKOUT / "systemd"
UNITS = sorted(path.name for path in SYSTEMD.glob("*.service"))
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def installed(folder: Path, name: str, drop_in: str = "") -> Path:
    """The unit as if its program was installed; a template as its instance `x`."""
    shutil.copy("/bin/true", folder / "sarwater")
    unit = folder / name.replace("@.", "@x.")
    unit.write_text((SYSTEMD / name).read_text().replace("/opt/sarwater/current/bin", str(folder)))
    if drop_in:
        settings = folder / f"{unit.name}.d" / drop_in
        settings.parent.mkdir()
        shutil.copy(SYSTEMD / drop_in, settings)
    return unit


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_verify_says_nothing_about_a_unit(name: str, tmp_path: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", str(installed(tmp_path, name))], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("drop_in", sorted(path.name for path in SYSTEMD.glob("*.conf")))
def test_verify_says_nothing_about_a_drop_in(drop_in: str, tmp_path: Path) -> None:
    unit = installed(tmp_path, "sarwater-watch.service", drop_in)
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize(("name", "drop_in"), [(name, "") for name in UNITS] + [("sarwater-watch.service", "gpu.conf")])
def test_a_unit_is_exposed_to_at_most_one_point_out_of_ten(name: str, drop_in: str, tmp_path: Path) -> None:
    unit = installed(tmp_path, name, drop_in)
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=10", str(unit)]  # in tenths
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_the_template_differs_from_the_unit_in_its_instance_alone() -> None:
    unit, template = ((SYSTEMD / name).read_text().splitlines()[1:] for name in UNITS[1:])
    changed = [new for old, new in zip(unit, template, strict=True) if old != new]
    assert all("%i" in line for line in changed)
    assert len(changed) == 3


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="needs systemd-sysusers")
def test_sysusers_accepts_the_account() -> None:
    command = ["systemd-sysusers", "--dry-run", str(SYSTEMD / "sarwater.sysusers")]
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_install_and_uninstall_leave_the_settings_and_nothing_else(tmp_path: Path) -> None:
    make = ["make", "-s", "-C", str(CHECKOUT), f"DESTDIR={tmp_path}"]
    subprocess.run([*make, "install-files"], check=True)
    settings = tmp_path / "etc/sarwater/watch.toml"
    settings.write_text("# mine\n")
    subprocess.run([*make, "install-files"], check=True)
    assert settings.read_text() == "# mine\n"
    assert (tmp_path / "etc/systemd/system/sarwater-watch.service").is_file()
    subprocess.run([*make, "uninstall"], check=True)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["etc/sarwater/sarwater.env", "etc/sarwater/watch.toml"]


def test_the_example_settings_are_valid() -> None:
    config = load(SYSTEMD / "watch.toml", {}, {})
    assert config.latency_log_bytes == 0


def test_the_settings_that_the_example_only_mentions_are_valid_too(tmp_path: Path) -> None:
    mentioned = re.sub(r"^# (?=\w+ = |\[\[)", "", (SYSTEMD / "watch.toml").read_text(), flags=re.MULTILINE)
    mentioned = re.sub(r"^# (?=(glob|priority) = )", "", mentioned, flags=re.MULTILINE)
    (tmp_path / "watch.toml").write_text(mentioned)
    config = load(tmp_path / "watch.toml", {}, {})
    assert (config.sieve_px, config.upsampling_factor, config.priority[0].priority) == (25, 1, 10)
    assert (config.page, config.tell[0].name) == (Path("/run/sarwater/page.sock"), "ops")
    assert config.max_pixels == load(SYSTEMD / "watch.toml", {}, {}).max_pixels


def test_ready_status_and_pings_reach_systemd(tmp_path: Path) -> None:
    station = Station(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        heard = ""
        with station.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000") as daemon:
            while "READY=1" not in heard or heard.count("WATCHDOG=1") < 2:
                heard += manager.recv(4096).decode() + "\n"
            daemon.terminate()
        while "STOPPING=1" not in heard:
            heard += manager.recv(4096).decode() + "\n"


def exposition() -> str:
    """The text file of a daemon that has seen everything once."""
    metrics = Metrics()
    record = LatencyRecord(
        outcome="published", input_bytes=10, width_px=2, height_px=3, tiles=1, total_s=1.0, read_s=0.1
    )
    metrics.ended(record)
    metrics.retried("io")
    metrics.quarantined("bug")
    metrics.gpu_error("LaunchError")
    metrics.overflowed()
    metrics.opened("abc", "fake")
    metrics.queue({Status.SEEN: 1}, "2020-01-01T00:00:00+00:00")
    metrics.disk(Path("/"))
    metrics.progressed()
    metrics.told("ops", "delivered")
    metrics.outbox({"ops": 1})
    return metrics.text()


def test_the_metrics_file_is_what_the_official_parser_reads() -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposition())}
    assert families["sarwater_scenes"].type == "counter"
    assert families["sarwater_scene_latency_seconds"].type == "histogram"
    for name, family in families.items():
        assert family.documentation, name
        assert name.startswith("sarwater_")
        base_units = name.endswith(("_seconds", "_bytes", "_info")) or family.type in ("counter", "gauge")
        assert base_units, name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|total_total)$", name)


def test_no_metric_is_labelled_by_scene() -> None:
    allowed = {"outcome", "reason", "kind", "stage", "state", "path", "channel", "version", "engine", "backend", "le"}
    for family in text_string_to_metric_families(exposition()):
        for sample in family.samples:
            assert set(sample.labels) <= allowed


def test_every_specified_metric_is_there() -> None:
    specified = """sarwater_scenes_total sarwater_scene_retries_total sarwater_quarantined_total
        sarwater_input_bytes_total sarwater_pixels_total sarwater_tiles_total sarwater_watch_overflows_total
        sarwater_gpu_errors_total sarwater_scene_stage_duration_seconds_bucket sarwater_scene_latency_seconds_bucket
        sarwater_queue_scenes sarwater_oldest_pending_age_seconds sarwater_disk_free_bytes
        sarwater_paused sarwater_told_total sarwater_outbox_messages
        sarwater_last_publish_timestamp_seconds sarwater_last_progress_timestamp_seconds sarwater_build_info"""
    assert set(specified.split()) <= samples()


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
def test_the_monitoring_files_name_only_metrics_that_exist(name: str) -> None:
    text = (SYSTEMD / "monitoring" / name).read_text()
    named = set(re.findall(r"\bsarwater_[a-z_]+", text))
    assert len(named) > 5
    assert named <= samples()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
def test_prometheus_itself_fires_each_alert_when_it_should(tmp_path: Path) -> None:
    shutil.copy(SYSTEMD / "monitoring/alerts.yml", tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(["promtool", "check", "rules", "alerts.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (SYSTEMD / "monitoring/alerts.yml").read_text()))
    assert alerts == set(re.findall(r'alertname="(\w+)"', Path(__file__).with_name("alerts_test.yml").read_text()))


def test_the_dashboard_is_json_with_a_query_in_every_panel() -> None:
    panels = json.loads((SYSTEMD / "monitoring/dashboard.json").read_text())["panels"]
    assert all(target["expr"] for panel in panels for target in panel["targets"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
def test_prometheus_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    panels = json.loads((SYSTEMD / "monitoring/dashboard.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [
        {"record": f"query_{number}", "expr": query.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for number, query in enumerate(queries)
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert f"{len(queries)} rules found" in done.stdout, done.stdout + done.stderr


def samples() -> set[str]:
    """Names that a query can use."""
    families = list(text_string_to_metric_families(exposition()))
    return {sample.name for family in families for sample in family.samples}
