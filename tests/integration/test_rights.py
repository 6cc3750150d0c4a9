"""What the two Ceph users of the driver may not do; all other tests show what they may do."""

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import rados
import rbd

from e2e import volume
from e2e.clusters import Cluster
from e2e.clusters.caps import node_caps, node_data_caps
from e2e.driver import Driver, Installation
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi import errors
from rbdcsi.attachments import upkeep
from rbdcsi.attachments.fences import Fence, Fences
from rbdcsi.ceph import blocklist, moves, objects, omap
from rbdcsi.ceph.connection import Connection, Ioctx
from rbdcsi.ceph.images import Images
from rbdcsi.config import clusters_file
from rbdcsi.model import image_layout
from rbdcsi.runtime import clock
from tests.integration.controller.view import View

pytestmark = pytest.mark.usefixtures("nothing_left")

CLIENT = "192.0.2.1:0/12345"  # of no machine (RFC 5737)
SECONDS = 600.0
LAYOUT = image_layout.Layout(image_layout.DEFAULT, 4 * MIB)
OLD_CAPS = {"mon": "profile rbd", "osd": "profile rbd pool={pool}"}


def connected(config: Path) -> Connection:
    """Return a connection as the user of a configuration file."""
    (cluster,) = clusters_file.load(config).clusters
    return Connection.open(cluster, cluster.credentials(), 15)


@pytest.fixture(scope="module")
def users(installation: Installation) -> Mapping[str, Connection]:
    """Give a connection as each of the two users."""
    return {
        "controller": connected(installation.config),
        "node": connected(installation.node_config),
    }


@pytest.fixture(params=["controller", "node"])
def user(users: Mapping[str, Connection], request: pytest.FixtureRequest) -> Connection:
    """Give a connection as one of the two users."""
    return users[request.param]


@pytest.fixture
def node(users: Mapping[str, Connection]) -> Ioctx:
    """Give the pool as the node plugins' user has it."""
    return users["node"].home()


@pytest.fixture
def made(controller: Driver, admin: rados.Rados, pool: str) -> Iterator[Volume]:
    """Give a volume with data; after the test its data is what it was."""
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as ioctx:
        view = View(ioctx)
        made = volume.create(controller, "kept", size=16 * MIB)
        with view.image(made, readonly=False) as image:
            image.write(b"data", 5 * MIB)
        checksum = view.checksum(made)
        yield made
        assert view.checksum(made) == checksum
        assert view.images() == [made.context["imageName"]]
        volume.delete(controller, made)
        view.wait_until_gone(image_id(made))


@pytest.fixture
def fenced(cluster: Cluster, users: Mapping[str, Connection]) -> Iterator[str]:
    """Give the address of a client that a node fenced."""
    assert blocklist.add(users["node"], CLIENT, SECONDS)
    yield CLIENT
    cluster.ceph("osd", "blocklist", "rm", CLIENT)


@pytest.fixture
def foreign_pool(cluster: Cluster, admin: rados.Rados) -> Iterator[str]:
    """Give a pool with an object, which is not the driver's."""
    name = f"foreign-{uuid.uuid4().hex[:8]}"
    cluster.create_pool(name)
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(name) as ioctx:
        ioctx.write_full("object", b"foreign")
    yield name
    cluster.delete_pool(name)


def test_a_controller_lifts_fences_and_a_node_does_not(
    users: Mapping[str, Connection], fenced: str
) -> None:
    with pytest.raises(errors.Forbidden):
        blocklist.remove(users["node"], fenced)
    assert fenced in blocklist.addresses(users["node"])
    blocklist.remove(users["controller"], fenced)
    assert fenced not in blocklist.addresses(users["controller"])


