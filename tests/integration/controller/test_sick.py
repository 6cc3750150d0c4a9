"""A pool or a cluster that does not answer harms only its own volumes."""

import contextlib
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
import rados
import yaml

from e2e import clusters, driver, volume, waiting
from e2e.clusters import Cluster, commands, controller_caps
from e2e.clusters.local import LocalCluster
from e2e.driver import Driver, Installation
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from rbdcsi.ceph import locations
from tests import faults
from tests.integration.controller.scrape import Scrape, wait_for
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered
from tests.refusal import refused

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(240)]

SICK_POOL = f"sick-{uuid.uuid4().hex[:8]}"
FOREIGN_POOL = f"foreign-{uuid.uuid4().hex[:8]}"
OTHER_CLUSTER = "other"
HASTY = ("--operation-timeout", "3")
WAITING = 40  # more than the calls that are served at once
SECONDS = 60.0  # of a call; none comes near it, unless it waits for what is sick


@pytest.fixture(scope="module")
def further_pools() -> Sequence[str]:
    return SICK_POOL, FOREIGN_POOL


@pytest.fixture(scope="module", autouse=True)
def pools(cluster: Cluster) -> Iterator[None]:
    for name in (SICK_POOL, FOREIGN_POOL):
        cluster.create_pool(name)
    yield
    for name in (SICK_POOL, FOREIGN_POOL):
        cluster.delete_pool(name)


@pytest.fixture(scope="module")
def sick_view(admin: rados.Rados) -> Iterator[View]:
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(SICK_POOL) as ioctx:
        yield View(ioctx)


@contextlib.contextmanager
def sick(cluster: Cluster, pool: str) -> Iterator[None]:
    """Let the pool's placement groups be inactive during the body: they want one OSD more."""

    def want(copies: int) -> None:
        cluster.ceph("osd", "pool", "set", pool, "min_size", str(copies))

    def inactive() -> bool:
        groups = cluster.ceph("pg", "ls-by-pool", pool)["pg_stats"]
        return not any("active" in group["state"].split("+") for group in groups)

    cluster.ceph("osd", "pool", "set", pool, "size", "2")
    want(2)
    try:
        commands.wait_until(inactive, f"no placement group of pool {pool} is active")
        yield
    finally:
        want(1)
        cluster.wait_until_active(pool)


@pytest.fixture(scope="module")
def limited_node(installation: Installation, view: View) -> str:
    """Register a node that may hold three volumes."""
    node = installation.node("limited", "--max-volumes", "3").start()
    wait_until_registered(view.ioctx, node)
    node.stop()
    return "limited"


def _list(controller: Driver, token: str = "") -> set[str]:
    request = csi_pb2.ListVolumesRequest(starting_token=token)
    answer = controller.controller.ListVolumes(request, timeout=SECONDS)
    return {entry.volume.volume_id for entry in answer.entries}


def _token_after(controller: Driver, volume_id: str) -> str:
    """Return the token with which a listing goes on behind that volume."""
    token, listed = "", ""
    while listed != volume_id:
        request = csi_pb2.ListVolumesRequest(max_entries=1, starting_token=token)
        answer = controller.controller.ListVolumes(request, timeout=SECONDS)
        (entry,), token = answer.entries, answer.next_token
        listed = entry.volume.volume_id
    return token


def _is_ready(controller: Driver) -> bool:
    return controller.identity.Probe(csi_pb2.ProbeRequest(), timeout=SECONDS).ready.value


def _wait_until_searched(view: View, cluster_id: str = driver.CLUSTER_ID) -> None:
    registry = locations.Registry(view.ioctx, cluster_id)
    commands.wait_until(lambda: registry.searched() is not None, "all pools were searched")


def test_a_sick_pool_without_volumes_disturbs_nothing(
    cluster: Cluster,
    installation: Installation,
    view: View,
    limited_node: str,
) -> None:
    controller = installation.controller("calm", *HASTY).start()
    _wait_until_searched(view)
    with sick(cluster, FOREIGN_POOL):
        made = volume.create(controller, "made", size=16 * MIB)
        volume.attach(controller, made, limited_node)
        assert _list(controller) == {made.id}
        newcomer = installation.controller("newcomer", *HASTY).start()
        assert _list(newcomer) == {made.id}
        assert _is_ready(newcomer)
        newcomer.stop()
        volume.detach(controller, made, limited_node)
        volume.delete(controller, made)
        view.wait_until_gone(image_id(made))
    controller.stop()


