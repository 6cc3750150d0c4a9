"""What a test or the demo may leave behind, noted before and after: in Ceph and on this host.

Each thing is one line of words, so that a difference reads as a sentence. Only what is the run's
own counts: processes that descend from it, and mounts, loop devices and files below its
directories. So two runs on one machine do not see each other.
"""

import contextlib
import fcntl
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from datetime import UTC, datetime, timedelta
from pathlib import Path

import rados
import rbd

from e2e import processes
from e2e.clusters import Cluster
from rbdcsi.host.mappers import storage_daemon

PREFIX = "rbdcsi."  # of the driver's own objects
# A location stays prepared and known, a node registered, with the locations of its volumes.
LASTING = re.compile(r"rbdcsi\.(locations?|nodes|node\..*)")

_OF_LOCKS = timedelta(hours=2)  # entries that end sooner are not the driver's

LOOP_GET_STATUS64 = 0x4C05  # linux/loop.h, and `struct loop_info64`
LOOP_INFO_BYTES = 232
LOOP_FILE_NAME = slice(56, 120)
LOOP_NAME_BYTES = 63


def on_host(root: Path, temporary: Path | None = None) -> Counter[str]:
    """Note processes of this run, and mounts, loop devices and files below its directories.

    Args:
        root: all of the run's own directories lie below it.
        temporary: a further one, in which files count, too.
    """
    roots = (root, temporary) if temporary else (root,)
    files = _files(temporary) if temporary else ()
    return Counter([*_processes(), *_mounts(roots), *_loop_devices(roots), *files])


def in_ceph(connection: rados.Rados, cluster: Cluster | None = None) -> Counter[str]:
    """Note pools, images, trash and the driver's keys in every namespace, and the blocklist.

    Args:
        connection: to the cluster.
        cluster: of one that others use, too, only the run's own pools count.
    """
    connection.wait_for_latest_osdmap()  # the client's own may not know the newest pools
    if cluster and not cluster.ours:
        return Counter(_pools(connection, cluster.pools | {cluster.pool or ""}))
    return Counter([*_blocklist(connection), *_pools(connection, set(connection.list_pools()))])


def at_node(directory: Path) -> list[str]:
    """Return in words what staging and publishing left at a node of this machine.

    Args:
        directory: the node's, with its mounts and its mappers' state (`Driver.directory`).
    """
    state, daemons = directory / "state", storage_daemon.running()
    return [
        *_mounts([directory]),
        *_loop_devices([directory]),
        *(f"daemon {pid} of {f}" for f, pid in daemons.items() if f.is_relative_to(directory)),
        *(f"file {path}/{name}" for path, _, names in os.walk(state) for name in names),
    ]


def difference(before: Counter[str], after: Counter[str]) -> str:
    """Return what is new, a line each; nothing new gives the empty text."""
    return "\n".join(sorted((after - before).elements()))


def _processes() -> Iterator[str]:
    for process in processes.descendants(os.getpid()):
        yield f"process {process.command}"


def _mounts(roots: Iterable[Path]) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")  # proc(5): optional fields end with a hyphen
        target = _unescaped(mount.split()[4])
        if any(Path(target).is_relative_to(root) for root in roots):
            yield f"mount {target} of {' '.join(source.split()[:2])}"


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), path)


def _loop_devices(roots: Iterable[Path]) -> Iterator[str]:
    for device, file in loop_devices(roots):
        yield f"loop device {device} of {file}"


def loop_devices(roots: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the loop devices over files below the directories, with the file's name."""
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # another run has just detached it
            device, file = Path("/dev") / entry.parts[3], entry.read_text().strip()
            if file == "/":  # the file's mount has gone, and the kernel has no name for it any more
                file = _name_at_attaching(device)
            if any(_is_below(root, file) for root in roots):
                yield device, file


def _name_at_attaching(device: Path) -> str:
    """Return the file's name that losetup noted, of which the kernel keeps the first 63 bytes."""
    status = bytearray(LOOP_INFO_BYTES)
    with device.open("rb") as opened:
        fcntl.ioctl(opened, LOOP_GET_STATUS64, status)
    return os.fsdecode(bytes(status[LOOP_FILE_NAME]).partition(b"\0")[0])


def _is_below(root: Path, file: str) -> bool:
    """Whether the file, of whose name the end may be missing, is below the directory."""
    return Path(file).is_relative_to(root) or (
        len(os.fsencode(file)) == LOOP_NAME_BYTES and str(root).startswith(file)
    )


def _files(temporary: Path) -> Iterator[str]:
    for path in temporary.iterdir():
        yield f"temporary file or directory {path}"


def _blocklist(connection: rados.Rados) -> Iterator[str]:
    # The driver's entries last a day. Those of librbd, when it takes a dead client's lock, an hour.
    for address, until in _blocklist_entries(connection):
        if datetime.fromisoformat(until) - datetime.now(UTC) > _OF_LOCKS:
            yield f"blocklist entry {address} until {until}"


def blocklisted(connection: rados.Rados) -> Iterator[str]:
    """Yield the addresses, and ranges of them, on the blocklist."""
    for address, _until in _blocklist_entries(connection):
        yield address


def _blocklist_entries(connection: rados.Rados) -> Iterator[tuple[str, str]]:
    """Yield each address or range with the time at which its entry ends."""
    command = json.dumps({"prefix": "osd blocklist ls", "format": "json"})
    code, output, words = connection.mon_command(command, b"", 20)
    assert code == 0, f"osd blocklist ls: {words}"
    # Ceph 16 and newer answer with two JSON lists in a row: clients, then ranges of addresses.
    for entry in json.loads(f"[{output.decode().replace('][', '],[')}]"):
        for listed in entry:
            yield str(listed.get("addr") or listed.get("range")), str(listed["until"])


def _pools(connection: rados.Rados, names: Set[str]) -> Iterator[str]:
    for pool in names & set(connection.list_pools()):
        with connection.open_ioctx(pool) as ioctx:
            if "rbd" in ioctx.application_list():
                yield f"pool {pool}"
                yield from _images(ioctx, pool)
                yield from _keys(ioctx, pool)


def _images(ioctx: rados.Ioctx, pool: str) -> Iterator[str]:
    bindings = rbd.RBD()
    for namespace in ["", *bindings.namespace_list(ioctx)]:
        ioctx.set_namespace(namespace)
        for name in bindings.list(ioctx):
            yield f"image {pool}/{namespace}/{name}"
        for trashed in bindings.trash_list(ioctx):
            yield f"trashed image {pool}/{namespace}/{trashed['name']} ({trashed['id']})"


def _keys(ioctx: rados.Ioctx, pool: str) -> Iterator[str]:
    ioctx.set_namespace(rados.LIBRADOS_ALL_NSPACES)
    names = [found for found in ioctx.list_objects() if found.key.startswith(PREFIX)]
    ours = [found for found in names if not LASTING.fullmatch(found.key)]
    for found in ours:
        ioctx.set_namespace(found.nspace)
        for key in _omap_keys(ioctx, found.key):
            yield f"key {key} of object {pool}/{found.nspace}/{found.key}"


def _omap_keys(ioctx: rados.Ioctx, name: str) -> Iterable[str]:
    with rados.ReadOpCtx() as operation:
        keys, _ = ioctx.get_omap_keys(operation, "", 100_000)
        ioctx.operate_read_op(operation, name)
        return [key for key, _ in keys]
