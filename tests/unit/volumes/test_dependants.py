"""What a deleted volume's image waits for."""

import pytest

from rbdcsi.ceph.lineage import ImageSnapshot, SnapshotKind
from rbdcsi.ceph.objects import Header
from rbdcsi.volumes import dependants
from rbdcsi.volumes.dependants import Dependants

USER, GROUP, TRASH, MIRROR, OTHER = (
    *(SnapshotKind.USER, SnapshotKind.GROUP, SnapshotKind.TRASH),
    *(SnapshotKind.MIRROR, SnapshotKind.OTHER),
)


def _header(*kinds: tuple[SnapshotKind, int]) -> Header:
    snapshots = (ImageSnapshot(n, "s", 1, kind, 0, c) for n, (kind, c) in enumerate(kinds, 1))
    return Header(1, 1, 1, None, None, None, {}, tuple(snapshots))


@pytest.mark.parametrize(
    ("kinds", "needed_by", "needs_name", "left_behind"),
    [
        ([], None, False, []),
        ([(USER, 0)], Dependants(1, 0), True, []),
        ([(USER, 3), (TRASH, 2), (TRASH, 1)], Dependants(1, 3), True, []),
        ([(TRASH, 2)], Dependants(0, 2), False, []),
        ([(TRASH, 0), (TRASH, 1), (TRASH, 0)], Dependants(0, 1), False, [1, 3]),
        ([(TRASH, 0)], None, False, [1]),
        ([(GROUP, 0), (OTHER, 0)], Dependants(2, 0), True, []),
        ([(MIRROR, 0)], None, False, []),
    ],
)
def test_what_an_image_waits_for(
    kinds: list[tuple[SnapshotKind, int]],
    needed_by: Dependants | None,
    needs_name: bool,
    left_behind: list[int],
) -> None:
    header = _header(*kinds)
    assert dependants.of_header(header) == needed_by
    assert dependants.needs_name(header) is needs_name
    assert dependants.left_behind(header) == left_behind


def test_words() -> None:
    assert str(Dependants(1, 0)) == "1 snapshot"
    assert str(Dependants(2, 1)) == "2 snapshots and 1 clone"
    assert str(Dependants(0, 3)) == "3 clones"
