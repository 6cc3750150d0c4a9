"""Snapshots of several images at one moment, whatever other clients write to them.

No client writes to an image while another one holds its exclusive lock. So the snapshots are of one
moment if this process holds all locks at that moment, and each until the snapshot is taken.

librbd can refuse to hand a lock over (`lock_acquire`), but then the writes of other clients fail
with EROFS. RBD's own groups let them wait, but librbd cannot clone their snapshots before Ceph 19,
and a group has images of one RADOS namespace only. So each lock is taken as a write takes it, by a
flush, and handed over when another client asks for it; only a running snapshot keeps it. Whether
that was enough is proved by the versions of the header objects: each change of a lock and each new
snapshot writes to the header, and Ceph counts the writes. A snapshot that librbd left to the client
which had the lock by then needs too few writes to be excluded so; a watch of the header shows it.
Without the proof, the snapshots are removed and taken again.
"""

import contextlib
import time
from collections.abc import Sequence
from concurrent import futures

from rbdcsi import errors
from rbdcsi.ceph import changes, flattening, snapshots
from rbdcsi.ceph.held_image import HeldImage, State, Target
from rbdcsi.runtime import deadlines
from rbdcsi.telemetry import steps

_ATTEMPTS = 20
_LOCK_SECONDS = 10.0  # for the other clients to hand all locks over; Ceph drops watchers after 30
_POLL_SECONDS = 0.001
# The snapshot is one write to the header. After it come at most our unlock, and the lock of another
# client (two writes by librbd). A lock that was lost and taken again before the snapshot adds at
# least four: unlock, lock of the other client, unlock, lock.
_MOST_WRITES = 4


def take(targets: Sequence[Target]) -> tuple[int, ...]:
    """Take a snapshot of each image, all of one moment; return RBD's ids of them.

    On an error, the snapshots that were taken are removed again.

    Args:
        targets: the images. Each has the feature exclusive-lock.

    Raises:
        Busy: the clients of an image wrote too fast, or did not hand its lock over in time; or an
            image is being flattened; or it has a snapshot of that name, which is left alone.
        Refused: a client of an image keeps its lock.
    """
    taken: tuple[int, ...] = ()
    try:
        with contextlib.ExitStack() as turns:
            for image_id in sorted(target.image_id for target in targets):
                turns.enter_context(changes.turn(image_id))
            with flattening.excluded([(target.ioctx, target.image_id) for target in targets]):
                taken = _take(targets)
    except errors.Busy:
        for target, snap_id in zip(targets, taken, strict=False):
            with contextlib.suppress(errors.RbdCsiError):  # the error that is raised counts
                snapshots.remove(target.ioctx, target.image_id, snap_id, target.writers)
        raise
    return taken


def _take(targets: Sequence[Target]) -> tuple[int, ...]:
    for attempt in range(_ATTEMPTS):
        deadlines.remaining(at_most=0)
        # Quick clients are best asked once. For one with much to write, the snapshots of the others
        # must not begin before it has written; it is quick the second time.
        if taken := _attempt(targets, asks_twice=attempt % 2 == 1):
            return taken
        steps.done("group.retry")
    raise errors.Busy(
        f"the snapshots of {len(targets)} volumes could not be taken at one moment in {_ATTEMPTS} "
        "attempts: other clients took the locks back in between; nothing is left of them, and the "
        "call can be repeated"
    )


def _attempt(targets: Sequence[Target], *, asks_twice: bool) -> tuple[int, ...] | None:
    """Return the ids of snapshots of one moment; otherwise, and on an error, none is left."""
    members: list[HeldImage] = []
    taken: tuple[int, ...] | None = None
    try:
        members += (HeldImage(target) for target in targets)
        taken = _taken_at_once(members, asks_twice=asks_twice)
    finally:
        # in threads of their own, which have no deadline: this must be done
        with futures.ThreadPoolExecutor(len(targets)) as threads:
            list(threads.map(lambda member: member.end(keep=taken is not None), members))
    return taken


