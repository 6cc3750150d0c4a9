"""qemu-storage-daemon: each daemon exports one mapped image as a file through FUSE.

The driver finds a daemon by its command line, which names the exported file, because a pid file
could be wrong after a crash. The daemon runs in a session of its own and outlives the driver. While
it starts, it does not have its command line yet; so it has a lock on its directory from the start.
"""

import json
import math
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.kernel import cgroup, memfd
from rbdcsi.host.mappers import daemons
from rbdcsi.host.mappers.interface import Access, Image
from rbdcsi.model import map_options
from rbdcsi.runtime import deadlines
from rbdcsi.runtime.readable import wait_until_readable

PROGRAM = "qemu-storage-daemon"
_PAUSE = 0.02  # seconds


def file_in(directory: Path) -> Path:
    """Return the file that the directory's daemon exports."""
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
        directory: the directory for the configuration, the control socket and the exported file.
        image: the image to export.
        access: monitors, user and key; the key goes through a file in memory and is on no disk.
        readonly: the export refuses writes (Ceph lists a watcher nevertheless, as for every image
            that qemu opens).
        options: settings of Ceph's configuration, `key=value`, comma separated.
        group: the control group that the daemon runs in; None is the caller's own.
        seconds: how long it may take. At the end of this time only the waiting parent is killed;
            the daemon, in a session of its own, may still appear, so call `stop`.

    Raises:
        InvalidRequest: a setting is not allowed.
        CommandFailed: the daemon failed, for one because the image does not exist; the error has
            the daemon's message.
        CommandTimedOut: Ceph does not answer.
    """
    (directory / "ceph.conf").write_text(_conf(access, options, seconds))
    file_in(directory).touch(0o600)
    with memfd.containing(access.secret) as key, daemons.lock(directory) as lock:
        argv = (PROGRAM, "--daemonize", *_arguments(directory, image, access, key, readonly))
        command.run(
            cgroup.command_in(group, argv),
            seconds=seconds,
            step=f"exporting {image}",
            pass_fds=(key, lock),
            outlives_plugin=True,
        )


def answers(directory: Path) -> bool:
    """Return whether the directory's daemon runs, which listens on its control socket.

    This is cheaper than `running`, which reads every process. A daemon that is still starting does
    not answer.
    """
    with socket.socket(socket.AF_UNIX) as control:
        control.setblocking(False)
        try:
            control.connect(str(directory / "qmp"))
        except BlockingIOError:  # it listens, but its queue of connections is full
            return True
        except OSError:
            return False
    return True


def running() -> dict[Path, int]:
    """Return the process ids of this host's daemons, by exported file."""
    return {file: pid for pid in daemons.pids() if (file := _exported_by(pid))}


def stop(directory: Path, *, force: bool, seconds: float) -> None:
    """End the directory's daemon after its outstanding writes; do nothing if there is no daemon.

    Args:
        directory: the directory that `start` was called with.
        force: kill the daemon, without waiting for Ceph.
        seconds: how long it may take.

    Raises:
        Busy: the daemon has not ended in time.
    """
    with deadlines.within(deadlines.remaining(seconds)):
        _end_running(directory, force, seconds)
        while daemons.is_locked(directory):  # its daemon was starting when the driver was killed
            time.sleep(deadlines.remaining(_PAUSE))
            _end_running(directory, force, seconds)


def _end_running(directory: Path, force: bool, seconds: float) -> None:
    file = file_in(directory)
    for pid in [pid for exported, pid in running().items() if exported == file]:
        with daemons.watched(pid) as pidfd:
            if pidfd is None or _exported_by(pid) != file:
                continue  # it has ended; the kernel may have reused its pid
            signal.pidfd_send_signal(pidfd, signal.SIGKILL if force else signal.SIGTERM)
            if not wait_until_readable(pidfd, deadlines.remaining(seconds)):
                raise errors.Busy(
                    f"{file}: {PROGRAM} {pid} must end, but still runs after {seconds:.0f} s, as "
                    "Ceph does not accept its last writes; repeat the call when Ceph works again"
                )


def resize(directory: Path, size: int, *, seconds: float) -> None:
    """Pass the image's size to the daemon, which by itself reads it only when it starts.

    Args:
        directory: the directory that `start` was called with.
        size: the image's size in bytes. It must be the size that Ceph reports: QMP's
            `block_resize` would resize the image to any other.
        seconds: how long it may take.

    Raises:
        Failed: the daemon refuses the size.
        Unavailable: the daemon does not answer.
    """
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(deadlines.remaining(seconds))
        try:
            control.connect(str(directory / "qmp"))
            with control.makefile("rw") as stream:
                stream.readline()  # QMP's greeting
                _ask(stream, "qmp_capabilities", {})
                _ask(stream, "block_resize", {"node-name": "image", "size": size})
        except OSError as error:
            raise errors.Unavailable(
                f"{directory}: {PROGRAM} does not answer on its control socket: {error}; repeat "
                "the call"
            ) from error


def _arguments(
    directory: Path, image: Image, access: Access, key: int, readonly: bool
) -> Iterator[str]:
    if access.key:
        secret = {"qom-type": "secret", "id": "key", "format": "base64", "file": memfd.path(key)}
        yield from ("--object", json.dumps(secret))
    blockdev = {
        "driver": "rbd",
        "node-name": "image",
        "pool": image.pool,
        "namespace": image.namespace,
        "image": image.image_name,
        "conf": str(directory / "ceph.conf"),
        "user": access.user,
        **({"key-secret": "key"} if access.key else {}),
        "read-only": readonly,
        "cache": {"direct": True},  # otherwise a killed daemon would lose cached writes
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


def _conf(access: Access, options: str, seconds: float) -> str:
    lines = ["[global]", *access.settings, f"client_mount_timeout = {math.ceil(seconds)}"]
    settings = (option.partition("=") for option in map_options.parse("fuse", options))
    return "\n".join((*lines, *(f"{name} = {value}" for name, _, value in settings), ""))


def _exported_by(pid: int) -> Path | None:
    """Return the file that the process exports if it is a daemon of this driver, otherwise None."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123  no Path for each
            line = os.fsdecode(file.read())
        if PROGRAM not in line:
            return None
        argv = line.split("\0")
        if Path(argv[0]).name == PROGRAM:
            return Path(json.loads(argv[argv.index("--export") + 1])["mountpoint"])
    except (OSError, ValueError, LookupError):  # it has ended, or is another program's daemon
        return None
    return None


def _ask(stream: TextIO, name: str, arguments: Mapping[str, object]) -> None:
    stream.write(json.dumps({"execute": name, "arguments": arguments}))
    stream.flush()
    for line in stream:  # the daemon may send events before the answer
        answer = json.loads(line)
        if "error" in answer:
            raise errors.Failed(f"{PROGRAM}: {name} failed: {answer['error']['desc']}")
        if "return" in answer:
            return
    raise errors.Unavailable(
        f"{PROGRAM}: closed its control connection before it answered {name}; repeat the call"
    )
