"""A chain of clones whose last image has too many ancestors."""

from collections.abc import Iterator

import pytest
import rados

from e2e import volume
from e2e.clusters import commands
from e2e.volume import MIB, Volume
from rbdcsi.ceph import connections
from rbdcsi.ceph.locations import Locations
from rbdcsi.model import ids, storage_class
from rbdcsi.volumes import clone_notes
from rbdcsi.volumes.clone_rules import SOFT_DEPTH
from rbdcsi.volumes.create import Provisioner
from rbdcsi.volumes.placement import Placement
from rbdcsi.volumes.request import Request
from tests.integration.node.lab import Lab

SIZE = 512 * MIB


@pytest.fixture
def chain(lab: Lab) -> Iterator[list[Volume]]:
    """Give a chain of volumes; the last one reads all its data from the first, and is deep."""
    made = volume.create(lab.controller, "chain-0", size=SIZE, capability=volume.raw())
    with lab.image(made) as image:
        for at in range(0, SIZE, 4 * MIB):
            image.write(bytes([1 + at // MIB % 200]) * MIB, at)
    lab.controller.stop()  # it would flatten
    pooled, volumes = lab.pooled(), [made]
    for number in range(SOFT_DEPTH + 1):
        volumes.append(_copy(pooled, volumes[-1], f"chain-{number + 1}"))
    yield volumes
    if lab.controller.process is None:
        lab.controller.start()
    for each in volumes:
        volume.delete(lab.controller, each)
    commands.wait_until(lambda: not lab.images() and not lab.trashed(), "all gone", timeout=120)


def end_lease(ioctx: rados.Ioctx) -> None:
    """End the lease of a dead process that looked after clones, which it has for 15 s."""
    ioctx.rm_xattr(clone_notes.OBJECT, "lock.rbdcsi.clones")


def _copy(pooled: connections.Connections, source: Volume, name: str) -> Volume:
    provisioner = Provisioner(pooled, Placement(pooled, Locations(pooled)))
    parameters = storage_class.parse({})
    content = ids.parse(source.id)
    made = provisioner.create(Request(name, SIZE, 0, None, parameters, content=content))
    return Volume(str(made.handle), volume.raw(), made.size)
