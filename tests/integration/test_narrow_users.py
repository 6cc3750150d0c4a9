"""Ceph users with few rights: what they may do works, and what they lack is named in time."""

import contextlib
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import rados

from e2e import driver, groups, snapshots, volume
from e2e.clusters import Cluster, commands, controller_caps, node_caps
from e2e.driver import Driver, Installation
from tests.integration.controller.conftest import watched as watched
from tests.integration.controller.scrape import Scrape
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered
from tests.integration.operator.shell import Shell
from tests.integration.whole_life import Class, live
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

NAMESPACE = "tenant-a"
PATIENCE = 6.0  # a person needs longer to mend rights; a client is not replaced for each call


@dataclass(frozen=True)
class Bed:
    """A running driver, and the location of its volumes."""

    controller: Driver
    node: Driver
    view: View


@contextlib.contextmanager
def running(installation: Installation, ioctx: rados.Ioctx) -> Iterator[Bed]:
    """Give controller and node of an installation."""
    controller, node = installation.controller().start(), installation.node("node-a").start()
    wait_until_registered(ioctx, node)
    yield Bed(controller, node, View(ioctx))


@pytest.fixture(scope="module")
def within_namespace(
    cluster: Cluster, temporary: Path, pool: str, admin: rados.Rados, program: Sequence[str]
) -> Iterator[Bed]:
    """Give a driver whose users may use one RADOS namespace of one pool, and nothing else."""
    cluster.rbd("namespace", "create", f"{pool}/{NAMESPACE}")
    admin.wait_for_latest_osdmap()
    with (
        tempfile.TemporaryDirectory(prefix="n", dir=temporary) as directory,
        driver.installed(
            cluster, Path(directory), pool, namespace=NAMESPACE, program=program
        ) as installation,
        admin.open_ioctx(pool) as ioctx,
    ):
        ioctx.set_namespace(NAMESPACE)
        with running(installation, ioctx) as bed:
            yield bed


@pytest.fixture
def tenant_pool() -> str:
    """Give the name of a pool that a class's Secrets are for, and that no other test prepared."""
    return f"tenant-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def tenant(cluster: Cluster, tenant_pool: str, admin: rados.Rados) -> Iterator[View]:
    """Give that pool."""
    cluster.create_pool(tenant_pool)
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(tenant_pool) as ioctx:
        yield View(ioctx)
    cluster.delete_pool(tenant_pool)


Secrets = Mapping[str, str]
MakeUser = Callable[[Mapping[str, str]], Secrets]


@pytest.fixture
def make_user(cluster: Cluster) -> Iterator[MakeUser]:
    """Give a verb that makes a Ceph user for this test and returns it as a Secret."""
    with contextlib.ExitStack() as undo:

        def make(caps: Mapping[str, str]) -> Secrets:
            name = f"tenant-{uuid.uuid4().hex[:8]}"
            key = cluster.create_user(name, caps)
            undo.callback(cluster.ceph, "auth", "rm", f"client.{name}")
            return {"userID": name, "userKey": key.reveal()}

        yield make


@pytest.fixture(scope="module")
def home(
    installation: Installation, pool: str, admin: rados.Rados
) -> Iterator[tuple[Bed, Installation]]:
    """Give a driver whose configured users may use its home pool alone."""
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as ioctx, running(installation, ioctx) as bed:
        yield bed, installation


@pytest.fixture
def let(cluster: Cluster) -> Iterator[Callable[[Path, Mapping[str, str]], None]]:
    """Give a verb that gives the user of a configuration file other rights, until the test ends."""
    with contextlib.ExitStack() as undo:

        def change(config: Path, caps: Mapping[str, str]) -> None:
            user = next(
                line.partition(": ")[2]
                for line in config.read_text().splitlines()
                if line.strip().startswith("user:")
            )
            entity = f"client.{user}"
            before = cluster.ceph("auth", "get", entity)[0]["caps"]
            _set_caps(cluster, entity, caps)
            undo.callback(_set_caps, cluster, entity, before)

        yield change


def _set_caps(cluster: Cluster, entity: str, caps: Mapping[str, str]) -> None:
    cluster.ceph("auth", "caps", entity, *(word for pair in caps.items() for word in pair))


def test_a_user_of_one_namespace_works_within_it(within_namespace: Bed) -> None:
    bed = within_namespace
    live(bed.controller, bed.node, bed.view, Class({}), "narrow")


def test_snapshots_are_taken_by_a_user_of_one_namespace(within_namespace: Bed) -> None:
    controller, view = within_namespace.controller, within_namespace.view
    made = volume.create(controller, "snapped")
    _take_and_delete(controller, made.id, {})
    volume.delete(controller, made)
    view.wait_until_gone(view.image_id(made))


