"""What holds for all tests."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.effort import CHAOS_SEED
from tests.object_server import CREDENTIALS, ObjectServer, serving_objects

MAIN_JOB = "tests/functional/test_main_job.py"

# Their asserts explain themselves as those of the tests do.
pytest.register_assert_rewrite(
    "tests.functional.account",
    "tests.functional.chaos.client",
    "tests.functional.chaos.verdict",
    "tests.functional.service",
)


@pytest.fixture(scope="session")
def shared_object_server() -> Iterator[ObjectServer]:
    """An S3-compatible server, for all tests that leave it running."""
    with serving_objects() as server:
        yield server


@pytest.fixture
def object_server(
    shared_object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> ObjectServer:
    """The server, with its credentials in the environment of this test."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return shared_object_server


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the functional tests to the full run, one by one, but for the main job.

    They wait for events with deadlines, which two busy processors do not meet.
    """
    for item in items:
        module = item.nodeid.partition("::")[0]
        if module.startswith("tests/functional/") and module != MAIN_JOB:
            item.add_marker(pytest.mark.full)
            item.add_marker(pytest.mark.clock)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how long the tests of each folder took, added up over all processes."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[str(Path(report.nodeid.partition("::")[0]).parent)] += report.duration
    terminalreporter.section("seconds by folder")
    for folder, sum_ in seconds.most_common():
        terminalreporter.line(f"{sum_:8.0f} {folder}")


def pytest_configure() -> None:
    """Let the programs that tests start be stopped, whoever started the tests.

    What runs in the background of a script ignores SIGINT and SIGQUIT, under nohup SIGHUP, and so
    would a database that is to be crashed before it has set up its own handling.
    """
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Tell with what the chaos of this run can be repeated."""
    return f"DATARUN_CHAOS_SEED={CHAOS_SEED}"
