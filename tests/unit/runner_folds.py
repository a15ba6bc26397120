"""A real supervisor, the iris data and small submissions, for the tests of the runner."""

from __future__ import annotations

import io
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from runapp.runner.child import splitting
from runapp.runner.contract import DataForm, FoldJob, Limits, RunResult, StageReport
from runapp.runner.data import array_file, dataframes
from runapp.runner.host import Host, survey_host
from runapp.runner.keeper import handle
from runapp.runner.sandbox.levels import Level
from runapp.runner.supervisor import Supervisor
from test_files.examples import IRIS, RANDOM_STATE

DEADLINE_SECONDS = 20

# Predicts the first class for every row.
CLASSIFIER = """
import os, signal, sys, time
import numpy as np
{top}

class Classifier:
    def fit(self, X, y):
{fit}

    def predict_proba(self, X):
{predict}
        return np.tile([1.0, 0.0, 0.0], (len(X), 1))
"""


# Starts a keeper without scikit-learn, which takes a third of the time.
LIGHT_BOOTSTRAP = """
import sys, types
sys.path.insert(0, sys.argv[1])
for name, things in (
    ("keeper.warm_up", {"rehearse": lambda: None}),
    ("child.splitting", {"split_csv": None, "SplitError": type("SplitError", (ValueError,), {})}),
):
    module = types.ModuleType(name)
    vars(module).update(things)
    sys.modules[f"runapp.runner.{name}"] = module
from runapp.runner.keeper import process as keeper
keeper.WARM_MODULES = ()
%s
keeper.main(sys.argv[2:])
"""


@dataclass(frozen=True)
class Ran:
    """What came of a fold, and what was reported on the way."""

    result: RunResult
    reports: list[StageReport]

    @property
    def outcome(self) -> str:
        return self.result.outcome.value

    @property
    def printed(self) -> list[str]:
        return self.result.output.split()


@cache
def plain_host() -> Host:
    """Return what a host without any isolation and any cgroup would offer."""
    return survey_host(best=Level.PROCESS, has_cgroups=False)


# The best that this host offers, and nothing.
HOSTS: dict[str, Callable[[], Host]] = {"sealed": survey_host, "plain": plain_host}


@contextmanager
def serving(
    folder: Path, *, bootstrap: str | None = None, host: Host | None = None
) -> Iterator[Iris]:
    """Yield a runner of folds with a warm keeper, or one that is started in another way."""
    with pytest.MonkeyPatch.context() as patch:
        if bootstrap is not None:
            patch.setattr(handle, "_BOOTSTRAP", bootstrap)
        iris = Iris(folder, host)
        iris.supervisor.warm_up()
        yield iris
        iris.supervisor.close()


@dataclass
class Iris:
    """Runs folds on iris, one after the other, by one supervisor."""

    folder: Path
    host: Host | None = None
    supervisor: Supervisor = field(init=False)

    def __post_init__(self) -> None:
        self.scratch_root = self.folder / "scratch"
        self.supervisor = Supervisor(
            scratch_root=self.scratch_root, inputs_root=self.folder, host=self.host
        )
        self.parts = split_iris()
        for name, X in (("X_train", self.parts.X_train), ("X_test", self.parts.X_test)):
            with (self.folder / name).open("wb") as file:
                dataframes.write_frame(X, file)

    def run(
        self,
        code: str | Mapping[str, str],
        *,
        on_stage: Callable[[StageReport], object] = lambda report: None,
        should_stop: Callable[[], bool] = lambda: False,
        on_start: Callable[[], None] = lambda: None,
        **names: Any,
    ) -> Ran:
        """Run a classifier's code, or files; `names` as `make_job` takes them."""
        reports: list[StageReport] = []

        def keep(report: StageReport) -> None:
            reports.append(report)
            on_stage(report)

        job = make_job(code, parts=self.parts, **names)
        with (
            (self.folder / "X_train").open("rb") as x_train,
            (self.folder / "X_test").open("rb") as x_test,
        ):
            result = self.supervisor.run_fold(
                job=job,
                x_train=x_train,
                x_test=x_test,
                on_stage=keep,
                should_stop=should_stop,
                on_start=on_start,
            )
        return Ran(result, reports)

    @property
    def keeper(self) -> psutil.Process:
        """The process that forks the children."""
        assert self.supervisor._keeper is not None
        return psutil.Process(self.supervisor._keeper.pid)


def split_iris() -> splitting.Parts:
    assert IRIS.held_out_test is not None
    return splitting.split_csv(
        path=IRIS.data_file,
        target_column=IRIS.target,
        held_out_test=IRIS.held_out_test,
        random_state=RANDOM_STATE,
        is_classification=True,
    )


def make_limits(**names: Any) -> Limits:
    limits: dict[str, Any] = {
        "wall_seconds": 60,
        "cpu_seconds": 60,
        "memory_mb": 1024,
        "processes": 64,
        "scratch_mb": 256,
        "output_kb": 256,
    }
    return Limits(**{**limits, **names})


def make_job(
    code: str | Mapping[str, str],
    *,
    parts: splitting.Parts,
    elements: tuple[str, ...] = ("classifier",),
    train_is: NDArray[np.int64] | None = None,
    max_predictions_bytes: int = 2**20,
    **limits: Any,
) -> FoldJob:
    """Make a job on iris; a single text is the classifier's file."""
    files = {"classifier.py": code} if isinstance(code, str) else code
    rows = np.arange(0, len(parts.y_train), 2) if train_is is None else train_is
    labels = io.BytesIO()
    array_file.write_column(parts.y_train[rows], labels)
    classes = np.unique(parts.y_train)
    return FoldJob(
        files={name: content.encode() for name, content in files.items()},
        elements=elements,
        kit_files={},
        kit_module=None,
        form=DataForm.FRAME,
        train_is=rows,
        labels=labels.getvalue(),
        n_train=len(parts.y_train),
        n_test=len(parts.y_test),
        test_bytes=2**16,
        n_classes=len(classes),
        class_columns=tuple(np.searchsorted(classes, np.unique(parts.y_train[rows])).tolist()),
        limits=make_limits(**limits),
        max_predictions_bytes=max_predictions_bytes,
    )


def write_classifier(*, top: str = "", fit: str = "pass", predict: str = "pass") -> str:
    """Write a classifier that runs the given statements."""
    return CLASSIFIER.format(
        top=textwrap.dedent(top),
        fit=textwrap.indent(textwrap.dedent(fit).strip(), " " * 8),
        predict=textwrap.indent(textwrap.dedent(predict).strip(), " " * 8),
    )


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that is only waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], *, what: str = "") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.005)