def test_snapshots_are_taken_by_the_user_of_a_secret(
    cluster: Cluster,
    home: tuple[Bed, Installation],
    pool: str,
    make_user: MakeUser,
) -> None:
    """Its user has no right at home, where the records are."""
    (bed, _), name = home, "secret"
    cluster.rbd("namespace", "create", f"{pool}/{name}")
    osd = f"profile rbd pool={pool} namespace={name}"
    secrets = make_user({"mon": "profile rbd", "osd": osd})
    made = volume.create(bed.controller, name, parameters={"radosNamespace": name})
    poor = make_user({"mon": "profile rbd", "osd": f"profile rbd-read-only pool={pool}"})
    with refused("PERMISSION_DENIED"):
        snapshots.create(bed.controller, "s", made.id, secrets=poor)
    _take_and_delete(bed.controller, made.id, secrets)
    volume.delete(bed.controller, made)


def _take_and_delete(controller: Driver, source: str, secrets: Secrets) -> None:
    taken = snapshots.create(controller, "s", source, secrets=secrets)
    assert snapshots.create(controller, "s", source, secrets=secrets) == taken
    assert list(snapshots.listed(controller, source=source)) == [taken]
    snapshots.delete(controller, taken.snapshot_id, secrets=secrets)
    assert list(snapshots.listed(controller, source=source)) == []


def test_a_group_is_taken_listed_and_deleted_by_the_user_of_a_secret(
    cluster: Cluster,
    home: tuple[Bed, Installation],
    pool: str,
    make_user: MakeUser,
) -> None:
    """Its user has no right at home, where the records are; another one has no right here."""
    (bed, _), name = home, "group-secret"
    controller = bed.controller
    cluster.rbd("namespace", "create", f"{pool}/{name}")
    mine, other = (
        make_user({"mon": "profile rbd", "osd": f"profile rbd pool={pool} namespace={each}"})
        for each in (name, "elsewhere")
    )
    volumes = [
        volume.create(controller, f"{name}-{each}", parameters={"radosNamespace": name})
        for each in "ab"
    ]
    sources = [made.id for made in volumes]
    with refused("PERMISSION_DENIED", "profile rbd"):
        groups.create(controller, "g", sources, secrets=other)
    group = groups.create(controller, "g", sources, secrets=mine)
    assert groups.create(controller, "g", sources, secrets=mine) == group
    group_id, members = group.group_snapshot_id, [each.snapshot_id for each in group.snapshots]
    assert groups.get(controller, group_id, members, secrets=mine) == group
    for each in group.snapshots:
        (by_id,) = snapshots.listed(controller, snapshot_id=each.snapshot_id, secrets=mine)
        (of_volume,) = snapshots.listed(controller, source=each.source_volume_id, secrets=mine)
        assert by_id == of_volume == each
    with refused("PERMISSION_DENIED", "profile rbd"):
        groups.get(controller, group_id, members, secrets=other)
    with refused("PERMISSION_DENIED", "profile rbd"):
        list(snapshots.listed(controller, snapshot_id=members[0], secrets=other))
    with refused("PERMISSION_DENIED", "profile rbd"):
        groups.delete(controller, group_id, members, secrets=other)
    assert groups.get(controller, group_id, members) == group
    groups.delete(controller, group_id, members, secrets=mine)
    with refused("NOT_FOUND"):
        groups.get(controller, group_id, secrets=mine)
    assert list(snapshots.listed(controller, secrets=mine)) == []
    for made in volumes:
        volume.delete(controller, made)


def test_a_user_of_one_namespace_is_refused_in_others(within_namespace: Bed) -> None:
    with refused("PERMISSION_DENIED", "profile rbd"):
        volume.create(within_namespace.controller, "n", parameters={"radosNamespace": "tenant-b"})


def test_a_class_of_a_pool_that_the_configured_user_lacks_is_refused_with_the_right(
    home: tuple[Bed, Installation], tenant: View, tenant_pool: str, make_user: MakeUser
) -> None:
    bed, _ = home
    secrets = make_user(controller_caps(tenant_pool))
    with refused(
        "PERMISSION_DENIED", "client.controller-", f"'profile rbd pool={tenant_pool}'", "ceph auth"
    ):
        volume.create(bed.controller, "tenant", parameters={"pool": tenant_pool}, secrets=secrets)
    objects = {each.key for each in tenant.ioctx.list_objects()}
    assert objects <= {"rbd_info"}  # of `rbd pool init`


