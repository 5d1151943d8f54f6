"""What the comparison computes from its samples."""

import pytest

from bench.figures import Bar, Sample, course, percentile, ratios, rounds, spread, spreads


def samples(*looks: tuple[float, int, float]) -> list[Sample]:
    """Return samples of time, visible offsets and the worker's CPU seconds."""
    return [Sample(at_s, visible, cpu_s, cpu_s / 2) for at_s, visible, cpu_s in looks]


def test_a_course_is_told_whole_running_and_warm() -> None:
    """A course is told whole running and warm."""
    # 2 s of start-up, then 100 joins a second at half a core; 10 offsets of 410 are markers.
    figures = course(
        samples((10.0, 0, 0.0), (12.0, 10, 1.0), (14.0, 210, 2.0), (16.0, 410, 3.0), (17.0, 410, 3.0)), joins=400
    )
    assert figures["seconds"] == 6.0
    assert figures["until_first_s"] == 2.0
    assert figures["whole_joins_per_s"] == pytest.approx(400 / 6)
    assert figures["whole_joins_per_cpu_s"] == pytest.approx(400 / 3)
    assert figures["running_joins_per_s"] == pytest.approx(400 * 400 / 410 / 4)
    assert figures["running_joins_per_cpu_s"] == pytest.approx(400 * 400 / 410 / 2)
    assert figures["warm_joins_per_s"] == pytest.approx(400 * 200 / 410 / 2)
    assert figures["warm_joins_per_cpu_s"] == pytest.approx(400 * 200 / 410 / 1)
    assert figures["worker_cpu_s"] == 3.0
    assert figures["broker_cpu_us_per_join"] == pytest.approx(1.5e6 / 400)


def test_the_broker_counts_from_the_start_only() -> None:
    """The broker counts from the start only."""
    figures = course([Sample(0.0, 0, 0.0, 40.0), Sample(1.0, 100, 1.0, 41.0)], joins=100)
    assert figures["broker_cpu_s"] == 1.0


def test_a_run_that_one_look_sees_whole_says_nothing_of_its_parts() -> None:
    """A run that one look sees whole says nothing of its parts."""
    figures = course(samples((0.0, 0, 0.0), (1.0, 100, 1.0)), joins=100)
    assert figures["whole_joins_per_s"] == 100.0
    assert figures["running_joins_per_s"] == figures["warm_joins_per_cpu_s"] == 0.0


def test_a_run_without_output_is_no_run() -> None:
    """A run without output is no run."""
    with pytest.raises(AssertionError, match="no e-mail"):
        course(samples((0.0, 0, 0.0), (1.0, 0, 1.0)), joins=100)


def test_ratios_are_taken_round_by_round() -> None:
    """Ratios are taken round by round."""
    # The second round was slow for both.
    found = ratios([120.0, 60.0, 130.0], [100.0, 50.0, 100.0])
    assert (found.median, found.least, found.most, found.trials) == (1.2, 1.2, 1.3, 3)
    with pytest.raises(AssertionError, match="1 rounds of ours, 2"):
        ratios([1.0], [1.0, 2.0])
    assert ratios([1.0], [0.0]).median == 0.0


def test_spreads_are_of_the_figures_that_all_trials_have() -> None:
    """Spreads are of the figures that all trials have."""
    assert spreads([{"a": 3.0, "b": 1.0}, {"a": 1.0}, {"a": 2.0}]) == {"a": spread([3.0, 1.0, 2.0])}
    assert spreads([]) == {}


@pytest.mark.parametrize(("percent", "value"), [(50, 50.0), (99, 99.0), (100, 100.0), (1, 1.0)])
def test_percentiles_are_values_that_occurred(percent: float, value: float) -> None:
    """Percentiles are values that occurred."""
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == value


def test_the_percentile_of_one_value_is_it() -> None:
    """The percentile of one value is it."""
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


def test_a_bar_is_a_least_or_a_most() -> None:
    """A bar is a least or a most."""
    assert Bar("fast", spread([1.3, 1.1, 1.2]), 1.2).reached
    assert not Bar("fast", spread([1.3, 1.1, 1.19]), 1.2).reached
    assert Bar("small", spread([0.5]), 0.6, at_most=True).reached
    assert not Bar("small", spread([0.7]), 0.6, at_most=True).reached


def test_nobody_always_goes_first() -> None:
    """Nobody always goes first."""
    assert rounds(["a", "b", "c"], 3) == [["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c"]]