def test_a_sick_pool_harms_only_its_own_volumes(
    cluster: Cluster,
    view: View,
    limited_node: str,
    sick_view: View,
    watched: tuple[Driver, Scrape],
) -> None:
    controller, get = watched
    controller.flags = (*controller.flags, *HASTY)
    controller.start()
    where = {"pool": SICK_POOL}
    harmed = volume.create(controller, "harmed", size=16 * MIB, parameters=where)
    volume.attach(controller, harmed, limited_node)
    try:
        with sick(cluster, SICK_POOL), _waiting_calls(controller, where):
            made = [volume.create(controller, f"v-{n}", size=16 * MIB) for n in range(4)]
            # The limit of three holds for the volumes that can be counted.
            for each in made[:3]:
                volume.attach(controller, each, limited_node)
            with refused("RESOURCE_EXHAUSTED", "--max-volumes"):
                volume.attach(controller, made[3], limited_node)
            with refused("UNAVAILABLE", f"because pool {SICK_POOL} of cluster", "cannot be listed"):
                _list(controller)
            assert _is_ready(controller)
            for each in made:
                volume.detach(controller, each, limited_node)
                volume.delete(controller, each)
            for each in made:
                view.wait_until_gone(image_id(each))
            controller.stop()
            controller.start()  # its first census meets the sick pool
            labels = f'cluster="{driver.CLUSTER_ID}",namespace="",pool='
            wait_for(get, rf'rbdcsi_location_ready{{{labels}"{SICK_POOL}"}} 0\.0')
            wait_for(get, rf'rbdcsi_location_ready{{{labels}"{view.ioctx.get_pool_name()}"}} 1\.0')
        assert harmed.id in _list(controller)
    finally:
        volume.detach(controller, harmed, limited_node)
        for name in ("harmed", *(f"waiting-{number}" for number in range(WAITING))):
            again = volume.create(controller, name, size=16 * MIB, parameters=where)
            volume.delete(controller, again)
            sick_view.wait_until_gone(image_id(again))


def _waiting_calls(
    controller: Driver, parameters: Mapping[str, str]
) -> contextlib.AbstractContextManager[None]:
    """Let many callers ask for volumes during the body, each again when it is refused."""
    return waiting.calls(controller, parameters, at_once=WAITING, seconds=SECONDS, pause=0.1)


@dataclass(frozen=True)
class _Two:
    """A second cluster, and an installation that knows both."""

    other: Cluster
    installation: Installation


@pytest.fixture(scope="module", autouse=True)  # before `nothing_left` counts processes
def two(installation: Installation, temporary: Path) -> Iterator[_Two]:
    with (
        LocalCluster(backend="memstore") as other,
        tempfile.TemporaryDirectory(prefix="d", dir=temporary) as directory,
    ):
        other.create_pool("home")
        keyring = other.create_keyring("two", controller_caps("home"), Path(directory))
        entry = {
            "clusterID": OTHER_CLUSTER,
            "confFile": str(other.conf),
            "pool": "home",
            "user": "two",
            "keyring": str(keyring),
        }
        both = [*yaml.safe_load(installation.config.read_text())["clusters"], entry]
        config = Path(directory) / "two.yaml"
        config.write_text(yaml.safe_dump({"clusters": both}))
        with contextlib.ExitStack() as running:
            yield _Two(
                other,
                replace(installation, directory=Path(directory), config=config, running=running),
            )


@contextlib.contextmanager
def _dead(cluster: clusters.Cluster) -> Iterator[None]:
    with faults.frozen_mon(cluster), faults.frozen_osd(cluster):
        yield


