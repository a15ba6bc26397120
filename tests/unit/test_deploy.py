"""What lies in deploy/ names settings, commands and options that exist."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import load_command_class
from gunicorn.config import Config

from tests.unit.test_documentation import read_variables

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

    assert named <= set(read_variables())


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

    assert int(megabytes) >= read_variables()["DATARUN_MAX_BODY_MB"]  # type: ignore[operator]
