"""Statistics against numbers worked out by hand."""

from __future__ import annotations

import pytest
from scipy.special import stdtrit

from reports import stats

GROUPS = {"g": ["a", "b"], "h": ["c"]}


def test_mean_and_std_over_seeds() -> None:
    result = stats.spread([70.0, 72.0, 77.0])
    assert result is not None
    # mean 73; squares 9 + 1 + 16 = 26; 26 / 2 = 13.
    assert result.mean == pytest.approx(73.0)
    assert result.std == pytest.approx(13**0.5)
    assert result.n == 3


def test_one_seed_has_no_std_and_none_is_a_hole() -> None:
    assert stats.spread([70.0]) == stats.Spread(mean=70.0, std=None, n=1)
    assert stats.spread([]) is None


def test_the_two_averages_weigh_differently() -> None:
    by_task = {"a": 10.0, "b": 20.0, "c": 60.0}
    assert stats.group_means(by_task, GROUPS) == {"g": 15.0, "h": 60.0}
    assert stats.mean_of_groups(by_task, GROUPS) == pytest.approx(37.5)
    assert stats.mean_of_tasks(by_task, ["a", "b", "c"]) == pytest.approx(30.0)


@pytest.mark.parametrize("by_task", [{"a": 10.0, "c": 60.0}, {"a": 10.0, "b": None, "c": 60.0}])
def test_a_hole_stays_a_hole(by_task: dict[str, float | None]) -> None:
    assert stats.group_means(by_task, GROUPS) == {"g": None, "h": 60.0}
    assert stats.mean_of_groups(by_task, GROUPS) is None
    assert stats.mean_of_tasks(by_task, ["a", "b", "c"]) is None


def test_paired_difference_over_tasks() -> None:
    method = {"a": {0: 10.0, 1: 11.0, 2: 15.0}, "b": {0: 20.0, 1: 20.0}, "c": {0: 34.0, 1: 34.0}}
    baseline = {"a": {0: 10.0, 1: 10.0, 2: 10.0}, "b": {0: 19.0, 1: 19.0}, "c": {0: 31.0, 1: 31.0}}
    result = stats.paired_difference(method, baseline, ["a", "b", "c"])
    assert result is not None
    # per task 2, 1, 3: mean 2, std 1, t(2, 0.975) = 4.30265, half width 4.30265 / sqrt(3).
    assert result.mean == pytest.approx(2.0)
    assert result.low == pytest.approx(2 - 2.48414, abs=1e-5)
    assert result.high == pytest.approx(2 + 2.48414, abs=1e-5)
    assert (result.n_tasks, result.n_pairs) == (3, 7)
    assert result.excludes_zero is False


def test_quantiles_that_are_written_down_are_those_of_scipy() -> None:
    assert {df: float(stdtrit(df, 0.975)) for df in stats.QUANTILES} == stats.QUANTILES


def test_only_common_seeds_are_paired() -> None:
    method = {"a": {0: 11.0, 1: 99.0}, "b": {1: 5.0, 2: 7.0}}
    baseline = {"a": {0: 10.0}, "b": {1: 4.0, 2: 4.0}}
    result = stats.paired_difference(method, baseline, ["a", "b"])
    assert result is not None
    # a: 1 (seed 0 only); b: (1 + 3) / 2 = 2.
    assert result.mean == pytest.approx(1.5)
    assert result.n_pairs == 3


def test_one_task_takes_its_interval_over_seeds() -> None:
    result = stats.paired_difference({"a": {0: 3.0, 1: 5.0}}, {"a": {0: 2.0, 1: 2.0}}, ["a"])
    assert result is not None
    # differences 1, 3: mean 2, std sqrt(2), t(1, 0.975) = 12.7062, half width 12.7062.
    assert result.mean == pytest.approx(2.0)
    assert result.high == pytest.approx(2 + 12.7062, abs=1e-4)


def test_one_pair_has_no_interval() -> None:
    result = stats.paired_difference({"a": {0: 3.0}}, {"a": {0: 2.0}}, ["a"])
    assert result == stats.Difference(mean=1.0, low=None, high=None, n_tasks=1, n_pairs=1)
    assert result is not None
    assert result.excludes_zero is None


def test_a_task_without_a_common_seed_is_a_hole() -> None:
    assert stats.paired_difference({"a": {0: 3.0}}, {"a": {1: 2.0}}, ["a"]) is None
    assert stats.paired_difference({"a": {0: 3.0}}, {"a": {0: 2.0}}, ["a", "b"]) is None
    assert stats.paired_difference({}, {}, []) is None
