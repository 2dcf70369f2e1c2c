"""A sample of the trial of growth: small sizes, and that growth beyond the bound is told."""

from __future__ import annotations

from tests.faults.growth import Cost, chain, classes, excess, measure, n_log_n, uneven


def test_chains_and_classes() -> None:
    assert excess(measure(chain, (10, 100), times=1), n_log_n, 2.0) == []
    assert excess(measure(classes, (50, 500), times=1), n_log_n, 2.0) == []


def test_a_square_is_told() -> None:
    costs = {size: Cost(0.5 + size * size / 1000, 50) for size in (0, 10, 100, 1_000)}
    assert len(excess(costs, n_log_n, 2.0)) == 2
    assert excess({size: Cost(0.5 + size / 100, 50) for size in (0, 10, 100, 1_000)}, n_log_n, 2.0) == []


def test_copies_that_take_longer_the_more_there_are_of_them_are_told() -> None:
    start = {0: Cost(0.9, 50)}  # not the same as what a scan of a copy starts with
    even = {size: Cost(0.5 + size / 20, 50) for size in (1, 10, 100)}
    assert uneven({**start, **even}, 1.1) == []
    assert len(uneven({**start, **even, 100: Cost(6.2, 50)}, 1.1)) == 1
