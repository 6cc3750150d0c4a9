"""The cluster that all other integration tests stand on."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rados
import rbd

from e2e import errors, leftovers, processes
from e2e.clusters import Cluster, commands, controller_caps, local
from e2e.clusters.cluster import BOUNDED
from tests import faults

pytestmark = [pytest.mark.usefixtures("nothing_left")]

SIZE = 8 << 20
WATCHER = """
import rados, sys
conf, user, keyring, pool = sys.argv[1:]
with rados.Rados(name=user, conffile=conf, conf={"keyring": keyring}) as connection:
    with connection.open_ioctx(pool) as ioctx:
        ioctx.stat("watched")
        print("connected", flush=True)
        sys.stdin.readline()
        ioctx.watch("watched", lambda *_: "", lambda *_: None, timeout=2)
"""
OWNER = """
import signal, sys, time
from pathlib import Path
from e2e.clusters import local
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what runs in the background
with local.LocalCluster(Path(sys.argv[1])) as cluster:
    print(*cluster.pids.values(), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def image(admin: rados.Rados, pool: str) -> Iterator[rbd.Image]:
    with admin.open_ioctx(pool) as ioctx:
        rbd.RBD().create(ioctx, "image", SIZE)
        try:
            with rbd.Image(ioctx, "image") as image:
                yield image
        finally:
            rbd.RBD().remove(ioctx, "image")


def _write_and_read(image: rbd.Image) -> None:
    image.write(b"x" * 4096, 0)
    image.flush()
    assert image.read(0, 4096) == b"x" * 4096


def test_all_three_daemons_run_and_clients_find_them(cluster: Cluster, admin: rados.Rados) -> None:
    assert cluster.pid("mon")
    assert set(cluster.pids) == {"mon", "mgr", "osd"}
    assert admin.get_fsid() == cluster.fsid == cluster.ceph("fsid")["fsid"]


def test_monitor_address_alone_is_enough_for_a_client(cluster: Cluster) -> None:
    conf = {"mon_host": cluster.monitors, "keyring": str(cluster.keyring), **BOUNDED}
    with rados.Rados(name="client.admin", conf=conf) as connection:
        assert connection.get_fsid() == cluster.fsid


def test_image_in_a_fresh_pool_keeps_what_was_written(
    cluster: Cluster, pool: str, image: rbd.Image
) -> None:
    cluster.wait_until_active(pool)
    _write_and_read(image)


def test_erasure_coded_pool_takes_the_data_of_an_image(
    cluster: Cluster, admin: rados.Rados, pool: str
) -> None:
    cluster.create_pool(f"{pool}-data", erasure=True)
    try:
        with admin.open_ioctx(pool) as ioctx:
            rbd.RBD().create(ioctx, "coded", SIZE, data_pool=f"{pool}-data")
            with rbd.Image(ioctx, "coded") as image:
                _write_and_read(image)
            rbd.RBD().remove(ioctx, "coded")
    finally:
        cluster.delete_pool(f"{pool}-data")


def test_driver_user_reaches_its_own_pool_and_no_other(cluster: Cluster, pool: str) -> None:
    key = cluster.create_user("limited", controller_caps(pool))
    cluster.create_pool(f"{pool}-other")
    try:
        conf = {**BOUNDED, "key": key.reveal()}
        with rados.Rados(
            name="client.limited", conffile=str(cluster.conf), conf=conf
        ) as connection:
            with connection.open_ioctx(pool) as ioctx:
                assert rbd.RBD().list(ioctx) == []
            with (
                connection.open_ioctx(f"{pool}-other") as ioctx,
                pytest.raises(rbd.PermissionError),
            ):
                rbd.RBD().create(ioctx, "foreign", SIZE)
    finally:
        cluster.delete_pool(f"{pool}-other")
        cluster.ceph("auth", "rm", "client.limited")


def test_frozen_osd_gives_a_bounded_error_and_works_again_when_thawed(
    cluster: Cluster, pool: str
) -> None:
    with (
        cluster.connection(rados_osd_op_timeout="2") as connection,
        connection.open_ioctx(pool) as ioctx,
    ):
        with faults.frozen_osd(cluster), pytest.raises(rados.TimedOut):
            ioctx.write_full("object", b"frozen")
        ioctx.write_full("object", b"thawed")
        assert ioctx.read("object") == b"thawed"


def test_watch_of_a_client_that_died_while_it_was_made_ends(
    cluster: Cluster, admin: rados.Rados, pool: str
) -> None:
    with admin.open_ioctx(pool) as ioctx:
        ioctx.write_full("watched", b"")
    user = [str(cluster.conf), f"client.{cluster.user}", str(cluster.keyring), pool]
    for _ in range(6):  # Ceph 16 forgets about every third watch
        with subprocess.Popen(
            [sys.executable, "-c", WATCHER, *user], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as client:
            assert client.stdin
            assert client.stdout
            client.stdout.readline()
            with faults.frozen_osd(cluster):
                client.stdin.write(b"\n")
                client.stdin.flush()
                time.sleep(0.2)  # for the request to reach the socket of the OSD
                client.kill()
                client.wait()

    def ended() -> bool:
        return not cluster.rados("--pool", pool, "listwatchers", "watched")

    commands.wait_until(ended, "Ceph drops the watches of the dead clients")


def test_frozen_monitor_gives_a_bounded_error_and_works_again_when_thawed(
    cluster: Cluster,
) -> None:
    with faults.frozen_mon(cluster), pytest.raises(errors.DeadlineExceeded):
        cluster.ceph("fsid", timeout=2)
    assert cluster.ceph("fsid")


def test_stopped_osd_is_known_to_be_down_and_serves_again_when_started(
    cluster: Cluster, image: rbd.Image
) -> None:
    with faults.stopped_osd(cluster):
        assert cluster.ceph("osd", "stat")["num_up_osds"] == 0
        assert "osd" not in cluster.pids
    _write_and_read(image)


def test_killed_osd_serves_again_when_started(cluster: Cluster, image: rbd.Image) -> None:
    faults.kill9(cluster.pid("osd"))
    cluster.start_osd()
    _write_and_read(image)


def test_full_pool_refuses_writes_until_it_is_cleared(
    cluster: Cluster, admin: rados.Rados, pool: str
) -> None:
    with admin.open_ioctx(pool) as ioctx:
        ioctx.set_osdmap_full_try()  # an error at once; without it writes wait for room
        with faults.full(cluster, pool), pytest.raises(rados.OSError):
            ioctx.write_full("over-quota", b"too much")
        ioctx.write_full("over-quota", b"room again")


def test_full_cluster_refuses_writes_until_it_is_cleared(
    cluster: Cluster, admin: rados.Rados, pool: str
) -> None:
    with admin.open_ioctx(pool) as ioctx:
        ioctx.set_osdmap_full_try()  # an error at once; without it writes wait for room
        with faults.full(cluster), pytest.raises(rados.NoSpace):
            ioctx.write_full("over-full", b"too much")
        ioctx.write_full("over-full", b"room again")


def test_two_clusters_run_side_by_side_and_leave_nothing(cluster: Cluster, tmp_path: Path) -> None:
    with local.LocalCluster(tmp_path / "second", backend="memstore") as second:
        second.create_pool("pool")
        assert second.ceph("fsid")["fsid"] == second.fsid != cluster.fsid
        assert cluster.ceph("fsid")["fsid"] == cluster.fsid
    assert not second.directory.exists()


def test_directory_that_exists_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(FileExistsError), local.LocalCluster(tmp_path):
        pass
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_ended_owner_takes_its_daemons_and_directory_along(
    number: signal.Signals, tmp_path: Path
) -> None:
    directory = tmp_path / "c"
    command = [sys.executable, "-c", OWNER, str(directory)]
    with (
        processes.start(command, subprocess.PIPE, stderr=subprocess.DEVNULL) as owner,
        contextlib.ExitStack() as ending,
    ):
        ending.callback(owner.kill)
        assert owner.stdout
        daemons = {int(pid) for pid in owner.stdout.readline().split()}
        assert len(daemons) == 3
        owner.send_signal(number)
        owner.wait(60)

    def gone() -> bool:
        return not directory.exists() and not _living(daemons)

    commands.wait_until(gone, "daemons and directory are gone")


def _living(pids: set[int]) -> set[int]:
    return pids & {process.pid for process in processes.running()}


def test_owner_that_dies_while_the_cluster_starts_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    command = [sys.executable, "-c", OWNER, str(directory)]
    with (
        processes.start(command, subprocess.DEVNULL) as owner,
        contextlib.ExitStack() as ending,
    ):
        ending.callback(owner.kill)
        commands.wait_until((directory / "mon" / "store.db").exists, "the monitor is being made")
        family = {process.pid for process in processes.descendants(owner.pid)}

    def gone() -> bool:
        return not directory.exists() and not _living(family)

    commands.wait_until(gone, "daemons and directory are gone")


def test_leftovers_are_named(
    admin: rados.Rados, pool: str, tmp_path: Path, temporary: Path
) -> None:
    before = leftovers.on_host(tmp_path, temporary) + leftovers.in_ceph(admin)
    with (
        admin.open_ioctx(pool) as ioctx,
        processes.start(["sleep", "600"], subprocess.DEVNULL) as child,
        contextlib.ExitStack() as ending,
        rados.WriteOpCtx() as operation,
    ):
        ending.callback(child.kill)
        rbd.RBD().namespace_create(ioctx, "space")
        ioctx.set_namespace("space")
        rbd.RBD().create(ioctx, "forgotten", SIZE)
        ioctx.set_omap(operation, ["node-1"], [b"{}"])
        ioctx.operate_write_op(operation, "rbdcsi.attachments")
        commands.wait_until(
            lambda: "sleep 600" in {p.command for p in processes.descendants(os.getpid())},
            "the child runs its program",
        )
        after = leftovers.on_host(tmp_path, temporary) + leftovers.in_ceph(admin)
        rbd.RBD().remove(ioctx, "forgotten")
        ioctx.remove_object("rbdcsi.attachments")
        ioctx.set_namespace("")
        rbd.RBD().namespace_remove(ioctx, "space")
    assert leftovers.difference(before, after).splitlines() == [
        f"image {pool}/space/forgotten",
        f"key node-1 of object {pool}/space/rbdcsi.attachments",
        "process sleep 600",
    ]


def test_loop_device_counts_for_its_own_run_only_though_the_mount_of_its_file_has_gone(
    tmp_path: Path, temporary: Path
) -> None:
    with tempfile.TemporaryDirectory(dir=temporary) as name:
        file, mounted = Path(name) / "file", Path(name) / "mounted"
        file.write_bytes(bytes(1 << 20))
        mounted.touch()
        commands.run(["mount", "--bind", file, mounted])
        device = commands.run(["losetup", "--find", "--show", mounted]).strip()
        commands.run(["umount", "--lazy", mounted])
        try:
            assert Path(f"/sys/block/{Path(device).name}/loop/backing_file").read_text() == "/\n"
            own = leftovers.on_host(Path(name), Path(name))
            other = leftovers.on_host(tmp_path, tmp_path)
        finally:
            commands.run(["losetup", "--detach", device])
    (counted,) = (line for line in own if line.startswith(f"loop device {device} of {name}"))
    assert counted not in other
