import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import processes
from e2e.clusters import commands
from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.block import devices, loop
from rbdcsi.host.fs import mounts, paths
from tests.integration.host.conftest import MIB, Disk, make

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def base(directory: Path, disk: Disk) -> Iterator[Path]:  # noqa: ARG001  disks outlive mounts
    """A kubelet directory with a staging and a publish target; unmounted after the test."""
    made = directory / "kubelet"
    for name in ("stage", "publish"):
        (made / name).mkdir(parents=True)
    (made / "device").touch()
    yield made
    work = mounts.Mounts(made)
    for entry in reversed(work.mounts_below(made / "publish") + work.mounts_below(made / "device")):
        work.unmount(entry.target, seconds=10)
    work.unmount(made / "stage", seconds=10)


@pytest.fixture
def device(disk: Disk) -> Path:
    made = disk(64 * MIB)
    make(made, "ext4", (), seconds=30)
    return made


@pytest.fixture
def work(base: Path) -> mounts.Mounts:
    return mounts.Mounts(base)


def test_mounted_device_is_seen_with_its_options(
    work: mounts.Mounts, base: Path, device: Path
) -> None:
    work.mount(device, base / "stage", "ext4", ("noatime", "errors=remount-ro"), seconds=10)

    entry = work.mount_at(base / "stage")
    assert entry
    assert (entry.source, entry.fs_type) == (str(device), "ext4")
    assert entry.major_minor == devices.number(device)
    assert "noatime" in entry.options


def test_plain_directory_and_missing_one_are_no_mount(work: mounts.Mounts, base: Path) -> None:
    assert work.mount_at(base / "stage") is None
    assert work.mount_at(base / "never") is None
    assert work.mount_at(base / "never/there") is None


def test_directory_inside_a_mount_is_no_mount(
    work: mounts.Mounts, base: Path, device: Path
) -> None:
    work.mount(device, base / "stage", "ext4", (), seconds=10)
    (base / "stage/below").mkdir()

    assert work.mount_at(base / "stage/below") is None


def test_unmounting_twice_is_fine(work: mounts.Mounts, base: Path, device: Path) -> None:
    work.mount(device, base / "stage", "ext4", (), seconds=10)

    work.unmount(base / "stage", seconds=10)
    work.unmount(base / "stage", seconds=10)
    work.unmount(base / "never", seconds=10)

    assert work.mount_at(base / "stage") is None


def test_stacked_mounts_of_one_target_are_all_taken_away(
    work: mounts.Mounts, base: Path, device: Path
) -> None:
    work.mount(device, base / "stage", "ext4", (), seconds=10)
    for _ in range(3):
        work.bind(base / "stage", base / "publish", readonly=False)
    assert len(work.mounts_below(base / "publish")) == 3

    work.unmount(base / "publish", seconds=10)

    assert work.mounts_below(base / "publish") == ()


def test_busy_mount_is_an_error_that_names_the_user_and_stays_mounted(
    work: mounts.Mounts, base: Path, device: Path
) -> None:
    work.mount(device, base / "stage", "ext4", (), seconds=10)
    with (base / "stage/open").open("w"):
        with pytest.raises(errors.Busy, match=f"pid {os.getpid()} .*{base}/stage/open"):
            work.unmount(base / "stage", seconds=10)
        assert work.mount_at(base / "stage")

    work.unmount(base / "stage", seconds=10)


def test_mount_in_another_namespace_keeps_the_device_busy_and_is_named(
    work: mounts.Mounts, base: Path, device: Path
) -> None:
    work.mount(device, base / "stage", "ext4", (), seconds=10)
    with _namespace_of_its_own() as pid:
        work.unmount(base / "stage", seconds=10)
        with pytest.raises(errors.Busy, match=f"{base}/stage in the namespace of pid {pid} "):
            devices.require_unused(device)

    devices.require_unused(device)


def test_bind_shows_the_directory_and_writes_go_through(
    work: mounts.Mounts, base: Path, device: Path
) -> None:
    work.mount(device, base / "stage", "ext4", (), seconds=10)
    work.bind(base / "stage", base / "publish", readonly=False)

    (base / "publish/written").write_text("text")

    assert (base / "stage/written").read_text() == "text"


def test_readonly_bind_refuses_writes_and_keeps_the_other_options(
    work: mounts.Mounts, base: Path, device: Path
) -> None:
    work.mount(device, base / "stage", "ext4", ("noexec", "nosuid", "noatime"), seconds=10)
    work.bind(base / "stage", base / "publish", readonly=True)

    with pytest.raises(OSError, match="Read-only"):
        (base / "publish/written").write_text("text")
    (base / "stage/written").write_text("text")
    entry = work.mount_at(base / "publish")
    assert entry
    assert entry.readonly
    assert {"noexec", "nosuid", "noatime"} <= set(entry.options)


def test_readonly_bind_is_readonly_wherever_it_is_propagated_to(
    work: mounts.Mounts, base: Path, device: Path, directory: Path
) -> None:
    """As from a container to its host: the other side of a shared mount is a peer."""
    work.mount(device, base / "stage", "ext4", (), seconds=10)
    with _peer_of(base / "publish", directory / "host") as host:
        (base / "publish/volume").mkdir()
        work.bind(base / "stage", base / "publish/volume", readonly=True)

        with pytest.raises(OSError, match="Read-only"):
            (host / "volume/written").write_text("text")
        work.unmount(base / "publish/volume", seconds=10)
        assert not (host / "volume").is_mount()


