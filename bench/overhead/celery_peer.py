"""A plain Celery application whose task trains in the worker's own process.

Its folder comes in the environment: `work.pickle`, `messages/`, `answers/` and `gate/` are there.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

import numpy as np
from celery import Celery
from celery.exceptions import SecurityWarning

from bench.overhead.answers import write_answer
from bench.overhead.work import SLOTS, get_trainer

FOLDER_VARIABLE = "BENCH_CELERY_FOLDER"
GATE_SECONDS = 60

# Celery warns of a worker run by root because pickled messages could be code; ours are JSON.
warnings.filterwarnings("ignore", category=SecurityWarning)


def make_app(folder: Path) -> Celery:
    """Return an application on a broker of files, set up as the embedded profile is."""
    app = Celery("bench", broker="filesystem://")
    app.conf.update(
        broker_transport_options={
            "data_folder_in": str(folder / "messages"),
            "data_folder_out": str(folder / "messages"),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.05,
        },
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
    )
    return app


_folder = Path(os.environ.get(FOLDER_VARIABLE, "."))
app = make_app(_folder)


@app.task(name="enter")
def enter() -> None:
    """Warm up, then wait until every slot has done so: they begin together."""
    get_trainer(str(_folder / "work.pickle"))
    (_folder / "gate" / str(os.getpid())).touch()
    deadline = time.monotonic() + GATE_SECONDS
    while len(os.listdir(_folder / "gate")) < SLOTS and time.monotonic() < deadline:
        time.sleep(0.002)


@app.task(name="train")
def train(number: int, train_is: list[int]) -> None:
    """Train a fold and write its predictions."""
    started_at = time.time()
    trainer = get_trainer(str(_folder / "work.pickle"))
    answer = trainer.train(np.array(train_is, dtype=np.int64))
    write_answer(answer, _folder / "answers" / f"{number}.npz", started_at=started_at)
