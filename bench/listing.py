"""M8 and M10: ten thousand volumes, listed with their nodes, and what the controller then holds."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import rados
import rbd

from bench.lab import Lab, timed
from bench.metric import Comparison, Figure, Goal, Result, alternate
from e2e import processes, volume
from rbdcsi.api import csi_pb2
from rbdcsi.attachments import store

_VOLUMES = 10_000
_ATTACHED = 1_000
_CALLERS = 16

# The least that a controller is: gRPC serving on a socket, connected to Ceph.
_IDLE = """
import sys
from concurrent import futures
import grpc, rados
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_insecure_port("unix:" + sys.argv[1])
server.start()
cluster = rados.Rados(name="client.admin", conffile=sys.argv[2])
cluster.connect()
print("ready", flush=True)
sys.stdin.read()
"""


def measure(lab: Lab) -> list[Result]:
    """Make them by the driver, attach some, list all; the floor reads names and records."""
    count = lab.rounds(_VOLUMES)
    lab.controller.stop()
    lab.controller.start()  # its memory is to be that of these volumes, not of what came before
    with lab.pool() as (pool, ioctx):
        attached = _fill(lab, pool, count)
        rounds = alternate(
            lambda _: timed(lambda: _expect(_list(lab), count, attached)),
            lambda _: timed(lambda: _read(ioctx)),
            lab.rounds(5),
            warmups=1,
        )
        now, idle = resident(lab.controller.pid), _resident_when_idle(lab)
    slowest = max(max(each.driver) for each in rounds)
    return [
        Comparison("M8", f"ListVolumes, {count} volumes", "list2 and the records", rounds, Goal(2)),
        Figure("M8", f"the slowest listing of {count}", slowest, "s", Goal(3)),
        Figure("M10", f"controller's memory after {count} volumes", now, "MB", Goal(80)),
        Figure("M10", "of a bare process with grpc and rados", idle, "MB"),
        Figure("M10", "the one beside the other", now / idle, "x", Goal(1.5)),
    ]


def _fill(lab: Lab, pool: str, count: int) -> int:
    def make(number: int) -> None:
        made = volume.create(lab.controller, f"pvc-{number:06}", parameters={"pool": pool})
        if number % (_VOLUMES // _ATTACHED) == 0:
            volume.attach(lab.controller, made, lab.nodes[0].name)

    with ThreadPoolExecutor(_CALLERS) as threads:
        list(threads.map(make, range(count)))
    return len(range(0, count, _VOLUMES // _ATTACHED))


def _list(lab: Lab) -> Iterator[csi_pb2.ListVolumesResponse.Entry]:
    token = ""
    while True:
        page = lab.controller.controller.ListVolumes(
            csi_pb2.ListVolumesRequest(starting_token=token)
        )
        yield from page.entries
        token = page.next_token
        if not token:
            return


def _expect(
    entries: Iterator[csi_pb2.ListVolumesResponse.Entry], count: int, attached: int
) -> None:
    published = [len(entry.status.published_node_ids) for entry in entries]
    assert (len(published), sum(published)) == (count, attached), "the listing is not complete"


def _read(ioctx: rados.Ioctx) -> None:
    list(rbd.RBD().list2(ioctx))
    for name in store.object_names():
        with rados.ReadOpCtx() as operation:
            values, _ = ioctx.get_omap_vals(operation, "", "", 100_000)
            ioctx.operate_read_op(operation, name)
            for _ in values:
                pass


def resident(pid: int) -> float:
    """Return the resident memory in MB (10^6 bytes)."""
    status = Path(f"/proc/{pid}/status").read_text().split()
    return int(status[status.index("VmRSS:") + 1]) * 1024 / 1e6


def _resident_when_idle(lab: Lab) -> float:
    arguments = (str(lab.directory / "idle.sock"), str(lab.cluster.conf))
    program = (sys.executable, "-c", _IDLE, *arguments)
    with processes.start(program, subprocess.PIPE, stdin=subprocess.PIPE) as idle:
        assert idle.stdin
        assert idle.stdout
        idle.stdout.readline()
        memory = resident(idle.pid)
        idle.stdin.close()
    return memory
