"""qemu-storage-daemon: one for each mapped image, which shows it as a file through FUSE.

A daemon is found by its command line, which names the file that it exports: there is no pid file
that could lie after a crash. It runs in a session of its own and outlives the driver. One that is
only being started has no command line yet, so each holds a lock on its directory from the first.
"""

import contextlib
import fcntl
import json
import math
import os
import select
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.kernel import cgroup, memfd
from rbdcsi.host.mappers.interface import Access, Image
from rbdcsi.runtime import deadlines

PROGRAM = "qemu-storage-daemon"
_PAUSE = 0.02  # seconds


def file_in(directory: Path) -> Path:
    """Return the file that a daemon of that directory exports."""
    return directory / "image"


def start(
    directory: Path,
    image: Image,
    access: Access,
    *,
    readonly: bool,
    options: str,
    group: Path | None = None,
    seconds: float,
) -> None:
    """Start a daemon and return when it exports the image.

    Args:
        directory: where it keeps its configuration, its control socket and the exported file.
        image: the image.
        access: how to reach it; the key goes through an anonymous file and is on no disk.
        readonly: refuse writes (Ceph lists a watcher all the same: qemu opens every image so).
        options: settings of Ceph's configuration, `key=value`, comma separated.
        group: the control group that it runs in; None is the caller's own.
        seconds: how long it may take. Only the parent, which waits, is killed then; the daemon
            in its own session may still appear: `stop` it.

    Raises:
        InvalidRequest: a setting that is not rbd_* or rados_*.
        CommandFailed: in the daemon's words, a missing image too.
        CommandTimedOut: Ceph does not answer.
    """
    (directory / "ceph.conf").write_text(_conf(access.monitors, options, seconds))
    file_in(directory).touch(0o600)
    with memfd.holding(access.key.reveal()) as key, _lock(directory) as lock:
        argv = (PROGRAM, "--daemonize", *_arguments(directory, image, access.user, key, readonly))
        command.run(cgroup.inside(group, argv), seconds=seconds, pass_fds=(key, lock))


def answers(directory: Path) -> bool:
    """Tell whether the directory's daemon lives: somebody listens on its control socket.

    Cheaper than `running`, which looks at every process; one that has only begun does not answer.
    """
    with socket.socket(socket.AF_UNIX) as control:
        control.setblocking(False)
        try:
            control.connect(str(directory / "qmp"))
        except BlockingIOError:  # it listens, and does not come to accept
            return True
        except OSError:
            return False
    return True


def running() -> dict[Path, int]:
    """Return the daemons of this host: the exported file to the pid."""
    return {file: pid for pid in _pids() if (file := _exported_by(pid))}


def stop(directory: Path, *, force: bool, seconds: float) -> None:
    """End the directory's daemon when it has written what it holds; none is fine.

    Args:
        directory: as given to `start`.
        force: kill it, without waiting for Ceph.
        seconds: how long it may take.

    Raises:
        Busy: it has not ended in time.
    """
    with deadlines.within(deadlines.remaining(seconds)):
        _end_those_seen(directory, force, seconds)
        while _is_locked(directory):  # by one that a driver was starting when it was killed
            time.sleep(deadlines.remaining(_PAUSE))
            _end_those_seen(directory, force, seconds)


def _end_those_seen(directory: Path, force: bool, seconds: float) -> None:
    file = file_in(directory)
    for pid in [pid for exported, pid in running().items() if exported == file]:
        with _watched(pid) as pidfd:
            if pidfd is None or _exported_by(pid) != file:
                continue  # ended; the number may be another program's by now
            signal.pidfd_send_signal(pidfd, signal.SIGKILL if force else signal.SIGTERM)
            if not select.select([pidfd], [], [], deadlines.remaining(seconds))[0]:
                raise errors.Busy(
                    f"{file}: {PROGRAM} {pid} was told to end and has not after {seconds:.0f} s; "
                    "Ceph does not take its last writes, repeat the call when it is back"
                )


