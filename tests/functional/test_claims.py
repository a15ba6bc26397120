"""Eight processes claim a thousand folds: each is claimed once, on both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.claims.claimers import claim_at_once, explain_claim, fill_queue
from tests.functional import profiles

N_FOLDS = 1_000
N_PROCESSES = 8


@contextmanager
def embedded(home: Path) -> Iterator[dict[str, str]]:
    yield {"DATARUN_HOME": str(home), "DATABASE_URL": f"sqlite:///{home}/datarun.sqlite3"}


@contextmanager
def production(home: Path) -> Iterator[dict[str, str]]:
    with profiles.postgres() as environment:
        yield {"DATARUN_HOME": str(home), **environment}


@pytest.mark.parametrize("database", [embedded, production])
def test_each_fold_is_claimed_once(database: object, tmp_path: Path) -> None:
    with database(tmp_path) as environment:  # type: ignore[operator]
        fill_queue(n_folds=N_FOLDS, environment=environment)

        claimed = claim_at_once(n_processes=N_PROCESSES, environment=environment)
        plan = explain_claim(environment=environment)

    counts = Counter(key for timed in claimed for key in timed.keys)
    assert len(counts) == N_FOLDS
    assert set(counts.values()) == {1}
    assert all(timed.keys for timed in claimed)
    # Whatever waits, the queue is looked up by its index and never read from end to end.
    assert "fold_queue" in plan
