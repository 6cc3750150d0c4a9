"""`python -m bench.scale`: what a call costs beside 1,000, 10,000 and 100,000 volumes.

Volumes, records and nodes are made directly in Ceph: of an image there are its entries in the
directory of its location, which is all that the measured calls read.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import rados
import rbd
from rich.console import Console
from rich.table import Table

from bench import report, scale_picture
from bench.lab import timed
from bench.listing import resident
from e2e import driver, processes, volume
from e2e.clusters.local import LocalCluster
from e2e.driver import Driver, Installation
from rbdcsi.api import csi_pb2
from rbdcsi.attachments import store
from rbdcsi.attachments.records import RECORD, Attachment, State, VolumeRecord
from rbdcsi.ceph import connections, locations, objects
from rbdcsi.config import clusters_file
from rbdcsi.model import capabilities, ids
from rbdcsi.nodes import presence, registry
from rbdcsi.runtime import clock
from rbdcsi.volumes.usage_metrics import Census

_ROOT = Path(__file__).parents[1]
_SIZES = (1_000, 10_000, 100_000)
_HERE = 100  # volumes in a location, and attachments of a node
_POOLS = 10
_SPREAD = 10  # locations in which a node has its volumes
_LIMIT = 200  # of a node's volumes
_PAGE = 500
_CALLS = 50
_BATCH = 1000  # keys in one write
_WRITERS = 8
_IDLE_TICKS = 10


@dataclass
class Row:
    """One kind of call: its cost beside so many volumes."""

    what: str
    unit: str
    costs: dict[int, float]


@click.command()
@click.option("--size", "sizes", type=int, multiple=True, default=_SIZES, help="Volumes.")
@click.option("--publish", is_flag=True, help="Put the figures into docs/reports/scale.md.")
def main(sizes: tuple[int, ...], publish: bool) -> None:
    """Measure each size on a Ceph of its own, and print a table."""
    processes.adopt()
    measured = {size: _measure(size) for size in sizes}
    first = next(iter(measured.values()))
    rows = [
        Row(what, unit, {size: values[what, unit] for size, values in measured.items()})
        for what, unit in first
    ]
    _show(rows)
    facts = report.environment("memstore")
    directory = _ROOT / "build/bench"
    directory.mkdir(parents=True, exist_ok=True)
    document = {"environment": facts, "rows": [vars(row) for row in rows]}
    (directory / "scale.json").write_text(json.dumps(document, indent=1))
    if publish:
        scale_picture.publish(rows, facts, _ROOT / "docs/reports/scale.md")


def _show(rows: Iterable[Row]) -> None:
    sizes = next(iter(rows)).costs
    table = Table("", "", *(f"{size:,}" for size in sizes))
    for row in rows:
        table.add_row(row.what, row.unit, *(f"{value:.3g}" for value in row.costs.values()))
    Console(width=140).print(table)


def _measure(size: int) -> dict[tuple[str, str], float]:
    costs: dict[tuple[str, str], float] = {}
    with LocalCluster(backend="memstore") as cluster, cluster.connection() as admin:
        pools = [f"pool-{number}" for number in range(_POOLS)]
        for name in ("home", *pools):
            cluster.create_pool(name)
        admin.wait_for_latest_osdmap()
        directory = cluster.directory / "b"
        directory.mkdir()
        with driver.installed(cluster, directory, "home", further_pools=pools) as installation:
            seconds = timed(lambda: _fill(admin, pools, size))
            Console().print(f"{size} volumes made in {seconds:.0f} s", style="dim")
            costs = dict(_costs(installation, size, pools[0]))
    return costs


# ---- what there is


def _fill(admin: rados.Rados, pools: list[str], size: int) -> None:
    """Make `size` volumes, a location for each 100 of them, and a node for each 100."""
    numbers = {name: int(admin.pool_lookup(name) or 0) for name in pools}
    homes: dict[str, dict[str, str]] = {}
    registered = {"searched": clock.now()}
    opened: list[rados.Ioctx] = []
    with admin.open_ioctx("home") as home, ThreadPoolExecutor(_WRITERS) as writers:
        writes: list[Future[None]] = []
        for at in range(size // _HERE):
            pool, namespace = pools[at % _POOLS], f"tenant-{at // _POOLS}"
            location = ids.LocationId(driver.CLUSTER_ID, numbers[pool], namespace)
            key = f"location/{locations.location_key(location)}"
            registered[key] = "1"
            ioctx = admin.open_ioctx(pool)
            opened.append(ioctx)
            rbd.RBD().namespace_create(ioctx, namespace)
            ioctx.set_namespace(namespace)
            nodes = [f"node-{at // _SPREAD * _SPREAD + each}" for each in range(_SPREAD)]
            for node in nodes:
                homes.setdefault(node, {})[key] = "1"
            writes.append(writers.submit(_fill_location, ioctx, at, nodes))
        _put(home, locations.REGISTRY, registered)
        for node, keys in homes.items():
            writes.append(writers.submit(_put, home, presence.object_name(node), keys))
        records = {node: registry.RECORD.encode(_node(node)) for node in homes}
        _put(home, "rbdcsi.nodes", records)
        for write in writes:
            write.result()
    for ioctx in opened:
        ioctx.close()


def _fill_location(ioctx: rados.Ioctx, at: int, nodes: list[str]) -> None:
    directory: dict[str, bytes] = {}
    shards: dict[str, dict[str, str]] = {}
    for each in range(_HERE):
        image_id, name = f"{at:06x}{each:06x}", f"csi-pvc-{at:06}-{each:03}"
        directory[f"name_{name}"] = objects.counted(image_id)
        directory[f"id_{image_id}"] = objects.counted(name)
        record = _record(nodes[each % len(nodes)])
        keys = {image_id: RECORD.encode(record), **store.listed_by(image_id, record)}
        shards.setdefault(store.object_name(image_id), {}).update(keys)
    _put(ioctx, objects.DIRECTORY, directory)
    _put(ioctx, locations.MARKER, {f"{locations.PREFIX}csi-": "1"})
    for name, keys in shards.items():
        _put(ioctx, name, keys)


def _record(node: str) -> VolumeRecord:
    attachment = Attachment(
        capabilities.AccessMode.SINGLE_NODE_WRITER,
        readonly=False,
        generation=1,
        state=State.ATTACHED,
        since=clock.now(),
        access_type=capabilities.AccessType.MOUNT,
    )
    return VolumeRecord(1, {node: attachment})


def _node(node: str) -> registry.NodeRecord:
    return registry.NodeRecord(
        node, ("192.0.2.1:0/1",), "boot", "0", clock.now(), _LIMIT, ("krbd",), machine_id="machine"
    )


def _put(ioctx: rados.Ioctx, name: str, pairs: Mapping[str, str | bytes]) -> None:
    items = list(pairs.items())
    for start in range(0, len(items), _BATCH):
        batch = items[start : start + _BATCH]
        values = tuple(v if isinstance(v, bytes) else v.encode() for _, v in batch)
        with rados.WriteOpCtx() as operation:
            operation.new(0)
            ioctx.set_omap(operation, tuple(key for key, _ in batch), values)
            ioctx.operate_write_op(operation, name)


# ---- what it costs


def _costs(
    installation: Installation, size: int, pool: str
) -> Iterator[tuple[tuple[str, str], float]]:
    controller = installation.controller("controller", "--log-level", "info")
    yield ("start-up to the first Probe", "ms"), 1000 * timed(lambda: _probe(controller.start()))
    _wait_until_idle(controller)  # its first looks at everything are over
    yield (
        ("CreateVolume", "ms"),
        _median(lambda n: volume.create(controller, f"new-{n}", parameters={"pool": pool})),
    )
    volumes = [
        volume.create(controller, f"new-{n}", parameters={"pool": pool}) for n in range(_CALLS)
    ]
    yield (
        ("attach, with a limit", "ms"),
        _median(lambda n: volume.attach(controller, volumes[n], "node-0")),
    )
    yield ("detach", "ms"), _median(lambda n: volume.detach(controller, volumes[n], "node-0"))
    yield ("DeleteVolume", "ms"), _median(lambda n: volume.delete(controller, volumes[n]))
    yield from _listing(controller, size)
    yield ("controller's memory after it", "MB"), resident(controller.pid)
    controller.stop()
    pooled = connections.Connections(clusters_file.load(installation.config), timeout=15)
    census = Census(driver.CLUSTER_ID, pooled)
    yield ("census, each minute", "ms"), 1000 * timed(census.take)


def _listing(controller: Driver, size: int) -> Iterator[tuple[tuple[str, str], float]]:
    for most, what in ((_PAGE, f"a page of {_PAGE}"), (0, "the largest pages, for each 500")):
        seconds, entries = [], 0
        token = ""
        while True:
            request = csi_pb2.ListVolumesRequest(max_entries=most, starting_token=token)
            begun = time.perf_counter()
            answer = controller.controller.ListVolumes(request)
            seconds.append(time.perf_counter() - begun)
            assert all(len(entry.status.published_node_ids) == 1 for entry in answer.entries)
            entries += len(answer.entries)
            token = answer.next_token
            if not token:
                break
        assert entries == size, f"{entries} of {size} volumes listed"
        cost = statistics.median(seconds) if most else sum(seconds) * _PAGE / size
        yield (f"ListVolumes with nodes, {what}", "ms"), cost * 1000


def _wait_until_idle(controller: Driver) -> None:
    """Return when the process has used less than a twentieth of a core for two seconds."""
    ticks = -math.inf
    while (now := _ticks(controller.pid)) - ticks > _IDLE_TICKS:
        ticks = now
        time.sleep(2)


def _ticks(pid: int) -> int:
    """Return the CPU time of a process in hundredths of a second: proc(5), utime and stime."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _probe(controller: Driver) -> None:
    controller.identity.Probe(csi_pb2.ProbeRequest())


def _median(call: Callable[[int], object]) -> float:
    def seconds(number: int) -> float:
        return timed(lambda: call(number))

    return 1000 * statistics.median(map(seconds, range(_CALLS)))


if __name__ == "__main__":
    main()
