"""Snapshots of several images are of one moment while clients write to all of them.

A writer writes numbered records to the images in turn, the next one when the last is flushed. So
snapshots of one moment have all numbers up to the highest of them.
"""

import contextlib
import itertools
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import rados
import rbd

from e2e import processes
from e2e.clusters import Cluster
from rbdcsi import errors
from rbdcsi.ceph import snapshots_together
from rbdcsi.ceph.held_image import Target
from rbdcsi.telemetry import steps
from tests import faults

pytestmark = pytest.mark.usefixtures("nothing_left")

IMAGES = 3
SIZE = 32 << 20
RECORD = 512
FEATURES = 61  # the driver's

_HOLD = """
import sys, rados, rbd
conf, keyring, pool, name = sys.argv[1:]
client = rados.Rados(name="client.admin", conffile=conf, conf={"keyring": keyring})
client.connect()
image = rbd.Image(client.open_ioctx(pool), name)
image.write(b"x", 0)
print("locked", flush=True)
sys.stdin.read()
"""


@dataclass
class Group:
    """Images of one pool, the last one in a namespace of its own."""

    client: rados.Rados
    ioctxs: Sequence[rados.Ioctx]
    names: Sequence[str]

    def targets(self, snapshot: str) -> list[Target]:
        """Return the images as `take` gets them."""
        return [
            Target(ioctx, self._ioctx(ioctx), rbd.Image(ioctx, name, read_only=True).id(), snapshot)
            for ioctx, name in zip(self.ioctxs, self.names, strict=True)
        ]

    def records(self, snapshot: str) -> list[int]:
        """Return the numbers in the snapshots, sorted; and remove the snapshots."""
        numbers: list[int] = []
        for ioctx, name in zip(self.ioctxs, self.names, strict=True):
            with rbd.Image(ioctx, name, snapshot, read_only=True) as image:
                content = image.read(0, SIZE)
            for offset in itertools.count(0, RECORD):
                number = int.from_bytes(content[offset : offset + 8], "little")
                if not number:
                    break
                numbers.append(number)
            with rbd.Image(ioctx, name) as image:
                image.remove_snap(snapshot)
        return sorted(numbers)

    def snapshots(self) -> int:
        """Return how many snapshots the images have."""
        count = 0
        for ioctx, name in zip(self.ioctxs, self.names, strict=True):
            with rbd.Image(ioctx, name, read_only=True) as image:
                count += len(list(image.list_snaps()))
        return count

    def _ioctx(self, ioctx: rados.Ioctx) -> rados.Ioctx:
        probing = self.client.open_ioctx2(ioctx.get_pool_id())
        probing.set_namespace(ioctx.get_namespace())
        return probing


@pytest.fixture
def group(cluster: Cluster, pool: str) -> Iterator[Group]:
    own = uuid.uuid4().hex[:8]
    namespace, names = f"ns-{own}", [f"g-{own}-{number}" for number in range(IMAGES)]
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(cluster.connection())
        plain, other = (stack.enter_context(client.open_ioctx(pool)) for _ in range(2))
        rbd.RBD().namespace_create(plain, namespace)
        stack.callback(rbd.RBD().namespace_remove, plain, namespace)
        other.set_namespace(namespace)
        ioctxs = [*[plain] * (IMAGES - 1), other]
        for ioctx, name in zip(ioctxs, names, strict=True):
            rbd.RBD().create(ioctx, name, SIZE, old_format=False, features=FEATURES)
            stack.callback(_remove, ioctx, name)
        yield Group(client, ioctxs, names)


def _remove(ioctx: rados.Ioctx, name: str) -> None:
    """Remove an image with the snapshots that a failed test has left."""
    with rbd.Image(ioctx, name) as image:
        for snapshot in list(image.list_snaps()):
            image.remove_snap(snapshot["name"])
    rbd.RBD().remove(ioctx, name)


