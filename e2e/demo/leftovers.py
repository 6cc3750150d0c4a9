"""What the demo may leave behind: counted when it went well, taken away whatever happened."""

import os
from collections.abc import Iterator
from pathlib import Path

from e2e.clusters import Cluster
from rbdcsi.host.fs import mountinfo, mounts
from rbdcsi.host.mappers import fuse, storage_daemon

_SECONDS = 30.0


def in_ceph(cluster: Cluster, pool: str) -> Iterator[str]:
    """Yield the pool's images, trash, and records of volumes."""
    for image in cluster.rbd("ls", pool).split():
        yield f"image {image}"
    for trashed in cluster.rbd("trash", "ls", pool).splitlines():
        yield f"trashed image {trashed}"
    for name in cluster.rados("-p", pool, "ls").split():
        if name.startswith(("rbdcsi.attachments.", "rbdcsi.node.")):
            for key in cluster.rados("-p", pool, "listomapkeys", name).split():
                yield f"key {key} of object {name}"


def on_host(directory: Path) -> Iterator[str]:
    """Yield mounts, loop devices and mappers' daemons below the directory."""
    for entry in mountinfo.parse(Path("/proc/self/mountinfo").read_text()):
        if entry.target.is_relative_to(directory):
            yield f"mount {entry.target} of {entry.source}"
    for note in Path("/sys/block").glob("loop*/loop/backing_file"):
        backing = Path(note.read_text().strip())
        if backing.is_relative_to(directory):
            yield f"loop device /dev/{note.parts[3]} of {backing}"
    for file, pid in storage_daemon.running().items():
        if file.is_relative_to(directory):
            yield f"process {pid}, {storage_daemon.PROGRAM} of {file}"


def processes() -> Iterator[str]:
    """Yield this process's children: with `orphans.adopt`, everything that was started."""
    _bury_the_dead()
    for note in Path("/proc/self/task").glob("*/children"):
        for pid in note.read_text().split():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            yield f"process {pid}, {words.decode(errors='replace')[:100]}"


def sweep(directory: Path) -> None:
    """Take away what nodes that do not run any more left below the directory; data is lost."""
    # The daemons go first, so that nothing waits for a Ceph that does not answer.
    for file in storage_daemon.running():
        if file.is_relative_to(directory):
            storage_daemon.stop(file.parent, force=True, seconds=_SECONDS)
    for kubelet in directory.glob("*/kubelet"):
        _sweep_node(kubelet, kubelet.with_name("state"))


def _sweep_node(kubelet: Path, state: Path) -> None:
    targets = mounts.Mounts(kubelet)
    for entry in reversed(targets.under(kubelet)):
        targets.unmount(entry.target, seconds=_SECONDS)
    mapper = fuse.Fuse(state / "fuse")
    for device in mapper.list():
        mapper.unmap(device, force=True, seconds=_SECONDS)


def _bury_the_dead() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
