"""A script of its own, run by path as a child: one write(2) of standard input to the file named.

Kernel files under /sys act on one whole write and may block, so it is not done in the server. The
exit code is the errno of the failure, 0 if there was none. It imports nothing of the project.

If a key is named behind the file, the first line of the input is its secret, and the rest is what
is written: it tells the kernel `key=NAME`, found in this process's keyring, and never shown again.
"""

import os
import sys

_ADD_KEY = {"x86_64": 248, "ppc64le": 269, "s390x": 278}  # <asm/unistd.h>; of the newer ones:
_ADD_KEY_ELSEWHERE = 217
_PROCESS_KEYRING = -2  # keyrings(7)


def main() -> int:
    """Write; return the errno."""
    file, *key = sys.argv[1:]
    text = sys.stdin.buffer.read()
    try:
        if key:
            text = _holding(key[0].encode(), *text.split(b"\n", 1))
        os.write(os.open(file, os.O_WRONLY), text)
    except OSError as error:
        return error.errno or 1
    return 0


def _holding(name: bytes, secret: bytes, text: bytes) -> bytes:
    """Put the key into the keyring; where there is none, give the secret itself, as `rbd` does."""
    import base64
    import ctypes

    payload = base64.b64decode(secret)
    call = ctypes.c_long(_ADD_KEY.get(os.uname().machine, _ADD_KEY_ELSEWHERE))
    libc = ctypes.CDLL(None)
    size, keyring = ctypes.c_size_t(len(payload)), ctypes.c_long(_PROCESS_KEYRING)
    if libc.syscall(call, b"ceph", name, payload, size, keyring) > 0:
        return text
    return text.replace(b"key=" + name, b"secret=" + secret, 1)


if __name__ == "__main__":
    sys.exit(main())
