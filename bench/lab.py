"""A Ceph of its own, the driver at work on it, and the connection that floors share."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import rados

from e2e import driver
from e2e.clusters.cluster import Cluster
from e2e.clusters.local import LocalCluster
from e2e.driver import Driver
from rbdcsi.model import image_layout
from rbdcsi.model.image_layout import mask

MIB = 1 << 20

Store = Literal["bluestore", "memstore"]  # of the OSD; the second takes the disk's noise away

FEATURES = mask(image_layout.DEFAULT)  # floors make images as the driver does
# Each benchmark has one; the driver's users may use these and no others.
_POOLS = tuple(f"bench-{number}" for number in range(20))
_QUIET = ("--log-level", "info")  # as in production


@dataclass(frozen=True)
class Lab:
    """What every benchmark works with."""

    cluster: Cluster
    controller: Driver
    nodes: tuple[Driver, Driver]
    admin: rados.Rados
    directory: Path
    scale: float  # of the number of rounds; 1 is a full run
    mapper: str = "fuse"
    unused_pools: Iterator[str] = field(default_factory=lambda: iter(_POOLS))

    def rounds(self, full: int) -> int:
        """Return how many rounds to do where a full run does `full`."""
        return max(2, round(full * self.scale))

    @contextlib.contextmanager
    def pool(self) -> Iterator[tuple[str, rados.Ioctx]]:
        """Give a new pool and the floor's way into it; its end takes everything in it along."""
        name = next(self.unused_pools)
        self.cluster.create_pool(name)
        self.admin.wait_for_latest_osdmap()
        try:
            with self.admin.open_ioctx(name) as ioctx:
                yield name, ioctx
        finally:
            self.cluster.delete_pool(name)


def data_objects(ioctx: rados.Ioctx) -> list[str]:
    """Return the names of all objects that hold images' data."""
    return [found.key for found in ioctx.list_objects() if found.key.startswith("rbd_data.")]


def timed(call: Callable[[], object]) -> float:
    """Return how many seconds the call took."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


@contextlib.contextmanager
def start(scale: float, store: Store) -> Iterator[Lab]:
    """Start Ceph, a controller and two nodes; all ends with the body."""
    with LocalCluster(backend=store) as cluster, at_work(cluster, scale) as lab:
        yield lab


@contextlib.contextmanager
def at_work(cluster: Cluster, scale: float, mapper: str = "fuse") -> Iterator[Lab]:
    """Start a controller and two nodes on a Ceph that runs; they end with the body."""
    with contextlib.ExitStack() as undo:
        cluster.create_pool("home")
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        installation = undo.enter_context(
            driver.installed(cluster, directory, "home", further_pools=_POOLS)
        )
        controller = installation.controller("controller", *_QUIET).start()
        first, second = (
            installation.node(name, "--mapper", mapper, *_QUIET).start() for name in ("a", "b")
        )
        connection = undo.enter_context(cluster.connection())
        yield Lab(cluster, controller, (first, second), connection, directory, scale, mapper)
