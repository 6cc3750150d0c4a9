"""A watch and its end in a process of its own, because the bindings crash if it is done wrongly."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import rados

from e2e.clusters import Cluster
from rbdcsi.ceph import watch

_PROGRAM = """
import gc, sys
import rados
from rbdcsi.ceph.watch import Watch
conf, user, keyring, pool = sys.argv[1:]
client = rados.Rados(name=f"client.{user}", conffile=conf, conf={"keyring": keyring})
client.connect()
ioctx = client.open_ioctx(pool)
for name in ("closed", "forgotten"):
    made = Watch(name, lambda _message, name=name: name, lambda: None)
    made.itself = made  # a cycle, as one through its owner would be
    made.renew(ioctx)
    if name == "closed":
        made.close()
    del made
    gc.collect()
kept = Watch("kept", lambda _message: "kept", lambda: None)
kept.renew(ioctx)
print(client.get_addrs(), flush=True)
sys.stdin.readline()
kept.close()
del kept
gc.collect()
print("closed", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def watching(cluster: Cluster, pool: str) -> Iterator[subprocess.Popen[str]]:
    """Give the process of the program; after the body it must have ended in order."""
    arguments = (str(cluster.conf), cluster.user, str(cluster.keyring), pool)
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        yield process
        process.stdin.close()
        assert process.wait() == 0


def line_of(process: subprocess.Popen[str], answer: str = "") -> str:
    """Return the next line that the process prints, after it got this answer."""
    assert process.stdin
    assert process.stdout
    if answer:
        process.stdin.write(answer)
        process.stdin.flush()
    return process.stdout.readline().strip()


def answers(ioctx: rados.Ioctx) -> list[tuple[bytes, ...]]:
    replies = [watch.notify(ioctx, name, "") for name in ("closed", "forgotten", "kept")]
    assert not any(each.silent for each in replies)
    return [each.answers for each in replies]


def test_watch_lives_until_it_is_closed_or_the_process_ends(
    cluster: Cluster, admin: rados.Rados, pool: str
) -> None:
    with admin.open_ioctx(pool) as ioctx:
        with watching(cluster, pool) as process:
            assert line_of(process)
            assert answers(ioctx) == [(), (b"forgotten",), (b"kept",)]
            assert line_of(process, "\n") == "closed"
            assert answers(ioctx) == [(), (b"forgotten",), ()]
        assert answers(ioctx) == [(), (), ()]


def test_watch_of_a_client_that_was_blocklisted_can_be_closed(cluster: Cluster, pool: str) -> None:
    with watching(cluster, pool) as process:
        address = line_of(process)
        cluster.ceph("osd", "blocklist", "add", address)
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            assert "closed\n" in process.stdout  # after a line of the log
        finally:
            cluster.ceph("osd", "blocklist", "rm", address)
