"""Histograms of what folds use: where bars begin and end, and what each of them holds."""

from __future__ import annotations

import pytest

from runapp.ops.dataset_page import Chart, make_chart

N_BARS = 20


def spread(*values: float | None, limit: float = 600) -> Chart:
    return make_chart(name="wall", unit="s", limit=limit, values=values)


def find_bars(chart: Chart) -> dict[int, int]:
    """Return the bars that hold anything, by their place."""
    return {place: bar.count for place, bar in enumerate(chart.bars) if bar.count}


def test_value_at_an_edge_belongs_to_the_bar_that_begins_there() -> None:
    chart = spread(0.0, 1.0, 9.99, 10.0, 20.0)

    assert find_bars(chart) == {0: 1, 1: 1, 9: 1, 10: 1, 19: 1}
    assert [(bar.begin, bar.end) for bar in chart.bars] == [(n, n + 1) for n in range(N_BARS)]


@pytest.mark.parametrize("most", [0.1, 0.3, 0.7, 1 / 3, 3.3, 1e-9, 123456.789])
def test_greatest_value_is_in_the_last_bar_and_none_is_lost(most: float) -> None:
    chart = spread(*(most * n / 7 for n in range(8)))

    assert chart.bars[-1].count == 1
    assert sum(bar.count for bar in chart.bars) == 8
    assert chart.bars[-1].end == pytest.approx(most)
    for bar, follows in zip(chart.bars, chart.bars[1:], strict=False):
        assert bar.end == follows.begin


def test_values_that_are_all_nothing_have_an_axis_nevertheless() -> None:
    chart = spread(0.0, 0.0)

    assert find_bars(chart) == {0: 2}
    assert chart.bars[-1].end == 1.0


def test_what_was_not_measured_is_left_out() -> None:
    chart = spread(None, 4.0, None, 2.0, 8.0)

    assert (chart.n_folds, chart.median, chart.most) == (3, 4.0, 8.0)
    assert find_bars(chart) == {5: 1, 10: 1, 19: 1}


def test_nothing_measured_has_no_bars() -> None:
    chart = spread(None)

    assert (chart.bars, chart.n_folds, chart.shows_limit) == ((), 0, False)


@pytest.mark.parametrize(("limit", "line"), [(600, None), (10.5, None), (10, 10), (9.5, 9.5)])
def test_limit_has_a_line_only_within_the_axis(limit: float, line: float | None) -> None:
    chart = spread(1.0, 10.0, limit=limit)

    assert chart.data["limit"] == line
    assert chart.shows_limit is (line is not None)


def test_data_has_an_edge_more_than_counts() -> None:
    data = spread(1.0, 10.0).data

    assert (len(data["edges"]), len(data["counts"])) == (N_BARS + 1, N_BARS)
    assert (data["edges"][0], data["edges"][-1]) == (0.0, 10.0)
