"""Volumes are used, moved and deleted while their images are flattened."""

import os
import sys
import threading
from pathlib import Path

import pytest
import rados
import rbd

from e2e import driver, groups, leftovers, processes, snapshots, volume
from e2e.clusters import commands
from e2e.driver import Driver
from e2e.volume import MIB, Volume
from rbdcsi.attachments.attach import Attacher
from rbdcsi.ceph import objects
from rbdcsi.ceph.flattening import Claims
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.locations import Locations
from rbdcsi.model import ids
from rbdcsi.model.capabilities import AccessMode, Capability
from rbdcsi.services import convert
from rbdcsi.volumes.clone_notes import CloneNotes
from rbdcsi.volumes.clone_upkeep import CloneUpkeep
from tests import faults
from tests.integration.clones import chains
from tests.integration.controller.at_once import repeated
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab, take_down
from tests.refusal import refused

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(300)]

# A controller's work on the images with too many ancestors.
_FLATTEN = """
import sys
from pathlib import Path
from rbdcsi.ceph.connections import Connections
from rbdcsi.config import clusters_file
from rbdcsi.volumes.clone_upkeep import CloneUpkeep

pooled = Connections(clusters_file.load(Path(sys.argv[1])), timeout=10)
CloneUpkeep(sys.argv[2], pooled, pooled).run()
"""


def test_volume_is_staged_used_and_deleted_while_it_is_flattened(
    lab: Lab, chain: list[Volume]
) -> None:
    pooled, deep, node = lab.pooled(), chain[-1], lab.nodes[0]
    notes, image_id = CloneNotes(lab.ioctx), lab.image_id(deep)
    assert image_id in notes.deep()
    before = lab.checksum(deep)
    upkeep = CloneUpkeep(driver.CLUSTER_ID, pooled, pooled)
    working = threading.Thread(target=upkeep.run)
    working.start()
    commands.wait_until(lambda: bool(lab.watchers(deep)), "flattening has begun", pause=0)
    lab.controller.start()
    volume.attach(lab.controller, deep, node.name)
    volume.stage(node, deep)
    with volume.publish(node, deep).open("r+b") as device:
        device.seek(2 * MIB)
        device.write(b"written meanwhile")
        device.flush()
    volume.unpublish(node, deep)
    volume.unstage(node, deep)
    volume.detach(lab.controller, deep, node.name)
    working.join()

    def flattened() -> bool:
        upkeep.run()
        return not notes.deep()

    commands.wait_until(flattened, "the image is flattened", timeout=120)
    with lab.image(deep) as image:
        with pytest.raises(rbd.ImageNotFound):
            image.parent_info()
        assert image.read(2 * MIB, 17) == b"written meanwhile"
        image.discard(2 * MIB, MIB)
    assert lab.checksum(deep) == before


def test_volume_is_deleted_while_it_is_flattened(lab: Lab, chain: list[Volume]) -> None:
    pooled, deep = lab.pooled(), chain.pop()
    upkeep = CloneUpkeep(driver.CLUSTER_ID, pooled, pooled)
    working = threading.Thread(target=upkeep.run)
    working.start()
    commands.wait_until(lambda: bool(lab.watchers(deep)), "flattening has begun", pause=0)
    lab.controller.start()
    volume.until_let_through(lambda: volume.delete(lab.controller, deep))
    working.join()


def test_no_data_is_lost_if_the_flattening_process_is_killed(
    lab: Lab, chain: list[Volume], tmp_path: Path
) -> None:
    pooled, deep, notes, claims = lab.pooled(), chain[-1], CloneNotes(lab.ioctx), Claims(lab.ioctx)
    before, image_id = lab.checksum(deep), lab.image_id(deep)
    program = (sys.executable, "-c", _FLATTEN, lab.controller.config, driver.CLUSTER_ID)
    with processes.start(program, tmp_path / "output") as child:

        def copies_the_last() -> bool:
            claim = claims.all().get(image_id)
            return claim is not None and claim.is_at_last

        commands.wait_until(copies_the_last, "some objects are under way", timeout=120, pause=0)
        child.kill()
    client = claims.all()[image_id].client
    upkeep = CloneUpkeep(driver.CLUSTER_ID, pooled, pooled)

    def flattened() -> bool:
        upkeep.run()
        upkeep.add(ids.parse(deep.id).location)
        return not notes.deep() and not claims.all()

    commands.wait_until(flattened, "another process has flattened it", timeout=120)
    assert lab.checksum(deep) == before
    with lab.image(deep, readonly=True) as image:
        with pytest.raises(rbd.ImageNotFound):
            image.parent_info()
        assert image.flags() == 0
    lab.cluster.ceph("osd", "blocklist", "rm", client)


