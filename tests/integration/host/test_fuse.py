"""The fuse mapper against a real Ceph and a real kernel."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
import rados
import rbd

from e2e.clusters import Cluster, commands, node_caps
from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.block import devices, loop, signature
from rbdcsi.host.fs import mounts
from rbdcsi.host.mappers import interface, state_dir, storage_daemon
from rbdcsi.host.mappers.fuse import Fuse
from tests.integration.host.conftest import MIB, make

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 64 * MIB
SECONDS = 20.0


@pytest.fixture(scope="module")
def access(cluster: Cluster, pool: str) -> interface.Access:
    user = f"node-{pool}"
    return interface.Access(cluster.monitors, user, cluster.create_user(user, node_caps(pool)))


@pytest.fixture
def ioctx(admin: rados.Rados, pool: str) -> Iterator[rados.Ioctx]:
    with admin.open_ioctx(pool) as opened:
        yield opened


@pytest.fixture
def image(cluster: Cluster, ioctx: rados.Ioctx, pool: str) -> Iterator[interface.Image]:
    """A new image, removed after the test under whatever name it has then.

    A daemon that was killed leaves its watch for 30 s, which keeps an image from being removed; to
    blocklist the client ends it at once.
    """
    name = f"image-{uuid.uuid4().hex[:8]}"
    rbd.RBD().create(ioctx, name, SIZE)
    with rbd.Image(ioctx, name, read_only=True) as opened:
        made = interface.Image(cluster.fsid, ioctx.get_pool_id(), pool, "", opened.id(), name)
    yield made
    for entry in rbd.RBD().list2(ioctx):
        if entry["id"] == made.image_id:
            commands.wait_until(
                lambda name=entry["name"]: _is_removed(cluster, ioctx, name),  # type: ignore[misc]
                f"image {entry['name']} is removed",
                timeout=40,
            )


def _is_removed(cluster: Cluster, ioctx: rados.Ioctx, name: str) -> bool:
    """Try to remove the image; one that a dying daemon was just opening has a watcher later."""
    with rbd.Image(ioctx, name, read_only=True) as opened:
        watching = [watcher["addr"] for watcher in opened.watchers_list()]
    for address in watching:
        cluster.ceph("osd", "blocklist", "add", address)
    try:
        rbd.RBD().remove(ioctx, name)
    except rbd.ImageBusy:
        return False
    finally:
        for address in watching:
            cluster.ceph("osd", "blocklist", "rm", address)
    return True


@pytest.fixture
def fuse(directory: Path, image: interface.Image) -> Iterator[Fuse]:  # noqa: ARG001  it goes last
    """The mapper with a new state directory; whatever is mapped is unmapped before the image."""
    mapper = Fuse(directory / "fuse")
    yield mapper
    for device in mapper.list():
        mapper.unmap(device, force=device.fault is not None, seconds=SECONDS)


@pytest.fixture
def device(fuse: Fuse, image: interface.Image, access: interface.Access) -> interface.MappedDevice:
    return fuse.map(image, access, readonly=False, options="", seconds=SECONDS)


def test_host_supports_it(fuse: Fuse) -> None:
    assert fuse.unsupported() is None


def test_mapped_image_is_a_disk_of_its_size(
    device: interface.MappedDevice, image: interface.Image
) -> None:
    assert device.path.is_block_device()
    assert devices.size(device.path) == SIZE
    assert interface.same_image(device, image)
    assert device.fault is None
    assert signature.content(device.path, seconds=SECONDS) == signature.BlankContent()


def test_mapping_again_is_by_another_client(
    fuse: Fuse,
    device: interface.MappedDevice,
    image: interface.Image,
    access: interface.Access,
    ioctx: rados.Ioctx,
    directory: Path,
) -> None:
    before = _watchers(ioctx, image)
    again = fuse.map(image, access, readonly=False, options="", seconds=SECONDS)
    assert device.fault is again.fault is None
    assert len(_daemons(directory)) == len(_watchers(ioctx, image)) == 1
    assert _watchers(ioctx, image).isdisjoint(before)


def test_mapping_again_while_the_device_is_in_use_is_refused(
    fuse: Fuse, device: interface.MappedDevice, image: interface.Image, access: interface.Access
) -> None:
    with device.path.open("r+b", buffering=0) as opened:
        with pytest.raises(errors.Busy, match=f"pid {os.getpid()} "):
            fuse.map(image, access, readonly=False, options="", seconds=SECONDS)
        assert opened.write(b"still here") == 10


def test_device_in_use_is_discarded_and_its_user_gets_errors(
    fuse: Fuse,
    device: interface.MappedDevice,
    ioctx: rados.Ioctx,
    image: interface.Image,
    cluster: Cluster,
    directory: Path,
) -> None:
    (client,) = _watchers(ioctx, image)
    cluster.ceph("osd", "blocklist", "add", client)
    try:
        with device.path.open("r+b", buffering=0) as opened:
            fuse.discard(device, seconds=SECONDS)
            assert fuse.list() == ()
            assert _daemons(directory) == []
            with pytest.raises(OSError, match=r"Input/output|No such device|No space"):
                _write_through(opened, b"late")
        backing = Path("/sys/block") / device.path.name / "loop/backing_file"
        commands.wait_until(lambda: not backing.exists(), "the loop device is free")
    finally:
        cluster.ceph("osd", "blocklist", "rm", client)


def test_flushed_data_is_in_ceph_though_the_daemon_is_killed(
    device: interface.MappedDevice, image: interface.Image, ioctx: rados.Ioctx, directory: Path
) -> None:
    data = os.urandom(3 * MIB)
    _write(device.path, MIB, data)
    _kill_daemon(directory)

    with rbd.Image(ioctx, image.image_name, read_only=True) as opened:
        assert opened.read(MIB, len(data)) == data


def test_readonly_mapping_takes_no_writes(
    fuse: Fuse, image: interface.Image, access: interface.Access
) -> None:
    device = fuse.map(image, access, readonly=True, options="", seconds=SECONDS)

    assert device.readonly
    with pytest.raises(OSError, match=r"not permitted|Read-only"):
        _write(device.path, 0, b"x")


def test_discarded_blocks_are_given_back_to_ceph(
    device: interface.MappedDevice, image: interface.Image, ioctx: rados.Ioctx
) -> None:
    _write(device.path, 0, os.urandom(16 * MIB))
    assert _allocated(ioctx, image) >= 16 * MIB

    command.run(("blkdiscard", str(device.path)), seconds=SECONDS)

    assert _allocated(ioctx, image) == 0


def test_open_device_is_busy_names_the_user_and_goes_on_working(
    fuse: Fuse, device: interface.MappedDevice
) -> None:
    with device.path.open("r+b", buffering=0) as opened:
        with pytest.raises(errors.Busy, match=f"pid {os.getpid()} "):
            fuse.unmap(device, seconds=SECONDS)
        with pytest.raises(errors.Busy):
            fuse.unmap(device, force=True, seconds=SECONDS)
        assert opened.write(b"still here") == 10

    fuse.unmap(device, seconds=SECONDS)
    assert fuse.list() == ()


def test_mounted_device_is_busy_names_the_mount_and_goes_on_working(
    fuse: Fuse, device: interface.MappedDevice, directory: Path
) -> None:
    make(device.path, "ext4", (), seconds=SECONDS)
    with _mounted(device.path, directory) as target:
        with pytest.raises(errors.Busy, match=str(target)):
            fuse.unmap(device, seconds=SECONDS)
        (target / "data").write_text("still here")
        commands.sync(target)

    fuse.unmap(device, seconds=SECONDS)


def test_unmapped_image_keeps_what_was_written_and_unmapping_again_is_fine(
    fuse: Fuse, device: interface.MappedDevice, image: interface.Image, ioctx: rados.Ioctx
) -> None:
    with device.path.open("r+b") as opened:
        opened.write(b"not even flushed")

    fuse.unmap(device, seconds=SECONDS)
    fuse.unmap(device, seconds=SECONDS)

    with rbd.Image(ioctx, image.image_name) as again:
        assert again.read(0, 16) == b"not even flushed"
        assert len(list(again.watchers_list())) == 1  # this test's own


def test_device_is_found_after_a_restart_though_the_image_was_renamed(
    fuse: Fuse,
    device: interface.MappedDevice,
    image: interface.Image,
    ioctx: rados.Ioctx,
    directory: Path,
) -> None:
    rbd.RBD().rename(ioctx, image.image_name, "renamed")
    restarted = Fuse(directory / "fuse")

    assert restarted.list() == fuse.list() == (device,)


def test_device_outlives_a_driver_that_is_killed(
    fuse: Fuse, image: interface.Image, access: interface.Access, directory: Path
) -> None:
    assert _map_in_a_driver_that_is_killed(directory, image, access) == -signal.SIGKILL

    (device,) = fuse.list()
    assert device.fault is None
    _write(device.path, 0, b"goes on")


@pytest.mark.parametrize("milliseconds", range(1, 120, 9))
def test_driver_killed_at_any_moment_of_map_leaves_what_the_next_one_finishes(
    fuse: Fuse,
    image: interface.Image,
    access: interface.Access,
    directory: Path,
    milliseconds: int,
) -> None:
    _map_in_a_driver_that_is_killed(directory, image, access, after=milliseconds / 1000)

    device = fuse.map(image, access, readonly=False, options="", seconds=SECONDS)

    assert device.fault is None
    assert len(_daemons(directory)) == 1
    _write(device.path, 0, b"works")
    fuse.unmap(device, seconds=SECONDS)
    assert list((directory / "fuse").iterdir()) == []
    assert _daemons(directory) == []


def test_dead_daemon_is_told_and_the_image_can_be_mapped_anew(
    fuse: Fuse,
    device: interface.MappedDevice,
    image: interface.Image,
    access: interface.Access,
    directory: Path,
) -> None:
    _kill_daemon(directory)
    (found,) = fuse.list()
    assert found.path == device.path
    assert "has ended" in (found.fault or "")

    anew = fuse.map(image, access, readonly=False, options="", seconds=SECONDS)

    assert anew.fault is None
    _write(anew.path, 0, b"works")


def test_dead_daemon_of_a_mounted_device_is_busy_until_it_is_unmounted(
    fuse: Fuse, device: interface.MappedDevice, directory: Path
) -> None:
    make(device.path, "ext4", (), seconds=SECONDS)
    with _mounted(device.path, directory):
        _kill_daemon(directory)
        with pytest.raises(errors.Busy):
            fuse.unmap(device, force=True, seconds=SECONDS)

    fuse.unmap(device, force=True, seconds=SECONDS)
    assert fuse.list() == ()


@pytest.mark.parametrize("reached", ["directory", "record", "daemon", "dead daemon"])
def test_map_killed_half_way_is_finished_by_the_next_one(
    fuse: Fuse, image: interface.Image, access: interface.Access, directory: Path, reached: str
) -> None:
    _half_map(directory / "fuse", image, access, reached)
    if reached != "directory":
        assert [device.fault is None for device in fuse.list()] == [False]

    device = fuse.map(image, access, readonly=False, options="", seconds=SECONDS)

    assert device.fault is None
    assert len(_daemons(directory)) == 1


@pytest.mark.parametrize("reached", ["directory", "record", "daemon", "dead daemon"])
def test_map_killed_half_way_is_taken_away_by_unmap(
    fuse: Fuse, image: interface.Image, access: interface.Access, directory: Path, reached: str
) -> None:
    _half_map(directory / "fuse", image, access, reached)
    device = state_dir.Record(image, readonly=False).device("fuse", Path("/dev/none"), None)

    fuse.unmap(device, seconds=SECONDS)

    assert list((directory / "fuse").iterdir()) == []
    assert _daemons(directory) == []


def test_missing_image_is_an_error_and_leaves_nothing(
    fuse: Fuse, image: interface.Image, access: interface.Access, directory: Path
) -> None:
    missing = dataclasses.replace(image, image_id="none", image_name="missing")

    with pytest.raises(errors.Failed, match="missing"):
        fuse.map(missing, access, readonly=False, options="", seconds=SECONDS)

    assert list((directory / "fuse").iterdir()) == []


def test_monitor_that_does_not_answer_is_bounded_and_leaves_nothing(
    fuse: Fuse,
    image: interface.Image,
    access: interface.Access,
    directory: Path,
    cluster: Cluster,
) -> None:
    cluster.freeze_mon()
    try:
        with pytest.raises(errors.DeadlineExceeded):
            fuse.map(image, access, readonly=False, options="", seconds=2)
        assert _daemons(directory) == []
        assert list((directory / "fuse").iterdir()) == []
    finally:
        cluster.thaw_mon()

    assert fuse.map(image, access, readonly=False, options="", seconds=SECONDS).fault is None


def test_osd_that_does_not_answer_bounds_unmap_and_force_ends_it(
    fuse: Fuse, device: interface.MappedDevice, cluster: Cluster
) -> None:
    cluster.freeze_osd()
    try:
        with pytest.raises((errors.Busy, errors.DeadlineExceeded)):
            fuse.unmap(device, seconds=2)
        fuse.unmap(device, force=True, seconds=SECONDS)
    finally:
        cluster.thaw_osd()

    assert fuse.list() == ()


def test_fenced_client_gets_errors_and_is_unmapped_by_force(
    fuse: Fuse,
    device: interface.MappedDevice,
    image: interface.Image,
    ioctx: rados.Ioctx,
    cluster: Cluster,
) -> None:
    with rbd.Image(ioctx, image.image_name, read_only=True) as opened:
        (watcher,) = opened.watchers_list()
    cluster.ceph("osd", "blocklist", "add", watcher["addr"])
    try:
        with pytest.raises(OSError, match="Input/output"):
            _write(device.path, 0, b"late")
        fuse.unmap(device, force=True, seconds=SECONDS)
    finally:
        cluster.ceph("osd", "blocklist", "rm", watcher["addr"])

    assert fuse.list() == ()


def test_image_in_a_namespace_is_mapped(
    fuse: Fuse, image: interface.Image, access: interface.Access, ioctx: rados.Ioctx
) -> None:
    rbd.RBD().namespace_create(ioctx, "tenant")
    ioctx.set_namespace("tenant")
    rbd.RBD().create(ioctx, "inside", SIZE)
    with rbd.Image(ioctx, "inside", read_only=True) as opened:
        inside = dataclasses.replace(
            image, namespace="tenant", image_id=opened.id(), image_name="inside"
        )
    try:
        device = fuse.map(inside, access, readonly=False, options="", seconds=SECONDS)
        _write(device.path, 0, b"inside")
        with rbd.Image(ioctx, "inside", read_only=True) as opened:
            assert opened.read(0, 6) == b"inside"
        fuse.unmap(device, seconds=SECONDS)
    finally:
        rbd.RBD().remove(ioctx, "inside")
        ioctx.set_namespace("")
        rbd.RBD().namespace_remove(ioctx, "tenant")


def test_device_takes_the_images_new_size_while_it_is_mounted(
    fuse: Fuse,
    device: interface.MappedDevice,
    image: interface.Image,
    ioctx: rados.Ioctx,
    directory: Path,
) -> None:
    make(device.path, "ext4", (), seconds=SECONDS)
    with _mounted(device.path, directory):
        with rbd.Image(ioctx, image.image_name) as opened:
            opened.resize(2 * SIZE)
        fuse.update_size(device, 2 * SIZE, seconds=SECONDS)
        fuse.update_size(device, 2 * SIZE, seconds=SECONDS)
        assert devices.size(device.path) == 2 * SIZE

    with rbd.Image(ioctx, image.image_name, read_only=True) as opened:
        assert opened.size() == 2 * SIZE


def test_smaller_size_is_refused_and_the_image_keeps_its_own(
    fuse: Fuse, device: interface.MappedDevice, image: interface.Image, ioctx: rados.Ioctx
) -> None:
    with pytest.raises(errors.Refused, match="cut"):
        fuse.update_size(device, SIZE // 2, seconds=SECONDS)

    with rbd.Image(ioctx, image.image_name, read_only=True) as opened:
        assert opened.size() == SIZE


def test_key_is_on_no_command_line_and_in_no_file(
    device: interface.MappedDevice, access: interface.Access, directory: Path
) -> None:
    assert device.fault is None
    key = access.secret.encode()
    lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if _readable(p)]
    kept = [p.read_bytes() for p in directory.rglob("*") if p.is_file() and p.name != "image"]

    assert not any(key in text for text in (*lines, *kept))


@pytest.mark.parametrize(
    "options", ["queue_depth=64", "keyring=/etc/shadow", "rbd_cache", "x\ny=z"]
)
def test_options_that_are_no_setting_of_librbd_are_refused(
    fuse: Fuse, image: interface.Image, access: interface.Access, directory: Path, options: str
) -> None:
    with pytest.raises(errors.InvalidRequest):
        fuse.map(image, access, readonly=False, options=options, seconds=SECONDS)

    assert list((directory / "fuse").iterdir()) == []


def _map_in_a_driver_that_is_killed(
    directory: Path, image: interface.Image, access: interface.Access, after: float | None = None
) -> int:
    """Map in another program that kills itself, `after` seconds from the start of `map` or last."""
    alarm = f"signal.setitimer(signal.ITIMER_REAL, {after}); " if after else ""
    script = (
        "import os, signal, sys, pathlib; from rbdcsi.host.mappers import interface; "
        "from rbdcsi.host.mappers import fuse; from rbdcsi.config.secret import Secret; "
        "image = interface.Image(sys.argv[2], int(sys.argv[3]), *sys.argv[4:8], int(sys.argv[8])); "
        "access = interface.Access(sys.argv[9], sys.argv[10], Secret(sys.stdin.read())); "
        "mapper = fuse.Fuse(pathlib.Path(sys.argv[1])); "
        f"{alarm}mapper.map(image, access, readonly=False, options='', seconds=20); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    fields = [str(field) for field in dataclasses.astuple(image)]
    argv = (sys.executable, "-c", script, str(directory / "fuse"), *fields)
    key = access.secret.encode()
    program = (*argv, access.monitors, access.user)
    return subprocess.run(program, input=key, check=False, timeout=60).returncode


def _half_map(state: Path, image: interface.Image, access: interface.Access, reached: str) -> None:
    """Do what `map` does up to a point, as a driver that is killed there leaves it."""
    kept = state_dir.StateDirectories(state)
    if reached == "directory":
        kept.directory(image).mkdir()
        return
    directory = kept.create(state_dir.Record(image, readonly=False))
    if reached == "record":
        return
    storage_daemon.start(directory, image, access, readonly=False, options="", seconds=SECONDS)
    if reached == "dead daemon":
        loop.attach(storage_daemon.file_in(directory), readonly=False, seconds=SECONDS)
        _kill_daemon(directory)


def _write_through(opened: IO[bytes], data: bytes) -> None:
    opened.write(data)
    os.fsync(opened.fileno())


def _watchers(ioctx: rados.Ioctx, image: interface.Image) -> set[str]:
    with rbd.Image(ioctx, image.image_name, read_only=True) as opened:
        return {watcher["addr"] for watcher in opened.watchers_list()}


def _daemons(directory: Path) -> list[Path]:
    """Return the files that daemons of this test export; other tests' are none of its business."""
    return [file for file in storage_daemon.running() if file.is_relative_to(directory)]


def _kill_daemon(directory: Path) -> None:
    (file,) = _daemons(directory)
    storage_daemon.stop(file.parent, force=True, seconds=SECONDS)


def _write(device: Path, offset: int, data: bytes) -> None:
    with device.open("r+b", buffering=0) as opened:
        opened.seek(offset)
        opened.write(data)
        os.fsync(opened.fileno())


def _allocated(ioctx: rados.Ioctx, image: interface.Image) -> int:
    extents: list[int] = []
    with rbd.Image(ioctx, image.image_name, read_only=True) as opened:
        opened.diff_iterate(0, SIZE, None, lambda _o, n, exists: extents.append(n * exists))
    return sum(extents)


def _readable(file: Path) -> bool:
    with contextlib.suppress(OSError):
        file.read_bytes()
        return True
    return False


@contextlib.contextmanager
def _mounted(device: Path, directory: Path) -> Iterator[Path]:
    target = directory / "mounted"
    target.mkdir()
    work = mounts.Mounts(directory)
    work.mount(device, target, "ext4", (), seconds=SECONDS)
    try:
        yield target
    finally:
        work.unmount(target, seconds=SECONDS)