@contextlib.contextmanager
def written(cluster: Cluster, pool: str, group: Group) -> Iterator[list[int]]:
    """Write records to the images in turn while the body runs; give the list of what is flushed."""
    stop, flushed, failures = threading.Event(), [0], []

    def write() -> None:
        with cluster.connection() as client, contextlib.ExitStack() as stack:
            images = []
            for ioctx, name in zip(group.ioctxs, group.names, strict=True):
                own = stack.enter_context(client.open_ioctx(pool))
                own.set_namespace(ioctx.get_namespace())
                images.append(stack.enter_context(rbd.Image(own, name)))
            while not stop.is_set() and flushed[0] < IMAGES * (SIZE // RECORD - 1):
                number = flushed[0] + 1
                image, place = images[number % IMAGES], (number - 1) // IMAGES
                data = number.to_bytes(8, "little").ljust(RECORD, b"x")
                try:
                    image.write(data, place * RECORD)
                    image.flush()
                except rbd.Error as error:
                    failures.append(error)
                    return
                flushed[0] = number

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield flushed
    finally:
        stop.set()
        thread.join()
    assert not failures, "writes of the client failed"


def _check(cluster: Cluster, pool: str, group: Group, tries: int) -> None:
    with written(cluster, pool, group) as flushed:
        for number in range(tries):
            before = flushed[0]
            snapshots_together.take(group.targets(f"s{number}"))
            numbers = group.records(f"s{number}")
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) >= before
    assert flushed[0] > tries
    assert group.snapshots() == 0


@pytest.mark.timeout(900)
def test_snapshots_of_written_images_are_of_one_moment(
    cluster: Cluster, pool: str, group: Group
) -> None:
    _check(cluster, pool, group, 100)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_thousands_of_them_are(cluster: Cluster, pool: str, group: Group) -> None:
    for _ in range(30):
        _check(cluster, pool, group, 100)


def test_one_after_another_they_are_not(cluster: Cluster, pool: str, group: Group) -> None:
    """The records can show it."""
    with written(cluster, pool, group):
        for number in range(20):
            for ioctx, name in zip(group.ioctxs, group.names, strict=True):
                with rbd.Image(ioctx, name) as image:
                    image.create_snap(f"s{number}")
            numbers = group.records(f"s{number}")
            if numbers != list(range(1, len(numbers) + 1)):
                return
    pytest.fail("all of them were of one moment")


def test_what_is_not_proved_is_taken_again_and_at_last_refused(
    cluster: Cluster, pool: str, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_together, "_MOST_WRITES", 0)  # the snapshot alone is one
    with written(cluster, pool, group), pytest.raises(errors.Busy, match="could not be taken at"):
        snapshots_together.take(group.targets("s"))
    assert group.snapshots() == 0


def test_a_snapshot_that_another_client_takes_is_not_proved_and_is_taken_again(
    cluster: Cluster, pool: str, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librbd lets the client that has the lock take it, with no more writes to the header."""
    held, retries, taken_by_other = threading.Event(), list[str](), list[bool]()

    def done(step: str) -> None:
        if step == "group.hold":
            held.set()
        else:
            retries.append(step)

    monkeypatch.setattr(steps, "done", done)
    # In a small pool, writes to objects of the same placement group count with the header's.
    monkeypatch.setattr(snapshots_together, "_MOST_WRITES", 100)
    with (
        cluster.connection() as client,
        client.open_ioctx(pool) as ioctx,
        rbd.Image(ioctx, group.names[0]) as other,
    ):

        class LosesLock(rbd.Image):
            def create_snap(self, name: str, flags: int = 0) -> None:
                assert held.wait(30)
                if self.get_name() == group.names[0] and not taken_by_other:
                    other.write(b"x", 0)
                    taken_by_other.append(other.is_exclusive_lock_owner())
                super().create_snap(name, flags)

        monkeypatch.setattr(rbd, "Image", LosesLock)
        snapshots_together.take(group.targets("s"))
    assert taken_by_other == [True]
    assert set(retries) == {"group.retry"}
    group.records("s")
    assert group.snapshots() == 0


def test_a_client_that_does_not_answer_is_not_waited_for(
    cluster: Cluster, pool: str, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_together, "_LOCK_SECONDS", 2.0)
    hold = (sys.executable, "-c", _HOLD, str(cluster.conf), str(cluster.keyring), pool)
    with processes.start((*hold, group.names[1]), subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"locked\n"
        with faults.frozen(holder.pid), pytest.raises(errors.Busy, match="did not hand the"):
            snapshots_together.take(group.targets("s"))
        assert group.snapshots() == 0
        with rbd.Image(group.ioctxs[0], group.names[0]) as image:
            image.write(b"x", 0)  # nothing is held
        holder.kill()
