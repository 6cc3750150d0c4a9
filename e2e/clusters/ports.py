"""Free ports that stay ours from the moment of the choice."""

import contextlib
import random
import socket
from collections.abc import Iterator

from e2e import errors

# Below Linux's usual range for outgoing connections, so that none of them takes a chosen port.
CANDIDATES = range(20000, 32000, 2)


MESSENGER_2, MESSENGER_1 = 3300, 6789  # where a monitor is that is given without a port


@contextlib.contextmanager
def claimed_loopback() -> Iterator[str]:
    """Give an address of the loopback network whose default monitor ports are free and ours.

    Raises:
        Exhausted: many were tried, all are taken.
    """
    for number in random.sample(range(1 << 16), 100):
        address = f"127.{number >> 8}.{number & 255}.77"
        with contextlib.ExitStack() as claim:
            free = all(_is_free(address, port) for port in (MESSENGER_2, MESSENGER_1))
            if _claim(address, claim) and free:
                yield address
                return
    raise errors.Exhausted(f"no loopback address with free ports {MESSENGER_2} and {MESSENGER_1}")


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
            if _claim(str(port), claim) and _is_free(address, port) and _is_free(address, port + 1):
                yield port
                return
    raise errors.Exhausted(f"no two free ports of {address} in {CANDIDATES}")


def _claim(name: str, claim: contextlib.ExitStack) -> bool:
    mark = claim.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    try:
        mark.bind(f"\0rbdcsi-cluster-{name}")
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
