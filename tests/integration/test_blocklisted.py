"""Ceph shuts a client of the driver out: the next call but one works, without a restart.

The next one works, too, if the node's watch, which Ceph ends, was renewed before by a new client.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator

import grpc
import pytest
import rados

from e2e import clusters, driver, volume
from e2e.driver import Driver
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from rbdcsi.ceph import omap
from rbdcsi.nodes import registry as registry
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

NODE = "node-all"


@pytest.fixture(scope="module")
def view(admin: rados.Rados, pool: str) -> Iterator[View]:
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as ioctx:
        yield View(ioctx)


@pytest.fixture(scope="module")
def both(installation: driver.Installation) -> Driver:
    """Give controller and node in one process: its node record names the client of both."""
    return installation.whole(NODE)


@pytest.fixture
def made(both: Driver, view: View) -> Iterator[Volume]:
    """Give an attached volume, with the driver freshly started."""
    omap.Omap(view.ioctx, "rbdcsi.nodes").put(NODE, None)
    both.start()
    wait_until_registered(view.ioctx, both)
    created = volume.create(both, "shut-out", size=16 * MIB)
    volume.attach(both, created, NODE)
    yield created
    volume.detach(both, created, NODE)
    volume.delete(both, created)
    view.wait_until_gone(created.id.rsplit(":", 1)[1])
    both.stop()


@pytest.fixture
def shut_out(
    cluster: clusters.Cluster, admin: rados.Rados, view: View, made: Volume
) -> Iterator[Callable[[], None]]:
    """Give the verb that blocklists the driver's client; the entry goes after the test."""
    assert made.publish_context
    address = registry.Nodes(view.ioctx).get(NODE).addresses[0]

    def blocklist() -> None:
        cluster.ceph("osd", "blocklist", "add", address)
        view.tell_osd_the_newest_map(admin)

    yield blocklist
    cluster.ceph("osd", "blocklist", "rm", address)


def _list(both: Driver, _made: Volume) -> object:
    return both.controller.ListVolumes(csi_pb2.ListVolumesRequest())


def _create(both: Driver, made: Volume) -> object:
    again = volume.create(both, "shut-out", size=16 * MIB)
    assert again.id == made.id
    return again


@contextlib.contextmanager
def _refused_or_not() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError:
        with refused("UNAVAILABLE", "blocklisted"):
            raise


CALLS: dict[str, Callable[[Driver, Volume], object]] = {
    "create": _create,
    "list": _list,
    "attach": functools.partial(volume.attach, node_id=NODE),
    "detach": functools.partial(volume.detach, node_id=NODE),
    "stage": functools.partial(volume.stage, timeout=60),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_driver_that_ceph_has_shut_out_gets_a_new_client(
    both: Driver,
    made: Volume,
    shut_out: Callable[[], None],
    call: Callable[[Driver, Volume], object],
) -> None:
    shut_out()
    with _refused_or_not():
        call(both, made)
    call(both, made)
    volume.unstage(both, made)


def test_a_staged_volume_is_unstaged_by_a_driver_that_was_shut_out(
    both: Driver, made: Volume, shut_out: Callable[[], None]
) -> None:
    volume.stage(both, made)
    shut_out()
    with _refused_or_not():
        volume.unstage(both, made)
    volume.unstage(both, made)