def test_readonly_bind_that_the_kernel_refuses_is_told_and_leaves_nothing(
    work: mounts.Mounts, base: Path, device: Path
) -> None:
    work.mount(device, base / "stage", "ext4", (), seconds=10)
    command.run(("mount", "--make-unbindable", str(base / "stage")), seconds=10)

    with pytest.raises(errors.Failed, match=f"{base}/publish: cannot be bound read-only: Invalid"):
        work.bind(base / "stage", base / "publish", readonly=True)

    assert work.mount_at(base / "publish") is None


def test_device_is_bound_to_a_file(work: mounts.Mounts, base: Path, device: Path) -> None:
    work.bind(device, base / "device", readonly=False)

    assert (base / "device").stat().st_rdev == device.stat().st_rdev
    assert work.mount_at(base / "device")


def test_bound_device_can_be_bound_on(work: mounts.Mounts, base: Path, device: Path) -> None:
    (base / "publish/device").touch()
    work.bind(device, base / "device", readonly=False)
    work.bind(base / "device", base / "publish/device", readonly=True)

    assert (base / "publish/device").stat().st_rdev == device.stat().st_rdev


def test_directory_cannot_be_bound_to_a_file(work: mounts.Mounts, base: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="must be a directory"):
        work.bind(base / "stage", base / "device", readonly=False)


def test_mount_does_not_follow_a_link(work: mounts.Mounts, base: Path, device: Path) -> None:
    (base / "link").symlink_to(base / "stage")

    with pytest.raises(errors.InvalidRequest):
        work.mount(device, base / "link", "ext4", (), seconds=10)

    assert work.mounts_below(base) == ()


def test_target_swapped_for_a_link_after_it_was_opened_gets_the_mount_where_it_was(
    work: mounts.Mounts, base: Path, device: Path
) -> None:
    outside = base.parent / "outside"
    outside.mkdir()
    with paths.open_target(base / "stage", base, "directory") as opened:
        (base / "stage").rename(base / "moved")
        (base / "stage").symlink_to(outside)
        argv = ("mount", "--no-canonicalize", "-t", "ext4", str(device), opened.proc)
        command.run(argv, seconds=10, pass_fds=(opened.fd,))

    try:
        assert work.mount_at(base / "moved")
        assert not outside.is_mount()
    finally:
        work.unmount(base / "moved", seconds=10)
        (base / "stage").unlink()
        (base / "stage").mkdir()


def test_base_that_is_a_link_works_the_same(base: Path, device: Path) -> None:
    alias = base.parent / "alias"
    alias.symlink_to(base)
    work = mounts.Mounts(alias)

    work.mount(device, alias / "stage", "ext4", (), seconds=10)
    assert work.mount_at(alias / "stage")
    work.unmount(alias / "stage", seconds=10)
    assert work.mount_at(alias / "stage") is None


def test_refusal_of_the_kernel_is_told_in_its_words(
    work: mounts.Mounts, base: Path, disk: Disk
) -> None:
    with pytest.raises(command.CommandFailed, match="wrong fs type"):
        work.mount(disk(MIB), base / "stage", "ext4", (), seconds=10)


def test_command_held_by_the_kernel_frees_the_thread_and_is_watched(
    work: mounts.Mounts, base: Path, device: Path
) -> None:
    work.mount(device, base / "stage", "ext4", (), seconds=10)
    with _frozen(base / "stage"):
        with pytest.raises(command.CommandStuck) as caught:
            command.run(("touch", str(base / "stage/never")), seconds=0.3)
        process = caught.value.child
        assert isinstance(process, subprocess.Popen)
        assert process.poll() is None
        assert f"child {process.pid}" in str(caught.value)
        assert command.run(("echo", "others go on"), seconds=5).text

    assert process.wait(timeout=10)


def test_device_that_is_open_is_busy_and_ends_when_it_is_closed(directory: Path) -> None:
    file = directory / "disk"
    file.write_bytes(bytes(MIB))
    device = loop.attach(file, readonly=False, seconds=10)
    with device.open("rb") as opened:
        assert not loop.is_ending(device)
        with pytest.raises(errors.Busy, match=f"pid {os.getpid()}"):
            loop.detach(device, file, seconds=10)
        assert loop.is_ending(device)
        assert loop.device_of_file(file) == device
        assert len(opened.read()) == MIB

    commands.wait_until(lambda: loop.device_of_file(file) is None, "it is detached")


@contextlib.contextmanager
def _frozen(target: Path) -> Iterator[None]:
    """Freeze the file system: whoever writes waits in the kernel and cannot be killed."""
    command.run(("fsfreeze", "--freeze", str(target)), seconds=10)
    try:
        yield
    finally:
        command.run(("fsfreeze", "--unfreeze", str(target)), seconds=10)


@contextlib.contextmanager
def _namespace_of_its_own() -> Iterator[int]:
    """Run a program in a mount namespace that keeps what is mounted now."""
    argv = ("unshare", "--mount", "--propagation=private", "sh", "-c", "echo ready; exec sleep 60")
    with processes.start(argv, subprocess.PIPE) as child:
        try:
            assert child.stdout
            assert child.stdout.readline() == b"ready\n"
            yield child.pid
        finally:
            child.kill()


@contextlib.contextmanager
def _peer_of(path: Path, peer: Path) -> Iterator[Path]:
    """Make the path a shared mount, and show the same at a second place, as at the host."""
    peer.mkdir()
    command.run(("mount", "--bind", str(path), str(path)), seconds=10)
    try:
        command.run(("mount", "--make-shared", str(path)), seconds=10)
        command.run(("mount", "--bind", str(path), str(peer)), seconds=10)
        try:
            yield peer
        finally:
            command.run(("umount", str(peer)), seconds=10)
    finally:
        command.run(("umount", str(path)), seconds=10)
