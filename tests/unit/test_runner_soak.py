"""Many folds in one slot, some of them hostile: everything is what it was before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from test_files.examples import IRIS
from tests.effort import FACTOR
from tests.unit.runner_folds import Iris, serving, wait_until, write_classifier

FOREST = (IRIS.folder / "submissions" / "forest" / "classifier.py").read_text()
N_FOLDS = 100 * FACTOR
# One fold in ten is of these, in turn.
UNRULY = (
    write_classifier(fit="raise ValueError"),
    write_classifier(fit="os._exit(3)"),
    write_classifier(fit="if os.fork(): os.setsid() if os.fork() == 0 else None"),
    write_classifier(fit="np.ones(2**30)"),
    write_classifier(predict="return None"),
    write_classifier(top="open('/tmp/left', 'w').write('x' * 2**20)"),
)
# What an allocator may keep for itself without that being a leak.
SLACK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Held:
    """What a slot holds of the system."""

    descriptors: int
    keeper_descriptors: int
    mounts: int
    groups: int
    processes: int


@pytest.fixture
def iris(tmp_path: Path) -> Iterator[Iris]:
    with serving(tmp_path) as iris:
        yield iris


def look(iris: Iris) -> Held:
    return Held(
        descriptors=psutil.Process().num_fds(),
        keeper_descriptors=iris.keeper.num_fds(),
        mounts=len(Path(f"/proc/{iris.keeper.pid}/mountinfo").read_text().splitlines())
        + len(Path("/proc/self/mountinfo").read_text().splitlines()),
        groups=count_groups(),
        processes=len(psutil.Process().children(recursive=True)),
    )


def count_groups() -> int:
    """Count the groups of this process's runs, wherever cgroups are."""
    mark = f"-{os.getpid()}-"
    return sum(
        name.startswith("datarun-") and mark in name
        for _, folders, _ in os.walk("/sys/fs/cgroup")
        for name in folders
    )


def read_own_bytes(iris: Iris) -> int:
    info = iris.keeper.memory_info()
    return info.rss - info.shared


def settle(iris: Iris) -> None:
    """Wait until the last run is dead and the next one's child waits."""
    wait_until(
        lambda: [child.status() for child in iris.keeper.children()] == [psutil.STATUS_SLEEPING],
        what="the spare child alone",
    )


@pytest.mark.full
def test_many_folds_leave_the_slot_as_it_was(iris: Iris) -> None:
    for code in (*UNRULY, FOREST):
        iris.run(code)
    settle(iris)
    keeper, before, before_bytes = iris.keeper, look(iris), read_own_bytes(iris)

    for number in range(N_FOLDS):
        is_unruly = number % 10 == 9
        ran = iris.run(UNRULY[number // 10 % len(UNRULY)] if is_unruly else FOREST)
        assert is_unruly or ran.outcome == "tested", ran.result

    iris.run(FOREST)
    settle(iris)
    assert iris.keeper == keeper
    assert look(iris) == before
    assert read_own_bytes(iris) - before_bytes < SLACK_BYTES
