"""The parts of `bench.overhead` that measure nothing: folds, ratios, tables, words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.overhead.__main__ import CONTENDERS, PEER_NAMES, choose, make_sample, rotate
from bench.overhead.environments import read_requirements
from bench.overhead.output import make_figures
from bench.overhead.probe import describe_isolation, look_around, read_probe, write_probe
from bench.overhead.report import (
    Entry,
    Report,
    Sample,
    Spread,
    list_part_names,
    list_ratios,
    make_part_rows,
    make_rows,
    render_table,
    show_number,
    spread_ratios,
    tell_starts,
)
from bench.overhead.server import time_starts
from bench.overhead.slots import name_parts
from bench.overhead.work import Answer, Timed, Trainer, make_folds, make_short
from runapp.runner.contract import Usage
from test_files import local
from test_files.examples import IRIS, RANDOM_STATE

PROBLEM_OF_PEER = "peer==1 could not be installed: no network"


def make_samples(**seconds: list[float]) -> list[Sample]:
    """Make samples of short folds, in the order of rounds, by the contender's name."""
    return [
        Sample(round=number, work="short", contender=name, seconds_per_fold=one, n_folds=10)
        for name, values in seconds.items()
        for number, one in enumerate(values)
    ]


def make_report(samples: list[Sample], *, troubles: Mapping[str, str] | None = None) -> Report:
    names = ("bare", "runner", "peer")
    return Report(
        machine=("2 cores", "Linux"),
        works={"short": "ten folds"},
        entries=tuple(Entry(name, f"the {name}", "none", "") for name in names),
        samples=tuple(samples),
        troubles=troubles or {},
    )


def test_folds_are_distinct_and_the_same_every_time() -> None:
    folds, again = make_folds(20, n_rows=105), make_folds(20, n_rows=105)

    assert all(np.array_equal(one, other) for one, other in zip(folds, again, strict=True))
    assert len({tuple(sorted(fold)) for fold in folds}) == 20
    assert all(len(set(fold)) == 70 and min(fold) >= 0 and max(fold) < 105 for fold in folds)


def test_bare_training_predicts_as_a_local_training() -> None:
    work = make_short(1)

    answer = Trainer(work).train(work.folds[0])

    expected = local.train_locally(
        csv_path=IRIS.data_file,
        target_column=IRIS.target,
        workflow_elements=IRIS.elements,
        submission_path=work.submission,
        held_out_test=work.held_out,
        random_state=RANDOM_STATE,
        train_is=work.folds[0],
    )
    assert answer.digest == Answer(*expected).digest
    assert set(answer.parts) == {
        "load and fit",
        "predict the train part",
        "predict the test part",
    }


def test_digest_tells_values_and_shapes_apart() -> None:
    ones, zeros = np.ones((2, 3)), np.zeros((1, 3))

    digests = {
        Answer(ones, zeros).digest,
        Answer(zeros, ones).digest,
        Answer(ones.reshape(3, 2), zeros).digest,
        Answer(np.nextafter(ones, 2), zeros).digest,
    }

    assert len(digests) == 4
    assert Answer(ones.copy(), zeros, {"fit": 1.0}).digest == Answer(ones, zeros).digest


def test_seconds_per_fold_are_those_of_a_slot() -> None:
    assert Timed(seconds=3.0, digests=("a", "b", "c", "d")).seconds_per_fold == 1.5


@pytest.mark.parametrize(
    ("value", "shown"), [(1.0, "1.00"), (3.456, "3.46"), (93.21, "93.2"), (1234.5, "1234")]
)
def test_number_is_shown_with_three_digits(value: float, shown: str) -> None:
    assert show_number(value) == shown


def test_ratios_are_to_the_reference_of_the_same_round() -> None:
    samples = make_samples(bare=[1.0, 2.0, 4.0], runner=[3.0, 8.0, 8.0])

    assert list_ratios(samples, work="short", contender="runner") == [3.0, 4.0, 2.0]
    spread = spread_ratios(samples, work="short", contender="runner")
    assert spread == Spread(median=3.0, low=2.0, high=4.0)
    assert str(spread) == "3.00 [2.00-4.00]"


def test_ratios_leave_out_rounds_that_lack_one_of_the_two() -> None:
    samples = make_samples(bare=[1.0, 2.0], runner=[3.0])

    assert list_ratios(samples, work="short", contender="runner") == [3.0]
    assert spread_ratios(samples, work="long", contender="runner") is None


def test_rows_give_ratios_and_what_the_reference_took() -> None:
    report = make_report(make_samples(bare=[0.01, 0.01], runner=[0.03, 0.04]))

    assert make_rows(report) == [
        ["the bare", "none", "1.00 [1.00-1.00]", "short: 10.0 [10.0-10.0] ms a fold"],
        ["the runner", "none", "3.50 [3.00-4.00]", ""],
        ["the peer", "none", "-", ""],
    ]


def test_row_says_why_a_contender_has_no_figures() -> None:
    report = make_report(make_samples(bare=[1.0]), troubles={"peer": PROBLEM_OF_PEER})

    assert make_rows(report)[2] == ["the peer", "none", "-", f"NOT COMPLETE: {PROBLEM_OF_PEER}"]


