"""System calls that bind and unmount, for cases in which they wait for no disk.

They run in the caller's thread: a child for each would take longer than all the rest. They take
the namespace's lock of mounts, as each read of /proc/self/mountinfo does, and no filesystem's.

A bind mount that is made read-only after it was attached stays writable where it has been
propagated to: on the host, if the driver runs in a container. So it gets the attribute before it is
attached, by the newer system calls (their numbers are the same on all architectures but alpha).
"""

import ctypes
import os
import struct

_BIND = 4096  # MS_BIND
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # since Linux 5.2, 5.2, 5.12
_AT_EMPTY_PATH = 0x1000
_CLONE = 1  # OPEN_TREE_CLONE
_FROM_AND_TO_BY_DESCRIPTOR = 0x04 | 0x40  # MOVE_MOUNT_{F,T}_EMPTY_PATH
_READONLY = struct.pack("=4Q", 1, 0, 0, 0)  # mount_attr: set MOUNT_ATTR_RDONLY, nothing else
_NOFOLLOW = 8  # UMOUNT_NOFOLLOW

_libc = ctypes.CDLL(None, use_errno=True)


def bind(source: int, target: int) -> None:
    """Bind the source to the target.

    Args:
        source: a descriptor, O_PATH is enough.
        target: the same; both are directories or neither is.

    Raises:
        OSError: the kernel refuses.
    """
    paths = (f"/proc/self/fd/{fd}".encode() for fd in (source, target))
    if _libc.mount(*paths, None, ctypes.c_ulong(_BIND), None) < 0:
        raise _error()


def bind_readonly(source: int, target: int) -> None:
    """Bind the source to the target, and refuse writes through the new mount; see `bind`.

    Raises:
        OSError: the kernel refuses, or is older than Linux 5.12.
    """
    tree = _call(_OPEN_TREE, source, b"", _CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH)
    try:
        _call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, _READONLY, len(_READONLY))
        _call(_MOVE_MOUNT, tree, b"", target, b"", _FROM_AND_TO_BY_DESCRIPTOR)
    finally:
        os.close(tree)


def unmount(path: str) -> None:
    """Unmount the mount at the path, whose last component may be no link.

    The filesystem must be mounted elsewhere, too: the end of its last mount waits for its disk.

    Raises:
        OSError: the kernel refuses.
    """
    if _libc.umount2(os.fsencode(path), _NOFOLLOW) < 0:
        raise _error()


def _call(number: int, *arguments: int | bytes) -> int:
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *wide))
    if result < 0:
        raise _error()
    return result


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