@pytest.mark.parametrize("connected", [True, False])
def test_a_dead_cluster_harms_only_its_own_volumes(
    two: _Two, view: View, known_nodes: tuple[str, str], connected: bool
) -> None:
    controller = two.installation.controller(f"two-{connected}", *HASTY).start()
    here, there = {"clusterID": driver.CLUSTER_ID}, {"clusterID": OTHER_CLUSTER}
    harmed, also_harmed = (
        volume.create(controller, name, size=16 * MIB, parameters=there)
        for name in ("harmed", "harmed-too")
    )
    token = _token_after(controller, harmed.id)
    if not connected:
        controller.stop()
    with _dead(two.other):
        if not connected:
            controller.start()
        with _waiting_calls(controller, there):
            made = volume.create(controller, "made", size=16 * MIB, parameters=here)
            volume.attach(controller, made, known_nodes[0])
            assert _is_ready(controller)
            for start in ("", token):
                with refused("UNAVAILABLE", "cannot be listed", f"cluster {OTHER_CLUSTER}"):
                    _list(controller, start)
            volume.detach(controller, made, known_nodes[0])
            volume.delete(controller, made)
            view.wait_until_gone(image_id(made))
    commands.wait_until(lambda: _lists(controller, harmed), "the cluster is served again")
    for name in ("harmed", *(f"waiting-{number}" for number in range(WAITING))):
        again = volume.create(controller, name, size=16 * MIB, parameters=there)
        volume.delete(controller, again)
    with two.other.connection() as connection, connection.open_ioctx("home") as ioctx:
        View(ioctx).wait_until_gone(image_id(harmed))
    volume.delete(controller, also_harmed)
    controller.stop()


def _lists(controller: Driver, made: Volume) -> bool:
    try:
        return made.id in _list(controller)
    except grpc.RpcError:
        return False


@pytest.fixture
def empty_home(two: _Two) -> Iterator[str]:
    """Give a new pool of the other cluster, and its user no other one: there are no volumes."""
    home = f"empty-{uuid.uuid4().hex[:8]}"
    two.other.create_pool(home)
    two.other.ceph("auth", "caps", "client.two", *_words(controller_caps(home)))
    yield home
    two.other.ceph("auth", "caps", "client.two", *_words(controller_caps("home")))
    two.other.delete_pool(home)


def test_a_dead_cluster_that_held_no_volumes_keeps_no_others_from_being_listed(
    two: _Two, view: View, empty_home: str
) -> None:
    config = two.installation.config.with_name("empty.yaml")
    text = two.installation.config.read_text()
    config.write_text(text.replace("pool: home", f"pool: {empty_home}"))
    controller = replace(two.installation, config=config).controller("empty", *HASTY).start()
    made = volume.create(
        controller, "made", size=16 * MIB, parameters={"clusterID": driver.CLUSTER_ID}
    )
    with two.other.connection() as connection, connection.open_ioctx(empty_home) as ioctx:
        _wait_until_searched(View(ioctx), OTHER_CLUSTER)
    assert _list(controller) == {made.id}
    with _dead(two.other):
        assert _list(controller) == {made.id}
    volume.delete(controller, made)
    view.wait_until_gone(image_id(made))
    controller.stop()


def _words(caps: Mapping[str, str]) -> list[str]:
    return [word for service, cap in caps.items() for word in (service, cap)]


def test_volumes_of_an_older_driver_are_known_after_a_search(
    installation: Installation, view: View, limited_node: str
) -> None:
    older = installation.controller("older").start()
    volumes = [volume.create(older, f"old-{number}", size=16 * MIB) for number in range(4)]
    for each in volumes[:3]:
        volume.attach(older, each, limited_node)
    older.stop()
    view.ioctx.remove_object(locations.REGISTRY)
    view.ioctx.remove_object(f"rbdcsi.node.{limited_node}")
    _remove_keys(view.ioctx, "~trash/")

    controller = installation.controller("newer").start()
    assert _list(controller) == {each.id for each in volumes}  # also while it searches
    _wait_until_searched(view)
    assert _list(controller) == {each.id for each in volumes}
    with refused("RESOURCE_EXHAUSTED", "--max-volumes"):
        volume.attach(controller, volumes[3], limited_node)
    for each in volumes:
        volume.detach(controller, each, limited_node)
        volume.delete(controller, each)
        view.wait_until_gone(image_id(each))
    controller.stop()


def _remove_keys(ioctx: rados.Ioctx, prefix: str) -> None:
    for number in range(16):
        name = f"rbdcsi.attachments.{number}"
        with rados.ReadOpCtx() as reading:
            values, _ = ioctx.get_omap_vals(reading, "", prefix, 1000)
            ioctx.operate_read_op(reading, name)
            keys = tuple(key for key, _ in values)
        with rados.WriteOpCtx() as writing:
            ioctx.remove_omap_keys(writing, keys)
            ioctx.operate_write_op(writing, name)
