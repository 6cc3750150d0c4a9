"""Why the next holder of a fenced client's data maps with a fresh client: Ceph's side of the claim.

An OSD learns of a blocklist entry late, so a late write may still land. Here that is forced: the
OSD gets everything from the monitor late. A client made after the entry was committed tags what it
does with an OSD map that has the entry, and the OSD waits for that map. So a late write can land
only where the fresh client has not looked yet, as if it had come before; with a client from before
the entry it lands behind that one's back.
"""

import contextlib
import errno
from collections.abc import Callable, Iterator

import pytest
import rados

from e2e.clusters import Cluster
from e2e.driver import CLUSTER_ID, Installation
from rbdcsi.ceph import blocklist
from rbdcsi.ceph.connection import Connection
from rbdcsi.config.clusters_file import load

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(240)]

ROUNDS = 20
LATE = {  # of the OSD: what the monitor sends is taken in up to a second late
    "ms_inject_delay_type": "mon",
    "ms_inject_delay_probability": "1",
    "ms_inject_delay_max": "1",
}
BLOCK = "block"
Client = Callable[[], contextlib.AbstractContextManager[tuple[rados.Rados, rados.Ioctx]]]


@pytest.fixture(scope="module")
def late_osd(cluster: Cluster) -> Iterator[None]:
    """Let the OSD learn late what the monitor knows."""
    for name, value in LATE.items():
        cluster.ceph("config", "set", "osd", name, value)
    cluster.stop_osd()  # the delay is of connections made after it was set
    cluster.start_osd()
    yield
    for name in LATE:
        cluster.ceph("config", "rm", "osd", name)
    cluster.stop_osd()
    cluster.start_osd()


@pytest.fixture
def fence(installation: Installation) -> Iterator[Callable[[rados.Rados], None]]:
    """Give the driver's way to put a client on the blocklist; the entries go after the test."""
    configured = load(installation.config).cluster(CLUSTER_ID)
    connection = Connection.open(configured, configured.credentials(), 20)
    fenced: list[str] = []

    def put(client: rados.Rados) -> None:
        fenced.append(client.get_addrs())
        blocklist.add(connection, fenced[-1], 300)

    yield put
    for address in fenced:
        blocklist.remove(connection, address)


@pytest.fixture
def client(cluster: Cluster, pool: str) -> Client:
    """Give a verb that makes a client with a connection of its own."""

    @contextlib.contextmanager
    def made() -> Iterator[tuple[rados.Rados, rados.Ioctx]]:
        with cluster.connection() as connection, connection.open_ioctx(pool) as ioctx:
            yield connection, ioctx

    return made


@pytest.mark.usefixtures("late_osd")
def test_no_late_write_lands_where_a_fresh_client_has_looked(
    client: Client, fence: Callable[[rados.Rados], None]
) -> None:
    landed = 0
    for number in range(ROUNDS):
        with client() as (connection, old):
            last = f"before {number}"
            assert _is_written(old, last)
            fence(connection)
            if _is_written(old, f"late {number}"):
                landed, last = landed + 1, f"late {number}"
            with client() as (_, new):
                assert new.read(BLOCK) == last.encode()
                for _ in range(10):
                    assert not _is_written(old, "too late")
                    assert new.read(BLOCK) == last.encode()
    assert landed, "the OSD was never late, so this shows nothing"


@pytest.mark.usefixtures("late_osd")
def test_a_late_write_lands_behind_the_back_of_a_client_from_before(
    client: Client, fence: Callable[[rados.Rados], None]
) -> None:
    """The limit: it is why no device is adopted from another attachment."""
    behind = 0
    for number in range(ROUNDS):
        with client() as (connection, old), client() as (_, adopted):
            assert _is_written(old, f"before {number}")
            assert adopted.read(BLOCK)
            fence(connection)
            seen = adopted.read(BLOCK)
            behind += _is_written(old, f"late {number}") and adopted.read(BLOCK) != seen
    assert behind


def _is_written(ioctx: rados.Ioctx, text: str) -> bool:
    """Write the block; return whether the client may still write.

    The client never asks the monitors for a newer map by itself, so it is the OSD that refuses.
    """
    try:
        ioctx.write_full(BLOCK, text.encode())
    except rados.OSError as error:
        if error.errno != errno.ESHUTDOWN:  # EBLOCKLISTED
            raise
        return False
    return True
