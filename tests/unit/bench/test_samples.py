"""The statistics of the benchmarks, on samples whose answer is known."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import metric, picture, samples
from bench.metric import Comparison, Goal
from bench.samples import Round

TIMES = st.floats(0.001, 1000)
ROUNDS = st.lists(
    st.builds(Round, st.tuples(TIMES, TIMES), st.tuples(TIMES, TIMES)), min_size=1, max_size=30
)


@given(ROUNDS)
def test_interval_holds_the_median(rounds: list[Round]) -> None:
    for found in (samples.ratio(rounds), samples.control(rounds)):
        assert found.low <= found.median <= found.high


@given(TIMES, st.floats(0.1, 10))
def test_constant_ratio_is_found_whatever_the_noise_of_rounds(time: float, ratio: float) -> None:
    slow = [Round((ratio * n * time, ratio * n * time), (n * time, n * time)) for n in range(1, 8)]
    found = samples.ratio(slow)
    assert found.median == pytest.approx(ratio)
    assert found.high - found.low == pytest.approx(0, abs=1e-9 * ratio)
    assert samples.control(slow).median == pytest.approx(1)


def test_one_round_that_was_disturbed_does_not_move_the_median() -> None:
    calm = [Round((2.0, 2.0), (1.0, 1.0))] * 9
    assert samples.ratio([*calm, Round((50.0, 2.0), (1.0, 1.0))]).median == 2


def test_both_are_done_in_turn_with_fresh_numbers_and_warm_ups_are_dropped() -> None:
    done: list[tuple[str, int]] = []

    def call(name: str) -> metric.Call:
        def record(number: int) -> float:
            done.append((name, number))
            return float(number)

        return record

    rounds = metric.alternate(call("driver"), call("floor"), rounds=2, warmups=1)
    assert len(rounds) == 2
    assert [name for name, _ in done] == ["driver", "floor"] * 6
    assert len({number for _, number in done}) == len(done)


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal(1.5), 1.5, True),
        (Goal(1.5), 1.6, False),
        (Goal(least=0.6), 0.5, False),
        (Goal(least=0.6), 9, True),
        (Goal(1.03, least=0.97), 1, True),
        (Goal(1.03, least=0.97), 0.96, False),
        (Goal(1.03, least=0.97), 1.04, False),
    ],
)
def test_goal_bounds_from_above_or_below_or_both(goal: Goal, value: float, met: bool) -> None:
    assert goal.met(value) is met


@given(ROUNDS)
def test_result_survives_json(rounds: list[Round]) -> None:
    compared = Comparison("M9", "fio", "floor", rounds, Goal(1.03, least=0.97), "/s")
    for result in (compared, metric.Figure("M10", "CPU", 0.9, "x")):
        assert metric.from_raw(json.loads(json.dumps(result.raw()))) == result


@given(ROUNDS)
def test_picture_is_drawn_for_any_ratio(rounds: list[Round]) -> None:
    compared = Comparison("M1", "a <call>", "floor", rounds, Goal(1.5))
    assert "a &lt;call&gt;" in picture.svg([compared])
    assert len(picture.bar(samples.ratio(rounds), compared.goal)) <= 24
