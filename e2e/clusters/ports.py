"""Free ports that stay ours from the moment of the choice."""

import contextlib
import random
import socket
from collections.abc import Iterator

from rbdcsi import errors

# Below Linux's usual range for outgoing connections, so that none of them takes a chosen port.
CANDIDATES = range(20000, 32000, 2)


@contextlib.contextmanager
def claimed_pair(address: str) -> Iterator[int]:
    """Give the first of two neighbouring free ports of `address`, ours until the end of the body.

    The claim among clusters is an abstract unix socket named after the port: the kernel drops it
    with this process, whichever way that ends.

    Raises:
        Exhausted: all are taken.
    """
    for port in random.sample(CANDIDATES, len(CANDIDATES)):
        with contextlib.ExitStack() as claim:
            if _claim(port, claim) and _is_free(address, port) and _is_free(address, port + 1):
                yield port
                return
    raise errors.Exhausted(f"no two free ports of {address} in {CANDIDATES}")


def _claim(port: int, claim: contextlib.ExitStack) -> bool:
    mark = claim.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    try:
        mark.bind(f"\0rbdcsi-cluster-{port}")
    except OSError:
        return False
    return True


def _is_free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
