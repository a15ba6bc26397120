"""Whether a large dataset makes a fold start later, and whether slots share its pages.

Run from the project folder: `python -m bench.large`. A fold on 1 GB of features (2.5 million rows
of 50 columns, fixed seed) and one on 1 MB are started in turn; from the call of the runner to the
submission's first line. Then two slots hold the large one at the same time, and each tells how
much of what it has mapped is its own share.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from runapp.runner.contract import DataForm, FoldJob, Limits, Outcome, RunResult
from runapp.runner.data import array_file, dataframes
from runapp.runner.supervisor import Supervisor

N_COLUMNS = 50
LARGE_ROWS = 2_500_000
SMALL_ROWS = 2_500
N_TRAINING = 1_000
SEED = 0
LIMITS = Limits(
    wall_seconds=600,
    cpu_seconds=600,
    memory_mb=4096,
    processes=64,
    scratch_mb=256,
    output_kb=256,
)
SUBMISSION = """
import time
print("first line", time.monotonic())
import os
import numpy as np

def describe_map():
    name, sizes = "", {}
    for line in open("/proc/self/smaps"):
        words = line.split()
        if "-" in words[0]:
            name = words[-1]
        elif name.endswith("features") and words[0] in ("Rss:", "Pss:"):
            sizes[words[0]] = sizes.get(words[0], 0) + int(words[1]) / 1024
    return sizes.get("Rss:", 0), sizes.get("Pss:", 0)

class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        X = np.asarray(X)
        total = X.sum()
        if WAIT and len(X) > 10_000:
            end = time.monotonic() + 20
            rss, pss = describe_map()
            while pss > 0.51 * rss and time.monotonic() < end:
                time.sleep(0.05)
                rss, pss = describe_map()
            print("mapped", rss, pss)
            time.sleep(1)
        return np.tile([1.0, 0.0], (len(X), 1))
"""


@dataclass(frozen=True)
class Dataset:
    """Features in the form in which the split stores them."""

    path: Path
    n_rows: int


def main() -> None:
    arguments = _read_arguments()
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = make_dataset(folder / "small" / "features", n_rows=SMALL_ROWS)
        large = make_dataset(folder / "large" / "features", n_rows=LARGE_ROWS)
        first, second = (
            Supervisor(scratch_root=folder / "scratch", inputs_root=folder) for _ in range(2)
        )
        with closing(first), closing(second):
            starts: dict[str, list[float]] = {"small": [], "large": []}
            for _ in range(arguments.rounds + 1):
                starts["small"].append(measure_start(first, small))
                starts["large"].append(measure_start(first, large))
            console.print(make_table({key: values[1:] for key, values in starts.items()}))
            for mapped, share in measure_sharing(first, second, large):
                console.print(f"mapped {mapped:.0f} MB, of which its share is {share:.0f} MB")


def make_dataset(path: Path, *, n_rows: int) -> Dataset:
    """Write random features of a fixed seed."""
    path.parent.mkdir()
    values = np.random.default_rng(SEED).random((n_rows, N_COLUMNS))
    frame = pd.DataFrame(values, columns=[f"feature {n}" for n in range(N_COLUMNS)])
    with path.open("wb") as file:
        dataframes.write_frame(frame, file)
    return Dataset(path, n_rows)


def measure_start(supervisor: Supervisor, dataset: Dataset) -> float:
    """Return seconds from the call of the runner to the submission's first line."""
    _let_spare_settle(supervisor)
    started = time.monotonic()
    result = run(supervisor, dataset, waits=False)
    first_line = float(result.output.split()[2])
    return first_line - started


def measure_sharing(
    first: Supervisor, second: Supervisor, dataset: Dataset
) -> list[tuple[float, float]]:
    """Return, for each of two slots at once, megabytes mapped and the slot's share of them."""
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda one: run(one, dataset, waits=True), (first, second))
        words = [result.output.split() for result in results]
    return [(float(line[4]), float(line[5])) for line in words]


def run(supervisor: Supervisor, dataset: Dataset, *, waits: bool) -> RunResult:
    """Run one fold on a dataset."""
    with dataset.path.open("rb") as x_train, dataset.path.open("rb") as x_test:
        result = supervisor.run_fold(
            job=_make_job(dataset, waits=waits),
            x_train=x_train,
            x_test=x_test,
            on_stage=lambda report: None,
            should_stop=lambda: False,
        )
    if result.outcome is not Outcome.TESTED:
        raise RuntimeError(f"{result.sentence}\n{result.traceback}")
    return result


def _make_job(dataset: Dataset, *, waits: bool) -> FoldJob:
    labels = io.BytesIO()
    y: Any = np.array(["a", "b"] * (N_TRAINING // 2), dtype=object)
    array_file.write_column(y, labels)
    return FoldJob(
        files={"classifier.py": f"WAIT = {waits}\n{SUBMISSION}".encode()},
        elements=("classifier",),
        kit_files={},
        kit_module=None,
        form=DataForm.FRAME,
        train_is=np.arange(N_TRAINING),
        labels=labels.getvalue(),
        n_train=dataset.n_rows,
        n_test=dataset.n_rows,
        test_bytes=dataset.path.stat().st_size,
        n_classes=2,
        class_columns=(0, 1),
        limits=LIMITS,
        max_predictions_bytes=2**30,
    )


def _let_spare_settle(supervisor: Supervisor) -> None:
    # The next child is made while a worker records the last run; here nobody records.
    supervisor.warm_up()
    threading.Event().wait(0.1)


def make_table(starts: dict[str, list[float]]) -> Table:
    """Show medians and ranges in milliseconds."""
    table = Table("dataset", "first line after, ms", "from", "to")
    for name, values in starts.items():
        figures = [1000 * one for one in (statistics.median(values), min(values), max(values))]
        table.add_row(name, *(f"{figure:.1f}" for figure in figures))
    difference = statistics.median(starts["large"]) - statistics.median(starts["small"])
    table.add_row("difference", f"{1000 * difference:.1f}")
    return table


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
