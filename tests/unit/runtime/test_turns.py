import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rbdcsi import errors
from rbdcsi.runtime import deadlines
from rbdcsi.runtime.turns import Turns


def test_as_many_as_allowed_are_inside_and_all_get_their_turn() -> None:
    turns, mutex, inside, most, done = Turns(3), threading.Lock(), [0], [0], [0]
    three = threading.Barrier(3)

    def work(_: int) -> None:
        with turns.take("pool", "others"):
            with mutex:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            three.wait(30)
            with mutex:
                inside[0] -= 1
                done[0] += 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(501)))  # 167 times three
    assert most[0] == 3
    assert done[0] == 501
    assert not turns._objects


def test_another_object_need_not_wait() -> None:
    turns = Turns(1)
    with turns.take("a", "others"), turns.take("b", "others"), turns.take(("a", 1), "others"):
        pass


def test_who_waits_gives_up_at_its_deadline_and_says_for_what_it_waited() -> None:
    turns = Turns(1)
    with turns.take("a", "others"):
        with (
            deadlines.within(0.05),
            pytest.raises(errors.DeadlineExceeded) as raised,
            turns.take("a", "1 other call for the same pool"),
        ):
            pytest.fail("two have the only turn")
        assert raised.value.__notes__ == ["it waited for 1 other call for the same pool"]
    with turns.take("a", "others"):  # it is free for the next one
        pass
    assert not turns._objects


def test_a_turn_ends_with_its_body_even_if_that_fails() -> None:
    turns = Turns(1)
    with pytest.raises(ValueError, match="x"), turns.take("a", "others"):
        raise ValueError("x")
    with deadlines.within(5), turns.take("a", "others"):
        pass
