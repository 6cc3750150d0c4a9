"""A script for a child process: bind a source to a target, read-only from the start.

A bind mount that is made read-only after it was attached stays writable where it has been
propagated to: on the host, if the driver runs in a container. So this script sets the attribute
before it attaches the mount, by the newer system calls (Linux 5.12; their numbers are the same on
all architectures but alpha).

Arguments: the source's path, the target's descriptor. The exit code is the errno of the failure, 0
if there was none. The script imports nothing of the project.
"""

import ctypes
import os
import struct
import sys

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_CLONE = 1  # OPEN_TREE_CLONE
_FROM_AND_TO_BY_DESCRIPTOR = 0x04 | 0x40  # MOVE_MOUNT_{F,T}_EMPTY_PATH
_READONLY = struct.pack("=4Q", 1, 0, 0, 0)  # mount_attr: set MOUNT_ATTR_RDONLY, nothing else

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Bind the source to the target; return the errno."""
    source, target = os.fsencode(sys.argv[1]), int(sys.argv[2])
    try:
        tree = _call(_OPEN_TREE, _AT_FDCWD, source, _CLONE | os.O_CLOEXEC)
        _call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, _READONLY, len(_READONLY))
        _call(_MOVE_MOUNT, tree, b"", target, b"", _FROM_AND_TO_BY_DESCRIPTOR)
    except OSError as error:
        return error.errno or 1
    return 0


def _call(number: int, *arguments: int | bytes) -> int:
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *wide))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


if __name__ == "__main__":
    sys.exit(main())
