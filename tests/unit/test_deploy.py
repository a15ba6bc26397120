"""What lies in deploy/ names settings, commands and options that exist."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import load_command_class
from django_prometheus.middleware import Metrics
from gunicorn.config import Config

from datarun.variables import VARIABLES
from runapp.changes.counters import COUNTERS, HISTOGRAMS
from tests.effort import miss
from tests.unit.test_documentation import walk_calls

PROJECT = Path(__file__).resolve().parents[2]
DEPLOY = PROJECT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
ROOT = "/opt/datarun/"
DJANGOS_COMMANDS = {"migrate"}


def read_unit(path: Path, section: str = "Service") -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser[section]


def list_unit_commands() -> list[list[str]]:
    keys = ("ExecStartPre", "ExecStart")
    units = [read_unit(path) for path in UNITS]
    return [shlex.split(unit[key]) for unit in units for key in keys if key in unit]


def read_compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return content


def list_commands() -> list[list[str]]:
    services = read_compose()["services"].values()
    shell_free = re.search(r"^CMD (\[.*?\])", (DEPLOY / "Dockerfile").read_text(), re.M | re.S)
    assert shell_free
    return [
        *list_unit_commands(),
        *(service["command"] for service in services if "command" in service),
        yaml.safe_load(shell_free[1].replace("\\\n", "")),
    ]


def read_seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_variables_that_are_named_exist(path: Path) -> None:
    named = set(
        re.findall(r"\b(?:DATARUN_[A-Z_]+|DATABASE_URL|CELERY_[A-Z_]+)\b", path.read_text())
    )

    assert named <= set(VARIABLES)


def test_commands_that_are_started_exist() -> None:
    own = {path.stem for path in (PROJECT / "runapp/management/commands").glob("[a-z]*.py")}
    commands = list_commands()

    programs = {command[0].removeprefix(ROOT) for command in commands}
    managed = {words[2] for words in commands if words[1] == "manage.py"}

    assert programs == {".venv/bin/python", ".venv/bin/gunicorn", ".venv/bin/celery"}
    assert "worker" in managed
    assert managed <= own | DJANGOS_COMMANDS


@pytest.mark.parametrize("name", ["web", "worker", "prune"])
def test_part_that_reads_blobs_waits_for_their_mount(name: str) -> None:
    unit = read_unit(DEPLOY / f"datarun-{name}.service", "Unit")

    assert unit["RequiresMountsFor"] == "/srv/datarun"


def test_options_of_the_web_server_exist() -> None:
    parser = Config().parser()
    commands = [words[1:] for words in list_commands() if words[0].endswith("gunicorn")]

    assert len(commands) == 2
    for words in commands:
        assert parser.parse_known_args(words)[1] == []


def test_timer_starts_what_there_is() -> None:
    timer = configparser.ConfigParser(interpolation=None)
    timer.read(DEPLOY / "datarun-prune.timer")
    unit = read_unit(DEPLOY / "datarun-prune.service")

    # It names no unit, so it starts the one of its own name, which must end by itself.
    assert "Unit" not in timer["Timer"]
    assert timer["Timer"]["OnCalendar"]
    assert unit["Type"] == "oneshot"
    assert "prune" in shlex.split(unit["ExecStart"])


def test_options_of_the_commands_exist() -> None:
    for words in list_commands():
        if words[1] == "manage.py" and words[2] not in DJANGOS_COMMANDS:
            command = load_command_class("runapp", words[2])
            parser = command.create_parser("manage.py", words[2])
            assert parser.parse_known_args(words[3:])[1] == []


def test_worker_has_its_control_group_and_time_to_stop() -> None:
    unit = read_unit(DEPLOY / "datarun-worker.service")
    lines = (DEPLOY / "environment.example").read_text().splitlines()
    named = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    grace_seconds = int(named["DATARUN_SHUTDOWN_GRACE_SECONDS"])

    assert unit["Delegate"] == "yes"
    assert unit["KillMode"] == "mixed"
    assert int(unit["TimeoutStopSec"]) > grace_seconds


def test_container_of_the_worker_has_time_to_stop() -> None:
    worker = read_compose()["services"]["worker"]
    grace_seconds = int(worker["environment"]["DATARUN_SHUTDOWN_GRACE_SECONDS"])

    assert read_seconds(worker["stop_grace_period"]) > grace_seconds
    assert worker["privileged"] is True


def test_web_server_before_it_takes_as_large_a_body() -> None:
    (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", (DEPLOY / "nginx.conf").read_text())

    assert int(megabytes) >= int(VARIABLES["DATARUN_MAX_BODY_MB"].default or 0)


def list_queries() -> list[str]:
    """Return what the alerts and the dashboard ask Prometheus."""
    rules = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    targets = [target for panel in panels for target in panel.get("targets", ())]
    return [each["expr"] for each in [*rules, *targets]]


def list_samples() -> set[str]:
    """Return the names of all samples that a scrape may hold."""
    ours = {
        node.args[0].value
        for node in walk_calls(PROJECT / "runapp" / "monitoring" / "metrics.py")
        if node.args and isinstance(node.args[0], ast.Constant)
    }
    ups = {"datarun_database_up", "datarun_broker_up"}
    counters = {f"{counter.name}_total" for counter in COUNTERS}
    ends = ("_bucket", "_sum", "_count")
    histograms = {f"{histogram.name}{end}" for histogram in HISTOGRAMS for end in ends}
    requests = {
        f"{name}{end}"
        for metric in vars(Metrics.get_instance()).values()
        for name in [metric._name]
        for end in ("", "_total", *ends)
    }
    return ours | ups | counters | histograms | requests


def test_queries_ask_for_what_there_is() -> None:
    named = set(re.findall(r"\b(?:datarun|django)_\w+", " ".join(list_queries())))

    assert named
    assert named <= list_samples()


def test_documentation_names_the_metrics_that_there_are() -> None:
    page = (PROJECT / "docs" / "operations.md").read_text()
    section = page.partition("## Metrics\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"`(datarun_\w+)`", section))

    names = {name.removesuffix(end) for name in list_samples() for end in ("_bucket", "_sum")}
    assert told <= names
    ours = {name for name in list_samples() if name.startswith("datarun_")}
    histograms = {histogram.name for histogram in HISTOGRAMS}
    samples = {name for name in ours if not name.startswith(tuple(histograms))}
    assert samples | histograms == told


def test_panels_of_the_dashboard_are_told_apart() -> None:
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_every_alert_says_what_to_do_and_is_tried() -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
    tests = (DEPLOY / "alerts.test.yaml").read_text()

    assert all({"summary", "action"} <= set(rule["annotations"]) for rule in rules)
    assert [rule["alert"] for rule in rules if rule["alert"] not in tests] == []


def test_alerts_fire_as_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        miss("promtool is not installed (apt-get install prometheus)")

    command = [promtool, "test", "rules", "alerts.test.yaml"]
    done = subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