def test_row_says_what_is_scaled_seen_and_different() -> None:
    scaled = Sample(0, "short", "peer", 5.0, n_folds=4, n_different=3, isolation="own namespaces")
    report = make_report([*make_samples(bare=[1.0]), scaled])

    remark = "short: scaled from 4 folds; PREDICTIONS DIFFER from bare in 3 of 4 folds"
    assert make_rows(report)[2] == ["the peer", "own namespaces", "5.00 [5.00-5.00]", remark]


def test_parts_come_in_the_order_of_the_finest_division() -> None:
    bare = Sample(0, "short", "bare", 1.0, 2, parts={"fit": (0.001, 0.003)})
    runner = Sample(0, "short", "runner", 1.0, 1, parts={"begin": (0.004,), "fit": (0.005,)})
    report = make_report([bare, runner])

    assert list_part_names(report, work="short", contenders=["bare", "runner"]) == ["begin", "fit"]
    assert make_part_rows(report, work="short", contenders=["bare", "runner"]) == [
        ["begin", "-", "4.00"],
        ["fit", "2.00", "5.00"],
    ]


def test_starts_are_told_as_median_and_percentile() -> None:
    starts = tuple(number / 1000 for number in range(1, 20))
    report = make_report([Sample(0, "short", "runner", 1.0, 1, parts={"start": starts})])

    told = tell_starts(report, contender="runner", part="start")

    assert told == "10.0 ms median, 19.0 ms 95th percentile (19 folds)"
    assert tell_starts(report, contender="peer", part="start") == "not measured"


def test_table_is_markdown_whatever_the_cells_hold() -> None:
    table = render_table(["a", "b"], [["x|y", "two\nlines"]])

    assert table == "| a | b |\n| --- | --- |\n| x\\|y | two lines |"


def test_figures_put_the_quickest_first_and_the_unmeasured_last() -> None:
    samples = make_samples(bare=[1.0, 1.0], runner=[2.0, 4.0])

    figures = json.loads(json.dumps(make_figures(make_report(samples))))

    assert figures["labels"] == ["the runner", "the peer"]
    assert figures["is_own"] == [True, False]
    assert figures["panels"][0]["bars"] == [
        {"median": 3.0, "low": 2.0, "high": 4.0, "shown": "3.00"},
        None,
    ]


def test_choice_keeps_the_reference_and_the_order() -> None:
    chosen = choose(CONTENDERS, only=["cold", "loky", "ramp"], skip=["ramp"])

    assert [one.name for one in chosen] == ["bare", "loky", "cold"]
    assert choose(CONTENDERS, only=[], skip=[]) == CONTENDERS
    assert [one.name for one in choose(CONTENDERS, only=[], skip=PEER_NAMES)] == ["bare"]


def test_every_contender_comes_first_in_turn() -> None:
    assert [rotate("abc", by)[0] for by in range(4)] == ["a", "b", "c", "a"]
    assert rotate("abc", 1) == ["b", "c", "a"]


def test_sample_counts_the_folds_that_are_predicted_otherwise() -> None:
    timed = Timed(seconds=1.0, digests=("a", "x", "c"))

    sample = make_sample(0, "short", "peer", timed, bare=("a", "b", "c", "d"))

    assert (sample.n_folds, sample.n_different) == (3, 1)


def test_named_parts_add_up_to_the_whole() -> None:
    usage = Usage(train_seconds=0.5, validation_seconds=0.2, test_seconds=0.1)

    parts = name_parts(usage, seconds=1.0, fitted=0.6)

    assert sum(parts.values()) == pytest.approx(1.0)
    assert list(parts.values()) == pytest.approx([0.1, 0.5, 0.2, 0.1, 0.1])


def test_starts_are_counted_from_the_claim() -> None:
    claimed = datetime(2026, 1, 1, microsecond=250_000, tzinfo=UTC)
    printed = json.dumps({"first_line_at": claimed.timestamp() + 0.02})
    row = {"started_at": claimed.isoformat(), "log_messages": printed}

    assert time_starts([row]) == pytest.approx((0.02,), abs=1e-6)


def test_probe_tells_what_it_sees_when_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "classifier.py").write_text(write_probe())

    done = subprocess.run(
        [sys.executable, "classifier.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    seen = read_probe(done.stdout)
    assert seen.pop("first_line_at") > 0
    assert seen == look_around()


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        ({}, "a process per fold"),
        ({"pid": "pid:[9]", "net": "net:[9]"}, "a process per fold, own namespaces (pid, net)"),
        (
            {"uid": 7, "capabilities": 0, "seccomp": 2},
            "a process per fold, another user, no capabilities, seccomp",
        ),
    ],
)
def test_isolation_is_told_by_what_differs(inside: dict[str, Any], told: str) -> None:
    outside = {"uid": 0, "pid": "pid:[1]", "net": "net:[1]", "capabilities": 3, "seccomp": 0}

    assert describe_isolation({**outside, **inside}, outside) == told


def test_isolation_that_cannot_be_read_is_not_claimed() -> None:
    outside = {"uid": 0, "pid": "pid:[1]", "capabilities": 3, "seccomp": 0}

    assert describe_isolation({"uid": 0}, outside) == "a process per fold"


def test_requirements_are_read_by_package(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("# why\n\nramp-workflow==1.2  # pinned\nmatplotlib==3.0\n")

    assert read_requirements(path) == {
        "ramp-workflow": "ramp-workflow==1.2",
        "matplotlib": "matplotlib==3.0",
    }
    assert {"ramp-workflow", "matplotlib"} <= set(read_requirements())
