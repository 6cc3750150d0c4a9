"""A controller that dies in its background work on clones: the next one finishes it."""

import contextlib
from collections.abc import Iterator

import grpc
import pytest
import rbd

from e2e import driver, snapshots, volume
from e2e.clusters import commands
from e2e.driver import Driver
from e2e.volume import MIB, Volume
from rbdcsi.ceph.flattening import Claims
from rbdcsi.ceph.images import Images
from rbdcsi.volumes.clone_notes import CloneNotes
from rbdcsi.volumes.clone_upkeep import CloneUpkeep
from tests import dying
from tests.integration.clones import chains
from tests.integration.clones.lost_parent import lose
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(300)]

SIZE = 64 * MIB
DEAD = "127.0.0.1:0/4242"  # the client of a process that is gone


@pytest.fixture(scope="module")
def unstarted(installation: driver.Installation) -> Driver:
    """Give a controller that is not running."""
    return installation.controller("mortal")


@pytest.fixture
def mortal(unstarted: Driver, nothing_left: None) -> Iterator[Driver]:
    """Give a controller that the test starts."""
    assert nothing_left is None  # it looks when the process is gone
    yield unstarted
    unstarted.stop()


def _require_flattened(lab: Lab, made: Volume, before: str) -> None:
    """Check that an image reads nothing from another one, is as it was, and takes a snapshot."""
    with lab.image(made, readonly=True) as image:
        with pytest.raises(rbd.ImageNotFound):
            image.parent_info()
        assert image.flags() == 0
    assert lab.checksum(made) == before
    taken = snapshots.create(lab.controller, f"of-{lab.image_id(made)}", made.id)
    snapshots.delete(lab.controller, taken.snapshot_id)


@pytest.mark.parametrize("step", ["flatten.claim", "flatten.data", "flatten.end_claim"])
def test_flattening_is_finished(lab: Lab, chain: list[Volume], mortal: Driver, step: str) -> None:
    deep, claims, notes = chain[-1], Claims(lab.ioctx), CloneNotes(lab.ioctx)
    before, image_id = lab.checksum(deep), lab.image_id(deep)
    if step == "flatten.end_claim":  # of a process that died after Ceph had detached the image
        claims.begin(image_id, DEAD)
        with lab.image(deep) as image:
            image.flatten()
    dying.in_background(mortal, step)
    left = claims.all()
    assert set(left) == ({image_id} if step == "flatten.claim" else set())
    assert set(notes.deep()) == {image_id}

    lab.controller.start()
    commands.wait_until(lambda: not notes.deep() and not claims.all(), "it is over", timeout=120)

    _require_flattened(lab, deep, before)
    for client in (DEAD, *(claim.client for claim in left.values())):
        lab.cluster.ceph("osd", "blocklist", "rm", client)


def test_copy_with_too_many_ancestors_is_flattened_though_its_call_died(
    lab: Lab, chain: list[Volume], mortal: Driver
) -> None:
    notes, pooled = CloneNotes(lab.ioctx), lab.pooled()
    notes.remove_deep(lab.image_id(chain[-1]))  # the controllers flatten the copy alone
    source, before = chain[-2], lab.checksum(chain[-2])

    def copy(controller: Driver) -> Volume:
        return volume.create(
            controller, "copy", size=chains.SIZE, capability=volume.raw(), source=source.id
        )

    mortal.start(kill_after="clone.deep")
    with refused("UNAVAILABLE"):
        copy(mortal)
    mortal.wait_for_death()
    mortal.stop()
    assert len(notes.deep()) == len(notes.attempts()) == 1

    made = copy(lab.controller.start())
    chain.append(made)
    tidy = CloneUpkeep(driver.CLUSTER_ID, pooled, pooled, attempt_seconds=0, round_seconds=0)

    def tidied() -> bool:
        tidy.run()
        return not notes.deep() and not notes.attempts()

    commands.wait_until(tidied, "nothing is left of the first attempt", timeout=120)
    _require_flattened(lab, made, before)


@pytest.fixture
def source(lab: Lab) -> Iterator[Volume]:
    """Give a volume with data."""
    with lab.volume("source", size=SIZE, capability=volume.raw()) as made:
        lab.write(made, b"data", 20 * MIB)
        yield made


@pytest.fixture
def copy(lab: Lab, source: Volume) -> Iterator[Volume]:
    """Give a copy of it, which is deleted after the test, and no running controller."""
    made = volume.create(
        lab.controller, "copy", size=SIZE, capability=source.capability, source=source.id
    )
    lab.controller.stop()
    yield made
    if lab.controller.process is None:
        lab.controller.start()
    volume.delete(lab.controller, made)
    image_id = lab.image_id(made)
    commands.wait_until(lambda: not Images(lab.ioctx).exists(image_id), "it is gone")


def test_copy_whose_parent_is_lost_is_detached_once_and_keeps_its_data(
    lab: Lab, copy: Volume, mortal: Driver
) -> None:
    before, image_id, claims = lab.checksum(copy), lab.image_id(copy), Claims(lab.ioctx)
    assert claims.begin(image_id, DEAD)
    with lab.image(copy) as image:
        for at in range(0, SIZE, 4 * MIB):
            image.write(image.read(at, 4 * MIB), at)
    assert claims.note_last(image_id, DEAD)
    lose(lab.ioctx, image_id)

    dying.in_background(mortal, "flatten.detach")
    assert set(claims.all()) == {image_id}
    chains.end_lease(lab.ioctx)
    lab.controller.start()
    commands.wait_until(lambda: not claims.all(), "the claim has ended")

    _require_flattened(lab, copy, before)
    lab.cluster.ceph("osd", "blocklist", "rm", DEAD)


def _delete_and_die(mortal: Driver, made: Volume, step: str) -> None:
    mortal.start(kill_after=step)
    with contextlib.suppress(grpc.RpcError):  # it may die before the answer, or after it
        volume.delete(mortal, made)
    mortal.wait_for_death()
    mortal.stop()


def test_deletion_of_a_copy_whose_parent_is_lost_is_finished(
    lab: Lab, copy: Volume, mortal: Driver
) -> None:
    lose(lab.ioctx, lab.image_id(copy))
    _delete_and_die(mortal, copy, "delete.detach")
    assert Images(lab.ioctx).exists(lab.image_id(copy))  # until the call is repeated


def test_removal_of_a_copy_whose_parent_is_lost_is_finished(
    lab: Lab, copy: Volume, mortal: Driver
) -> None:
    image_id = lab.image_id(copy)
    _delete_and_die(mortal, copy, "delete.trash")
    lose(lab.ioctx, image_id)
    dying.in_background(mortal, "delete.detach")
    lab.controller.start()
    commands.wait_until(lambda: not Images(lab.ioctx).exists(image_id), "it is gone")
