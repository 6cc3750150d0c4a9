"""When the versions of a header prove that a lock was held until the snapshot was taken."""

import pytest

from rbdcsi.ceph import snapshots_together
from rbdcsi.ceph.held_image import State

SNAPSHOT = 7


@pytest.mark.parametrize(
    ("held", "first", "proved"),
    [
        (State(100, SNAPSHOT), State(100, SNAPSHOT), True),  # taken while the lock was seen
        (State(100, 6), State(101, SNAPSHOT), True),  # the next write is the snapshot
        (State(100, 6), State(104, SNAPSHOT), True),  # then our unlock, and another client's lock
        (State(100, 6), State(105, SNAPSHOT), False),  # unlock, lock, unlock, lock, snapshot
        (State(100, 6), State(102, 8), False),  # the newest is of another program
        (State(100, 5), State(101, 6), False),
    ],
)
def test_the_writes_between_two_states_prove_it(held: State, first: State, proved: bool) -> None:
    assert snapshots_together._is_proved(SNAPSHOT, held, first) is proved
