"""The parts of `bench.polling` that measure nothing: memory, ratios, aims."""

from __future__ import annotations

import json

import pytest

from bench.memory import compute_growth, read_status
from bench.polling.report import (
    OURS,
    PLAIN,
    Kind,
    Report,
    Sample,
    make_aims,
    make_figures,
    make_rows,
    spread_gains,
    spread_growth_of_time,
)

SIZES = (1_000, 100_000)


def make_sample(n_folds: int, contender: str, *, kind: Kind, seconds: float) -> Sample:
    return Sample(n_folds, kind, contender, seconds, growth_bytes=2**20, content_bytes=1_000)


def make_report(
    *, kind: Kind, ours: tuple[float, float], plain: tuple[float, float] = (1.0, 1.0)
) -> Report:
    """Make a report of one round, with the seconds of the smaller and the larger size."""
    samples = [
        make_sample(size, name, kind=kind, seconds=seconds)
        for name, values in ((OURS, ours), (PLAIN, plain))
        for size, seconds in zip(SIZES, values, strict=True)
    ]
    return Report("sqlite", SIZES, [samples], {(size, kind): 3 for size in SIZES})


def find_aim(rows: list[list[str]], text: str) -> list[str]:
    (found,) = [row for row in rows if text in row[0]]
    return found


def test_gains_are_taken_within_a_round() -> None:
    fast, slow = (
        make_report(kind=Kind.WHOLE, ours=(1, value), plain=(1, 10 * value)).rounds[0]
        for value in (1.0, 3.0)
    )
    report = Report("sqlite", SIZES, [fast, slow], {})

    spread = spread_gains(report, SIZES[-1], Kind.WHOLE)

    assert spread is not None
    assert (spread.low, spread.median, spread.high) == (10, 10, 10)


def test_gzip_is_compared_with_the_plain_list() -> None:
    plain = make_sample(1_000, PLAIN, kind=Kind.WHOLE, seconds=8)
    ours = make_sample(1_000, OURS, kind=Kind.PACKED, seconds=2)

    spread = spread_gains(Report("sqlite", SIZES, [[plain, ours]], {}), 1_000, Kind.PACKED)

    assert spread is not None
    assert spread.median == 4


def test_growth_of_time_is_of_the_largest_over_the_smallest() -> None:
    spread = spread_growth_of_time(make_report(kind=Kind.PAGE, ours=(2, 3)), Kind.PAGE)

    assert spread is not None
    assert spread.median == 1.5


@pytest.mark.parametrize(("seconds", "verdict"), [(1.3, "met"), (1.4, "missed")])
def test_page_that_grows_misses_its_aim(seconds: float, verdict: str) -> None:
    rows = make_aims(make_report(kind=Kind.PAGE, ours=(1, seconds)))

    assert find_aim(rows, f"{Kind.PAGE}: time")[-1] == verdict


@pytest.mark.parametrize(("seconds", "verdict"), [(8.0, "met"), (7.9, "missed")])
def test_whole_list_that_gains_little_misses_its_aim(seconds: float, verdict: str) -> None:
    rows = make_aims(make_report(kind=Kind.WHOLE, ours=(1, 1), plain=(1, seconds)))

    assert find_aim(rows, "over ours")[-1] == verdict


def test_table_has_a_row_for_each_kind_and_size() -> None:
    rows = make_rows(make_report(kind=Kind.PAGE, ours=(0.01, 0.02)))

    assert len(rows) == len(Kind) * len(SIZES)
    (row,) = [row for row in rows if row[:2] == [Kind.PAGE, "1,000"]]
    assert (row[2], row[5]) == ("10.0 [10.0-10.0]", "3")


def test_figures_of_the_plot_are_plain_data() -> None:
    figures = make_figures([make_report(kind=Kind.PAGE, ours=(1, 2))], title="t", caption="c")

    panels = {panel["title"]: panel for panel in json.loads(json.dumps(figures))["panels"]}
    points = panels[Kind.PAGE]["lines"][0]["points"]

    assert [point["median"] for point in points] == [1, 2]
    assert Kind.PACKED not in panels


def test_status_is_read_in_bytes() -> None:
    assert read_status("Name:\tpython\nVmRSS:\t     100 kB\nThreads:\t1\n") == {"VmRSS": 102_400}


@pytest.mark.parametrize(("mapped_before", "mapped_after"), [(0, 110), (110, 0)])
def test_growth_leaves_out_mapped_files(mapped_before: int, mapped_after: int) -> None:
    before = {"RssAnon": 50, "RssFile": mapped_before, "RssShmem": 0}
    after = {"VmHWM": 200, "RssAnon": 60, "RssFile": mapped_after, "RssShmem": 0}

    assert compute_growth(before, after) == 40
