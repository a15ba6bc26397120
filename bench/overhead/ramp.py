"""The contender `ramp-test`: a minimal kit, tested by the command of ramp-workflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench.overhead.environments import make_environment
from bench.overhead.work import SLOTS, Answer, Indices, Timed, Work
from test_files.examples import RANDOM_STATE

# Folds of a submission, for each of the two commands that run at once.
FOLDS_PER_COMMAND = 5
SUBMISSION = "forest"

PROBLEM = """\
import numpy as np
import pandas as pd
import rampwf
from sklearn.model_selection import train_test_split

problem_title = "bench"
table = pd.read_csv({csv_path!r})
train, test = train_test_split(table, test_size={held_out!r}, random_state={random_state!r})
Predictions = rampwf.prediction_types.make_multiclass(
    label_names=sorted(set(train[{target!r}]))
)
workflow = rampwf.workflows.Classifier()
score_types = [rampwf.score_types.Accuracy()]


def get_train_data(path="."):
    return train.drop(columns={target!r}).to_numpy(), train[{target!r}].to_numpy()


def get_test_data(path="."):
    return test.drop(columns={target!r}).to_numpy(), test[{target!r}].to_numpy()


def get_cv(X, y):
    rows = np.arange(len(y))
    return [(train_is, np.setdiff1d(rows, train_is)) for train_is in np.load({folds_path!r})]
"""


def measure_ramp(work: Work) -> Timed:
    """Test two submissions at once, each on some of the folds; the command's start included."""
    command = str(make_environment("ramp-workflow") / "ramp-test")
    per_command = max(min(FOLDS_PER_COMMAND, len(work.folds) // SLOTS), 1)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        ThreadPoolExecutor(SLOTS) as pool,
    ):
        parts = [work.folds[slot * per_command :][:per_command] for slot in range(SLOTS)]
        kits = [
            _make_kit(Path(folder, str(slot)), work, part)
            for slot, part in enumerate(parts)
            if part
        ]
        started = time.perf_counter()
        list(pool.map(lambda kit: _test(command, kit), kits))
        seconds = time.perf_counter() - started
        answers = [answer for kit in kits for answer in _read_answers(kit)]
    return Timed(seconds, tuple(answer.digest for answer in answers))


def _make_kit(folder: Path, work: Work, folds: Sequence[Indices]) -> Path:
    submission = folder / "submissions" / SUBMISSION
    submission.mkdir(parents=True)
    shutil.copy(work.submission / "classifier.py", submission)
    np.save(folder / "folds.npy", np.array(folds))
    (folder / "problem.py").write_text(
        PROBLEM.format(
            csv_path=str(work.csv_path),
            held_out=work.held_out,
            random_state=RANDOM_STATE,
            target=work.target,
            folds_path=str(folder / "folds.npy"),
        )
    )
    return folder


def _test(command: str, kit: Path) -> None:
    # Without --save-output nobody would have the predictions that the others deliver.
    options = ["--submission", SUBMISSION, "--save-output", "--ignore-warning"]
    done = subprocess.run(
        [command, *options],
        cwd=kit,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"ramp-test failed: {(done.stdout + done.stderr)[-500:]}")


def _read_answers(kit: Path) -> list[Answer]:
    output = kit / "submissions" / SUBMISSION / "training_output"
    folders = sorted(output.glob("fold_*"), key=lambda path: int(path.name.partition("_")[2]))
    return [Answer(_read(path, "train"), _read(path, "test")) for path in folders]


def _read(folder: Path, part: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    with np.load(folder / f"y_pred_{part}.npz") as stored:
        return np.asarray(stored["y_pred"], dtype=np.float64)