def _taken_at_once(members: Sequence[HeldImage], *, asks_twice: bool) -> tuple[int, ...] | None:
    """Take the snapshots, and return their ids if they are proved to be of one moment."""
    for member in members:
        member.require_answers()
    before = [member.state() for member in members]
    for member in members:
        member.begin(asks_twice=asks_twice)
    if asks_twice:
        _wait_until_flushed(members)
        for member in members:
            member.go_on()
    locked = _states_when_held(members)
    again = locked and _states_if_still_held(members, before, locked)
    if not again:
        return None
    steps.done("group.hold")
    taken = _taken_in_time(members, again)
    for member in members:
        member.require_watching()
    return taken


def _states_if_still_held(
    members: Sequence[HeldImage], before: Sequence[State], locked: Sequence[State]
) -> list[State] | None:
    """Return the headers' states if all locks are held at this moment, otherwise None.

    A lock is held from before this moment until after it if it is held now, and its header was not
    written to since `locked`, but for the snapshot itself.
    """
    states = []
    for member, old, first in zip(members, before, locked, strict=True):
        if not member.holds_lock():
            return None
        states.append(member.state())
        new_snapshot = states[-1].newest != old.newest
        if first.newest != old.newest or states[-1].version - first.version > new_snapshot:
            return None
    return states


def _wait_until_flushed(members: Sequence[HeldImage]) -> None:
    """Return when the clients of each image have handed its lock over once.

    Raises:
        Busy: one of them does not do it in time.
    """
    ends_at = time.monotonic() + deadlines.remaining(_LOCK_SECONDS)
    while waiting := [each for each in members if not each.has_flushed()]:
        if time.monotonic() > ends_at:
            raise _not_handed_over(waiting)
        time.sleep(_POLL_SECONDS)


def _not_handed_over(waiting: Sequence[HeldImage]) -> errors.Busy:
    images = ", ".join(each.target.image_id for each in waiting)
    return errors.Busy(
        f"images {images}: their clients did not hand the exclusive lock over within "
        f"{_LOCK_SECONDS:.0f} s; no snapshot was taken, and the call can be repeated"
    )


def _states_when_held(members: Sequence[HeldImage]) -> list[State] | None:
    """Wait for all locks, and return the header's state after each; None if a snapshot is over.

    Raises:
        Busy: another client does not hand its lock over in time.
    """
    ends_at = time.monotonic() + deadlines.remaining(_LOCK_SECONDS)
    states: dict[HeldImage, State] = {}
    while len(states) < len(members):
        for member in members:
            if member not in states and member.holds_lock():
                states[member] = member.state()
        ended = [member.has_ended() for member in members]  # raises the error of any
        if any(ended):
            return None
        if time.monotonic() > ends_at:
            raise _not_handed_over([each for each in members if each not in states])
        time.sleep(_POLL_SECONDS)
    return [states[member] for member in members]


def _taken_in_time(members: Sequence[HeldImage], locked: Sequence[State]) -> tuple[int, ...] | None:
    """Wait for the snapshots, and return their ids if each lock was kept from `locked` until then.

    Each header is read as soon as it has a new snapshot: later, other clients have written to it.
    """
    first: dict[HeldImage, State] = {}
    while len(first) < len(members) or not all(member.has_ended() for member in members):
        for member, old in zip(members, locked, strict=True):
            ended = member.has_ended()
            if member not in first:
                state = member.state()
                if ended or state.newest != old.newest:
                    first[member] = state
        time.sleep(_POLL_SECONDS)
    if any(member.may_be_anothers() for member in members):
        return None
    snap_ids = tuple(member.snap_id() for member in members)
    proofs = zip(snap_ids, locked, (first[member] for member in members), strict=True)
    return snap_ids if all(_is_proved(*proof) for proof in proofs) else None


def _is_proved(snap_id: int, locked: State, first: State) -> bool:
    """Return whether the lock was held from one state of the header until the snapshot was taken.

    Args:
        snap_id: of the snapshot, which was not there long before `locked`.
        locked: a state while the lock was held.
        first: a later state.
    """
    if snap_id == locked.newest:
        return True
    return snap_id == first.newest and first.version - locked.version <= _MOST_WRITES