def resize(directory: Path, size: int, *, seconds: float) -> None:
    """Tell the daemon the image's size, which by itself it reads only at its start.

    QMP's `block_resize` would resize the image if Ceph had another size, so `size` must be Ceph's.
    """
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(deadlines.remaining(seconds))
        try:
            control.connect(str(directory / "qmp"))
            with control.makefile("rw") as stream:
                stream.readline()  # the greeting
                _ask(stream, "qmp_capabilities", {})
                _ask(stream, "block_resize", {"node-name": "image", "size": size})
        except OSError as error:
            raise errors.Unavailable(f"{directory}: {PROGRAM} does not answer: {error}") from error


def _arguments(directory: Path, image: Image, user: str, key: int, readonly: bool) -> Iterator[str]:
    secret = {"qom-type": "secret", "id": "key", "format": "base64", "file": memfd.path(key)}
    yield from ("--object", json.dumps(secret))
    blockdev = {
        "driver": "rbd",
        "node-name": "image",
        "pool": image.pool,
        "namespace": image.namespace,
        "image": image.image_name,
        "conf": str(directory / "ceph.conf"),
        "user": user,
        "key-secret": "key",
        "read-only": readonly,
        "cache": {"direct": True},  # no cache that dies with the daemon
        "discard": "unmap",
    }
    yield from ("--blockdev", json.dumps(blockdev))
    yield from ("--chardev", f"socket,id=qmp,path={directory / 'qmp'},server=on,wait=off")
    yield from ("--monitor", "chardev=qmp")
    export = {
        "type": "fuse",
        "id": "image",
        "node-name": "image",
        "mountpoint": str(file_in(directory)),
        "writable": not readonly,
        "growable": False,
        "allow-other": "off",
    }
    yield from ("--export", json.dumps(export))


def _conf(monitors: str, options: str, seconds: float) -> str:
    lines = ["[global]", f"mon_host = {monitors}", f"client_mount_timeout = {math.ceil(seconds)}"]
    for option in filter(None, options.split(",")):
        setting, equals, value = option.partition("=")
        if not equals or not setting.startswith(("rbd_", "rados_")) or "\n" in option:
            raise errors.InvalidRequest(
                f"map option {option!r} of the fuse mapper: must be a Ceph setting, "
                "rbd_*=value or rados_*=value"
            )
        lines.append(f"{setting} = {value}")
    return "\n".join((*lines, ""))


def _pids() -> Iterator[int]:
    names = os.listdir("/proc")  # noqa: PTH208  hundreds, and no Path is wanted of any
    return (int(name) for name in names if name.isdecimal())


def _exported_by(pid: int) -> Path | None:
    """Return the file that the program exports, if it is one of our daemons."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123  hundreds at each call
            line = os.fsdecode(file.read())
        if PROGRAM not in line:
            return None
        argv = line.split("\0")
        if Path(argv[0]).name == PROGRAM:
            return Path(json.loads(argv[argv.index("--export") + 1])["mountpoint"])
    except (OSError, ValueError, LookupError):  # it ended, or is somebody else's daemon
        return None
    return None


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[int]:
    """Lock the directory by a descriptor for `pass_fds`, until the last who has it has ended."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)


def _is_locked(directory: Path) -> bool:
    try:
        with _lock(directory):
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[int | None]:
    """Give a descriptor of that very process, which is readable once it has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _ask(stream: TextIO, name: str, arguments: Mapping[str, object]) -> None:
    stream.write(json.dumps({"execute": name, "arguments": arguments}))
    stream.flush()
    for line in stream:  # events may come before the answer
        answer = json.loads(line)
        if "error" in answer:
            raise errors.Failed(f"{PROGRAM}: {name}: {answer['error']['desc']}")
        if "return" in answer:
            return
    raise errors.Unavailable(f"{PROGRAM}: {name}: it closed the connection")