@pytest.mark.parametrize(
    ("prefix", "arguments"),
    [
        ("osd pool create", {"pool": "new"}),
        ("osd pool delete", {"pool": "{pool}", "pool2": "{pool}", "yes_i_really_mean_it": True}),
        ("osd pool set", {"pool": "{pool}", "var": "size", "val": "1"}),
        ("osd blocklist clear", {}),
        ("auth get-or-create", {"entity": "client.new", "caps": ["mon", "allow *"]}),
        ("auth get-key", {"entity": "client.admin"}),
        ("config set", {"who": "global", "name": "debug_ms", "value": "0"}),
        ("osd down", {"ids": ["0"]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_neither_manages_the_cluster(
    user: Connection, pool: str, prefix: str, arguments: Mapping[str, object]
) -> None:
    named = {
        key: value.format(pool=pool) if isinstance(value, str) else value
        for key, value in arguments.items()
    }
    with pytest.raises(errors.Forbidden):
        user.command(prefix, **named)


def test_neither_reads_or_writes_another_pool(user: Connection, foreign_pool: str) -> None:
    ioctx = user.ioctx(user.pool_named(foreign_pool).pool_id, "")
    with pytest.raises(rados.PermissionError):
        ioctx.read("object")
    with pytest.raises(rados.PermissionError):
        ioctx.write_full("object", b"ours")


@pytest.mark.parametrize(
    "change",
    [
        lambda ioctx, _: Images(ioctx).create("by-a-node", 16 * MIB, LAYOUT),
        lambda ioctx, name: moves.to_trash(ioctx, Images(ioctx).id_of(name) or "", name),
        lambda ioctx, name: _translated(rbd.RBD().rename, ioctx, name, "renamed"),
    ],
    ids=["create", "trash", "rename"],
)
def test_a_node_makes_and_deletes_no_image(
    node: Ioctx, made: Volume, change: Callable[[Ioctx, str], None]
) -> None:
    with pytest.raises(errors.Forbidden):
        change(node, made.context["imageName"])


def _translated(call: Callable[..., None], *arguments: object) -> None:
    try:
        call(*arguments)
    except rbd.PermissionError as error:
        raise errors.Forbidden(str(error)) from error


@pytest.mark.parametrize(
    "name", [objects.DIRECTORY, objects.TRASH, "rbd_children", "rbd_namespace", "other-s-object"]
)
def test_a_node_writes_no_object_that_is_not_of_an_image_or_the_drivers(
    node: Ioctx, name: str
) -> None:
    with pytest.raises(rados.PermissionError):
        node.write_full(name, b"x")
    with pytest.raises(rados.PermissionError):
        node.remove_object(name)
    with pytest.raises(errors.Forbidden):
        omap.Omap(node, name).put("key", "value")


def test_a_node_takes_no_name_from_an_image(node: Ioctx, made: Volume) -> None:
    with pytest.raises(rados.PermissionError):
        node.remove_object(objects.ID + made.context["imageName"])


def test_a_node_writes_to_an_image_with_every_feature(
    node: Ioctx, admin: rados.Rados, pool: str
) -> None:
    features = image_layout.mask(image_layout.CHOOSABLE)  # journaling among them
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as ioctx:
        rbd.RBD().create(ioctx, "journaled", 16 * MIB, old_format=False, features=features)
        try:
            with rbd.Image(node, "journaled") as image:
                image.write(b"data", 5 * MIB)
                image.flush()
                assert image.read(5 * MIB, 4) == b"data"
        finally:
            rbd.RBD().remove(ioctx, "journaled")


def test_a_pool_of_data_needs_less_of_a_nodes_user(
    cluster: Cluster, admin: rados.Rados, pool: str
) -> None:
    name, data_pool = f"node-{uuid.uuid4().hex[:8]}", f"data-{uuid.uuid4().hex[:8]}"
    caps = {**node_caps(pool), "osd": f"{node_caps(pool)['osd']}, {node_data_caps(data_pool)}"}
    with contextlib.ExitStack() as undo:
        key = cluster.create_user(name, caps)
        undo.callback(cluster.ceph, "auth", "rm", f"client.{name}")
        cluster.create_pool(data_pool, erasure=True)
        undo.callback(cluster.delete_pool, data_pool)
        admin.wait_for_latest_osdmap()
        ioctx = undo.enter_context(admin.open_ioctx(pool))
        rbd.RBD().create(ioctx, "coded", 16 * MIB, data_pool=data_pool)
        undo.callback(rbd.RBD().remove, ioctx, "coded")
        as_node = rados.Rados(
            name=f"client.{name}", conffile=str(cluster.conf), conf={"key": key.reveal()}
        )
        with as_node, as_node.open_ioctx(pool) as theirs, rbd.Image(theirs, "coded") as image:
            image.write(b"data", 5 * MIB)
            assert image.read(5 * MIB, 4) == b"data"


def test_a_user_that_may_only_fence_lets_the_entry_run_out(
    cluster: Cluster, installation: Installation, pool: str
) -> None:
    """An installation of before has one user, which `profile rbd` does not let lift a fence."""
    (configured,) = clusters_file.load(installation.config).clusters
    name = f"old-{uuid.uuid4().hex[:8]}"
    caps = {service: cap.format(pool=pool) for service, cap in OLD_CAPS.items()}
    keyring = cluster.create_keyring(name, caps, installation.directory)
    old = dataclasses.replace(configured, user=name, keyring=keyring)
    connection = Connection.open(old, old.credentials(), 15)
    noted = Fences(connection.home())
    with contextlib.ExitStack() as undo:
        undo.callback(cluster.ceph, "auth", "rm", f"client.{name}")
        undo.callback(cluster.ceph, "osd", "blocklist", "rm", CLIENT)
        blocklist.add(connection, CLIENT, SECONDS)
        fence = Fence(CLIENT, "v1:local:1::a", "n", "m", "b", clock.now(), clock.after(SECONDS), 1)
        noted.put(fence)
        with pytest.raises(errors.Forbidden):
            upkeep.lift(connection, fence)
        assert noted.get(CLIENT) == fence

        ended = dataclasses.replace(fence, until=clock.now())
        noted.put(ended)
        upkeep.lift(connection, ended)
        assert noted.get(CLIENT) is None
