"""What a test may leave behind, noted before and after it: in Ceph and on this host.

Each thing is one line of words, so that a difference reads as a sentence. Mounts and loop devices
count when they lie below the run's own directories, so that two runs on one machine do not meet.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import rados
import rbd

from tests import processes

PREFIX = "rbdcsi."  # of the driver's own objects
LASTING = {"rbdcsi.location", "rbdcsi.nodes"}  # a place stays prepared, a node known


def on_host(root: Path, temporary: Path) -> Counter[str]:
    """Note processes of this run, and mounts, loop devices and files below its directories.

    Args:
        root: every directory of this run lies below it.
        temporary: where the run's temporary files go.
    """
    return Counter([*_processes(), *_mounts(root), *_loop_devices(root), *_files(temporary)])


def in_ceph(connection: rados.Rados) -> Counter[str]:
    """Note pools, images, trash and the driver's keys in every namespace, and the blocklist."""
    connection.wait_for_latest_osdmap()  # the client's own may not know the newest pools
    return Counter([*_blocklist(connection), *_pools(connection)])


def difference(before: Counter[str], after: Counter[str]) -> str:
    """Return what is new, a line each; nothing new gives the empty text."""
    return "\n".join(sorted((after - before).elements()))


def _processes() -> Iterator[str]:
    for process in processes.descendants(os.getpid()):
        yield f"process {process.command}"


def _mounts(root: Path) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")  # proc(5): optional fields end with a hyphen
        target = _unescaped(mount.split()[4])
        if Path(target).is_relative_to(root):
            yield f"mount {target} of {' '.join(source.split()[:2])}"


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), path)


def _loop_devices(root: Path) -> Iterator[str]:
    for note in Path("/sys/block").glob("loop*/loop/backing_file"):
        file = note.read_text().strip()
        if Path(file).is_relative_to(root) or file == "/":  # its file went with its file system
            yield f"loop device /dev/{note.parts[3]} of {file}"


def _files(temporary: Path) -> Iterator[str]:
    for path in temporary.iterdir():
        yield f"temporary file or directory {path}"


def _blocklist(connection: rados.Rados) -> Iterator[str]:
    for address in blocklisted(connection):
        yield f"blocklist entry {address}"


def blocklisted(connection: rados.Rados) -> Iterator[str]:
    """Yield the addresses, and ranges of them, on the blocklist."""
    command = json.dumps({"prefix": "osd blocklist ls", "format": "json"})
    code, output, words = connection.mon_command(command, b"", 20)
    assert code == 0, f"osd blocklist ls: {words}"
    # Ceph 16 and newer answer with two JSON lists in a row: clients, then ranges of addresses.
    for entry in json.loads(f"[{output.decode().replace('][', '],[')}]"):
        for listed in entry:
            yield str(listed.get("addr") or listed.get("range"))


def _pools(connection: rados.Rados) -> Iterator[str]:
    for pool in connection.list_pools():
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
    ours = [found for found in names if found.key not in LASTING]
    for found in ours:
        ioctx.set_namespace(found.nspace)
        for key in _omap_keys(ioctx, found.key):
            yield f"key {key} of object {pool}/{found.nspace}/{found.key}"


def _omap_keys(ioctx: rados.Ioctx, name: str) -> Iterable[str]:
    with rados.ReadOpCtx() as operation:
        keys, _ = ioctx.get_omap_keys(operation, "", 100_000)
        ioctx.operate_read_op(operation, name)
        return [key for key, _ in keys]