def _staged_without_controller(lab: Lab, made: Volume) -> Driver:
    """Stage a volume at a node and write to it; a controller would flatten its image."""
    pooled, node = lab.pooled(), lab.nodes[0]
    capability = Capability(AccessMode.SINGLE_NODE_WRITER, block=True)
    attacher = Attacher(pooled, Locations(pooled))
    generation = attacher.attach(ids.parse(made.id), node.name, capability, readonly=False)
    made.publish_context = {convert.GENERATION: str(generation)}
    volume.stage(node, made)
    with volume.publish(node, made).open("r+b", buffering=0) as device:
        device.write(b"\x01")  # as before; so the node's client has the lock
        os.fsync(device.fileno())
    return node


def test_claim_stays_a_dead_client_s_while_a_client_of_a_node_does_not_answer(
    lab: Lab, chain: list[Volume], admin: rados.Rados
) -> None:
    deep, claims, dead = chain[-1], Claims(lab.ioctx), "127.0.0.1:0/4242"
    image_id, node = lab.image_id(deep), _staged_without_controller(lab, deep)
    claims.begin(image_id, dead)
    (daemon,) = labs.daemons(node).values()
    with faults.frozen(daemon):
        for _ in range(2):  # two controllers, one after the other
            pooled = lab.pooled()
            CloneUpkeep(driver.CLUSTER_ID, pooled, pooled).run()
            assert claims.all()[image_id].client == dead
    assert set(leftovers.blocklisted(admin)) == {dead}
    lab.controller.start()
    commands.wait_until(lambda: not claims.all(), "it is flattened", timeout=120)
    take_down(node, deep)
    volume.detach(lab.controller, deep, node.name)
    lab.cluster.ceph("osd", "blocklist", "rm", dead)


def test_the_client_of_a_node_that_copies_for_a_process_that_died_detaches_no_snapshot(
    lab: Lab, chain: list[Volume], tmp_path: Path
) -> None:
    pooled, deep, claims = lab.pooled(), chain[-1], Claims(lab.ioctx)
    before, image_id = lab.checksum(deep), lab.image_id(deep)
    node = _staged_without_controller(lab, deep)
    program = (sys.executable, "-c", _FLATTEN, lab.controller.config, driver.CLUSTER_ID)
    with processes.start(program, tmp_path / "output") as child:
        commands.wait_until(lambda: _copied(lab, image_id) > 3, "data is copied", pause=0)
        child.kill()
    client = claims.all()[image_id].client
    chains.end_lease(lab.ioctx)
    working = threading.Thread(target=CloneUpkeep(driver.CLUSTER_ID, pooled, pooled).run)
    working.start()
    commands.wait_until(lambda: not claims.all(), "a snapshot can be taken", pause=0)
    header = Images(lab.ioctx).header(image_id)
    assert header
    assert header.parent is None
    working.join()
    lab.controller.start()
    take_down(node, deep)
    volume.detach(lab.controller, deep, node.name)
    assert lab.checksum(deep) == before
    lab.cluster.ceph("osd", "blocklist", "rm", client)


def _copied(lab: Lab, image_id: str) -> int:
    """Return how many data objects the image has."""
    prefix = f"rbd_data.{image_id}."
    return sum(found.key.startswith(prefix) for found in lab.ioctx.list_objects())