def test_rights_that_are_mended_are_taken_by_the_next_call(
    home: tuple[Bed, Installation],
    tenant: View,
    pool: str,
    tenant_pool: str,
    make_user: MakeUser,
    let: Callable[[Path, Mapping[str, str]], None],
) -> None:
    bed, installation = home
    by_tenant = Class(
        {"pool": tenant_pool},
        provisioner=make_user(controller_caps(tenant_pool)),
        node_stage=make_user(node_caps(tenant_pool)),
    )
    parameters, secrets = by_tenant.parameters, by_tenant.provisioner
    with refused("PERMISSION_DENIED"):
        volume.create(bed.controller, "mended", parameters=parameters, secrets=secrets)
    let(installation.config, controller_caps(pool, tenant_pool))
    time.sleep(PATIENCE)
    made = volume.create(bed.controller, "mended", parameters=parameters, secrets=secrets)
    volume.attach(bed.controller, made, "node-a", secrets=secrets)
    with refused("PERMISSION_DENIED", "client.node-", tenant_pool, "unstaging"):
        volume.stage(bed.node, made, secrets=by_tenant.node_stage)
    let(installation.node_config, node_caps(pool, tenant_pool))
    time.sleep(PATIENCE)
    volume.stage(bed.node, made, secrets=by_tenant.node_stage)
    volume.unstage(bed.node, made)
    volume.detach(bed.controller, made, "node-a", secrets=secrets)
    volume.delete(bed.controller, made, secrets=secrets)
    tenant.wait_until_gone(tenant.image_id(made))
    live(bed.controller, bed.node, tenant, by_tenant, "tenant")


def test_rights_that_are_taken_away_are_named(
    home: tuple[Bed, Installation],
    cluster: Cluster,
    tenant: View,
    pool: str,
    tenant_pool: str,
    make_user: MakeUser,
    let: Callable[[Path, Mapping[str, str]], None],
    watched: tuple[Driver, Scrape],
) -> None:
    """A deletion by the Secret's user goes on, and its data waits for the configured user."""
    (bed, installation), secrets = home, make_user(controller_caps(tenant_pool))
    parameters = {"pool": tenant_pool}
    let(installation.config, controller_caps(pool, tenant_pool))
    made = volume.until_let_through(  # its client may have earlier rights
        lambda: volume.create(bed.controller, "kept", parameters=parameters, secrets=secrets)
    )
    let(installation.config, controller_caps(pool))
    looking, get = watched
    looking.start()
    ready = f'rbdcsi_location_ready{{cluster="local",namespace="",pool="{tenant_pool}"}}'
    commands.wait_until(lambda: f"{ready} 0" in get("metrics"), "the metric says so")
    commands.wait_until(lambda: "may not read a pool" in looking.words(), "the log says so")
    (finding,) = Shell(driver.PROGRAM, installation.config, cluster).findings()
    assert finding["kind"] == "missing-right"
    assert finding["object"] == tenant_pool
    assert f"pool={tenant_pool}" in finding["commands"][0]
    let(installation.config, controller_caps(pool, tenant_pool))
    volume.delete(bed.controller, made, secrets=secrets)
    tenant.wait_until_gone(tenant.image_id(made))


def test_rights_of_a_secret_s_user_are_taken_by_the_next_call_too(
    cluster: Cluster, home: tuple[Bed, Installation], pool: str, make_user: MakeUser
) -> None:
    bed, _ = home
    secrets = make_user({"mon": "profile rbd", "osd": f"profile rbd-read-only pool={pool}"})
    with refused("PERMISSION_DENIED"):
        volume.create(bed.controller, "later", secrets=secrets)
    _set_caps(cluster, f"client.{secrets['userID']}", controller_caps(pool))
    time.sleep(PATIENCE)
    live(bed.controller, bed.node, bed.view, Class({}, provisioner=secrets), "later")


# Locks an image, and dies with the lock.
_LOCKS = """
import os, signal, sys
import rados, rbd
conf, keyring, pool, image_id = sys.argv[1:]
with (
    rados.Rados(name="client.admin", conffile=conf, conf={"keyring": keyring}) as client,
    client.open_ioctx(pool) as ioctx,
    rbd.Image(ioctx, image_id=image_id) as image,
):
    image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
    (watcher,) = image.watchers_list()
    print(watcher["addr"], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_missing_right_to_break_a_dead_client_s_lock_is_named_before_the_image_is_mapped(
    cluster: Cluster,
    home: tuple[Bed, Installation],
    pool: str,
    make_user: MakeUser,
) -> None:
    bed, _ = home
    may_not_fence = make_user({**node_caps(pool), "mon": "allow r"})
    made = volume.create(bed.controller, "locked")
    volume.attach(bed.controller, made, "node-a")
    arguments = (str(cluster.conf), str(cluster.keyring), pool, bed.view.image_id(made))
    program = subprocess.run(
        [sys.executable, "-c", _LOCKS, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    address = program.stdout.strip()
    cluster.ceph("osd", "blocklist", "add", address)  # ends its watch at once
    commands.wait_until(lambda: not bed.view.watchers(made), "the dead client is no watcher")
    cluster.ceph("osd", "blocklist", "rm", address)
    try:
        with refused("PERMISSION_DENIED", address, "which is gone", "profile rbd"):
            volume.stage(bed.node, made, secrets=may_not_fence)
        assert not bed.view.watchers(made)
        volume.stage(bed.node, made)  # by the configured user, who may
        volume.unstage(bed.node, made)
    finally:
        volume.detach(bed.controller, made, "node-a")
        volume.delete(bed.controller, made)
        cluster.ceph("osd", "blocklist", "rm", address)
    bed.view.wait_until_gone(bed.view.image_id(made))
