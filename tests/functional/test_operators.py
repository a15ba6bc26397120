"""What operators see of a service that works, and of one whose parts are killed, away or full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from test_files.examples import IRIS
from tests.functional.account import Account
from tests.functional.instances import Instance, private_redis
from tests.functional.service import HOST, PROJECT, Service, serving, wait_until
from tests.functional.test_restart import make_code
from tests.ports import find_free_port

ENVIRONMENT = {
    "DATARUN_SLOTS": "1",
    "DATARUN_LEASE_SECONDS": "4",
    "DATARUN_HEARTBEAT_SECONDS": "1",
    "DATARUN_LEAST_FREE_MB": "1",
    "DATARUN_LOG_FORMAT": "json",
}
MORE_THAN_ANY_DISK_MB = str(10**12)


@pytest.fixture(scope="module")
def broker() -> Iterator[Instance]:
    with private_redis() as instance:
        yield instance


@pytest.fixture(scope="module")
def service(broker: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    environment = {**ENVIRONMENT, "CELERY_BROKER_URL": broker.url}
    folder = tmp_path_factory.mktemp("operators")
    with serving(folder, environment, is_calm=False) as service:
        yield service


@pytest.fixture(scope="module")
def account(service: Service) -> Account:
    return service.make_account("watched")


@pytest.fixture(scope="module")
def raw_data_id(account: Account) -> int:
    posted = account.post_example(IRIS)
    account.wait_for_split(posted)
    return posted


def list_failed(host_url: str) -> set[str]:
    """Return what is not as it should be, by the answer to a load balancer."""
    response = requests.get(f"{host_url}health/ready", timeout=10)
    checks: dict[str, dict[str, str]] = response.json()["checks"]
    failed = {name for name, shown in checks.items() if shown["status"] != "ok"}
    assert response.status_code == (503 if failed else 200)
    return failed


def read_metric(host_url: str, name: str, **labels: str) -> float | None:
    """Return one sample of a scrape, None where it is not told."""
    text = requests.get(f"{host_url}metrics", timeout=10).text
    for metric in text_string_to_metric_families(text):
        for sample in metric.samples:
            if sample.name == name and sample.labels.items() >= labels.items():
                return float(sample.value)
    return None


def read_log(service: Service) -> list[dict[str, Any]]:
    """Return what was logged; what Celery and `serve` print for people is no line of a log."""
    lines = [line for line in service.log.splitlines() if line.strip()]
    said = ("datarun answers at", "worker: ")
    return [json.loads(line) for line in lines if not line.startswith(said)]


def test_request_can_be_followed_to_its_result(
    service: Service, account: Account, raw_data_id: int
) -> None:
    wait_until(lambda: not list_failed(service.host_url), what="the service is ready")
    fold_id = account.post_code(raw_data_id, make_code(seconds=0.1), train_is=range(60))

    account.wait_for_fold(fold_id)

    lines = wait_until(
        lambda: [line for line in read_log(service) if line.get("action") == "fold_ended"],
        what="the log tells of the fold's end",
    )
    request_id = lines[0]["request"]
    actions = [line["action"] for line in read_log(service) if line.get("request") == request_id]
    # The web server tells of the post once it is answered, when a worker may have begun.
    assert sorted(actions) == sorted(["request", "fold_claimed", "attempt_begun", "fold_ended"])
    assert [action for action in actions if action != "request"] == [
        "fold_claimed",
        "attempt_begun",
        "fold_ended",
    ]
    assert {"task", "fold", "attempt", "worker", "keeper"} <= set(lines[0])
    assert account.password not in service.log
    assert read_metric(service.host_url, "datarun_folds_finished_total", outcome="tested") == 1
    assert read_metric(service.host_url, "datarun_stage_seconds_count", stage="train") == 1
    assert read_metric(service.host_url, "datarun_keeper_starts_total", reason="first") == 1


def test_broker_that_is_stopped_is_seen(service: Service, broker: Instance) -> None:
    broker.stop()
    wait_until(lambda: list_failed(service.host_url) == {"broker"}, what="the broker is missed")
    is_up = read_metric(service.host_url, "datarun_broker_up")
    doctor = examine(service)
    broker.start()

    assert is_up == 0
    assert doctor == {"broker"}
    wait_until(lambda: not list_failed(service.host_url), what="the service is ready again")
    assert read_metric(service.host_url, "datarun_broker_up") == 1


def examine(service: Service, environment: Mapping[str, str] | None = None) -> set[str]:
    """Return what the doctor finds wrong."""
    done = subprocess.run(
        [sys.executable, str(PROJECT / "manage.py"), "doctor", "--json"],
        # Without slots it does not try the sandbox, which is tried at length elsewhere.
        env={**service.environment, "DATARUN_SLOTS": "0", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    failed = {row["name"] for row in json.loads(done.stdout) if row["level"] == "fail"}
    assert done.returncode == (1 if failed else 0), done.stderr
    return failed


@contextmanager
def serving_web(service: Service, environment: Mapping[str, str]) -> Iterator[str]:
    """Run another web server of the installation; yield its address."""
    port = find_free_port(HOST)
    words = ("-m", "gunicorn", "datarun.wsgi", "--config", "python:datarun.web")
    with (service.folder / "web.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *words, "--bind", f"{HOST}:{port}", "--workers", "2"],
            cwd=PROJECT,
            env={**service.environment, **environment, "TMPDIR": str(service.folder)},
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://{HOST}:{port}/"
    finally:
        process.terminate()
        process.wait(30)


def test_disk_limit_is_seen(service: Service) -> None:
    limit = {"DATARUN_LEAST_FREE_MB": MORE_THAN_ANY_DISK_MB}

    with serving_web(service, limit) as host_url:
        wait_until(lambda: is_live(host_url), what="the other web server answers")
        failed = list_failed(host_url)
        for _ in range(20):
            requests.get(f"{host_url}runapp/rawdata/", timeout=10)
        refused = read_metric(host_url, "django_http_responses_total_by_status_total", status="401")

    assert failed == {"disk"}
    assert "disk" in examine(service, limit)
    # By both of its processes, and by no other web server's.
    assert refused == 20
    assert list(Path(service.folder).glob("datarun-metrics-*")) == []


def is_live(host_url: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"{host_url}health/live", timeout=10).status_code == 200
    return False


def test_worker_that_is_killed_is_seen(
    service: Service, account: Account, raw_data_id: int
) -> None:
    fold_id = account.post_code(raw_data_id, make_code(seconds=1), train_is=range(60))
    account.wait_until_running(fold_id)

    with worker_killed(service):
        wait_until(lambda: list_failed(service.host_url) == {"workers"}, what="it is missed")
        live = read_metric(service.host_url, "datarun_workers_live")
        table = service.manage("folds", "--state", "running")
    fold = account.wait_for_fold(fold_id)

    assert live == 0
    assert str(fold_id) in table
    assert fold["state"] == "TESTED"
    wait_until(lambda: not list_failed(service.host_url), what="the service is ready again")
    assert read_metric(service.host_url, "datarun_leases_expired_total", kind="fold") == 1


@contextmanager
def worker_killed(service: Service) -> Iterator[None]:
    """Kill the worker, and let nobody start it again within the block."""
    worker = service.find_part("celery")
    assert worker is not None
    service.process.send_signal(signal.SIGSTOP)
    try:
        os.killpg(os.getpgid(worker.pid), signal.SIGKILL)
        yield
    finally:
        service.process.send_signal(signal.SIGCONT)


def test_answers_of_the_probes_name_no_place(service: Service) -> None:
    for path in ("health/live", "health/ready"):
        text = requests.get(f"{service.host_url}{path}", timeout=10).text

        assert str(service.folder) not in text
        assert check_json(text)


def check_json(text: str) -> bool:
    return isinstance(json.loads(text), dict)