def test_an_image_that_cannot_be_flattened_keeps_no_other_one_from_it(
    lab: Lab, chain: list[Volume]
) -> None:
    pooled, notes, damaged = lab.pooled(), CloneNotes(lab.ioctx), "0damaged"
    header = objects.HEADER + damaged
    with rados.WriteOpCtx() as op:
        lab.ioctx.set_omap(op, ("size",), (b"no number",))
        lab.ioctx.operate_write_op(op, header)
    notes.add_deep(damaged, "2026-01-01T00:00:00Z")  # comes before all others
    CloneUpkeep(driver.CLUSTER_ID, pooled, pooled).run()
    assert list(notes.deep()) == [damaged]
    with lab.image(chain[-1]) as image, pytest.raises(rbd.ImageNotFound):
        image.parent_info()
    lab.ioctx.remove_object(header)
    notes.remove_deep(damaged)


def test_flattening_is_broken_off_for_a_snapshot_of_another_process(
    lab: Lab, chain: list[Volume]
) -> None:
    pooled, deep, claims = lab.pooled(), chain[-1], Claims(lab.ioctx)
    before, image_id = lab.checksum(deep), lab.image_id(deep)
    upkeep = CloneUpkeep(driver.CLUSTER_ID, pooled, pooled)
    working = threading.Thread(target=upkeep.run)
    working.start()
    commands.wait_until(lambda: image_id in claims.all(), "flattening has begun", pause=0)
    lab.controller.start()
    with refused("ABORTED", f"image {image_id} is being flattened", "broken off"):
        snapshots.create(lab.controller, "meanwhile", deep.id)
    taken = repeated(lambda: snapshots.create(lab.controller, "meanwhile", deep.id))
    working.join()
    assert claims.all() == {}
    restored = volume.create(
        lab.controller,
        "restored",
        size=chains.SIZE,
        capability=volume.raw(),
        source=taken.snapshot_id,
    )
    chain.append(restored)
    assert lab.checksum(restored) == before
    upkeep.run()
    with lab.image(deep) as image:
        assert image.parent_info(), "an image with a snapshot is not flattened"
    assert lab.checksum(deep) == before
    snapshots.delete(lab.controller, taken.snapshot_id)


def test_claim_of_a_dead_process_keeps_snapshots_away_until_its_client_is_shut_out(
    lab: Lab, admin: rados.Rados
) -> None:
    pooled, claims, client = lab.pooled(), Claims(lab.ioctx), "127.0.0.1:0/4242"
    with (
        lab.volume("source") as source,
        lab.volume("claimed", source=source.id) as made,
        lab.volume("beside") as beside,
    ):
        assert claims.begin(lab.image_id(made), client)
        with refused("ABORTED", "is being flattened"):
            snapshots.create(lab.controller, "of-claimed", made.id)
        with refused("ABORTED", "is being flattened"):
            volume.create(lab.controller, "of-claimed", source=made.id)
        with refused("ABORTED", "is being flattened"):
            groups.create(lab.controller, "of-claimed", [beside.id, made.id])
        assert not claims.is_undisturbed(lab.image_id(made), client)
        CloneUpkeep(driver.CLUSTER_ID, pooled, pooled).run()
        assert client in set(leftovers.blocklisted(admin))
        assert claims.all() == {}
        taken = snapshots.create(lab.controller, "of-claimed", made.id)
        snapshots.delete(lab.controller, taken.snapshot_id)
        group = groups.create(lab.controller, "of-claimed", [beside.id, made.id])
        groups.delete(
            lab.controller, group.group_snapshot_id, [each.snapshot_id for each in group.snapshots]
        )
        lab.cluster.ceph("osd", "blocklist", "rm", client)


def test_one_client_may_have_an_image_open_that_is_claimed_by_a_controller(lab: Lab) -> None:
    node, claims, client = lab.nodes[0], Claims(lab.ioctx), "10.0.0.1:0/1"
    with lab.volume("foreign") as made:
        image_id = lab.image_id(made)
        lab.controller.stop()  # it would end the claim, and the note
        CloneNotes(lab.ioctx).add_deep(image_id, "2026-01-01T00:00:00Z")  # it has snapshots
        with lab.image(made):
            with refused("FAILED_PRECONDITION", "no attachment accounts"):
                volume.stage(node, made)
            claims.begin(image_id, client)
            volume.stage(node, made)
        claims.end(image_id, client)
        lab.controller.start()
