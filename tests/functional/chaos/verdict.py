"""What must hold after the chaos, by the tables and by the operating system."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from tests.functional.account import Row, assert_same_bits, read_predictions
from tests.functional.chaos.client import Wish
from tests.functional.chaos.site import Site
from tests.functional.service import wait_until
from tests.functional.tables import to_seconds

RECORD_SECONDS = 15.0
CGROUPS = Path("/sys/fs/cgroup")

FOLDS = (
    "select f.id, f.databoard_sf_id, f.phase, f.state, f.error_code, f.attempt, f.queued_at"
    " from runapp_submissionfold f"
)
ATTEMPTS = "select fold_id, number, outcome, started_at from runapp_foldattempt"
UNFINISHED = "select fold_id, number from runapp_foldattempt where outcome = ''"
PARTS = "select fold_id, part from runapp_predictions"


def assert_ended_as_wished(
    wishes: Iterable[Wish], rows: Mapping[int, Row], calm: Mapping[int, Row]
) -> None:
    """Check how each fold has ended, and that what it predicts is a calm run's to the bit."""
    for wish in wishes:
        row = rows[wish.fold_id]
        end = "TESTED" if row["state"] == "TESTED" else row["error_code"]
        assert end in wish.ends, (wish, row["state"], row["error_code"], row["log_messages"])
        if end == "TESTED":
            assert_same_bits(row, read_predictions(calm[wish.code]))
        else:
            assert row["test_predictions"] is row["full_train_predictions"] is None


def assert_tables_agree(site: Site) -> None:
    """Check that each fold has one end, and its results are those of the attempt that won."""
    wait_until(
        lambda: not site.read(UNFINISHED), what="every attempt has ended", seconds=RECORD_SECONDS
    )
    attempts: dict[int, list[tuple[int, str, float]]] = defaultdict(list)
    for fold, number, outcome, started_at in site.read(ATTEMPTS):
        started = 0.0 if started_at is None else to_seconds(started_at)
        attempts[fold].append((number, outcome, started))
    parts: dict[int, list[str]] = defaultdict(list)
    for fold, part in site.read(PARTS):
        parts[fold].append(part)
    for fold, client_id, phase, state, error_code, attempt, queued_at in site.read(FOLDS):
        about = (client_id, state, error_code, attempt, sorted(attempts[fold]))
        is_tested = state == "TESTED"
        assert phase == "done", about
        # What came before the fold was last posted has been answered, and forgotten by its client.
        won = [
            number
            for number, outcome, started in attempts[fold]
            if outcome == "tested" and started >= to_seconds(queued_at)
        ]
        assert won == ([attempt] if is_tested else []), about
        assert max([number for number, *_ in attempts[fold]], default=0) <= attempt, about
        assert sorted(parts[fold]) == (["full_train", "test"] if is_tested else []), about


def count_outcomes(site: Site) -> dict[str, int]:
    """Return how many attempts ended how."""
    query = "select outcome, count(*) from runapp_foldattempt group by outcome order by outcome"
    return dict(site.read(query))


def assert_nothing_left(site: Site) -> None:
    """Check that a service that has ended left no process, mount, group or working folder."""
    assert [_describe(process) for process in site.seen if process.is_running()] == []
    assert [line for line in _read_mounts() if str(site.folder) in line] == []
    numbers = {str(process.pid) for process in site.seen}
    groups = [path for path in CGROUPS.glob("**/datarun-*-*-*-*") if _owner(path) in numbers]
    assert groups == []
    assert list(site.folder.glob("**/scratch/*")) == []


def _owner(group: Path) -> str:
    # datarun-<namespace>-<process>-<its start>-<serial>
    return group.name.split("-")[2]


def _read_mounts() -> list[str]:
    lines = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            lines += Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return lines


def _describe(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())}"
    return ""
