"""A real Ceph of one monitor, one manager and one OSD on this machine, for one test run.

Needs the daemons of Ceph 16 or newer (Debian: ceph-mon, ceph-mgr, ceph-osd) and nothing else:
no service, no /etc/ceph, no container. Several can run side by side.
"""

import contextlib
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Literal

from e2e.clusters import commands, ports, recipe
from e2e.clusters.cluster import Cluster
from e2e.clusters.daemons import ChildDaemons, SweptDirectory
from rbdcsi.ceph import monitor


class LocalCluster:
    """Starts the cluster on entry; ends it and removes its directory on exit.

    A killed process (kill -9 too) takes its cluster along: see `daemons`.
    """

    def __init__(
        self,
        directory: Path | None = None,
        backend: Literal["bluestore", "memstore"] = "bluestore",
        address: str = "127.0.0.1",
        *,
        like_microceph: bool = False,
        cephx: bool = True,
    ) -> None:
        """Choose where and how.

        Args:
            directory: must be new; None makes one where temporary files go. Keep it short: unix
                sockets live in it, and 108 bytes is their limit.
            backend: "bluestore" on a sparse file of 10 GB, or "memstore", which forgets.
            address: of the daemons; virtual machines need one that they can reach.
            like_microceph: as MicroCeph's bootstrap makes it: the monitor known by a bare address
                (one of the loopback network's own; `address` is not used), and 63 for
                rbd_default_features in the cluster's own configuration.
            cephx: whether daemons and clients must show that they have a key.
        """
        self._directory = directory
        self._backend = backend
        self._address = address
        self._like_microceph = like_microceph
        self._cephx = cephx
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Cluster:
        with contextlib.ExitStack() as undo:
            cluster = self._start(undo)
            self._undo = undo.pop_all()
        return cluster

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    def _start(self, undo: contextlib.ExitStack) -> Cluster:
        directory = undo.enter_context(SweptDirectory(self._new_directory()))
        plan = self._plan(directory, undo)
        plan.write()
        daemons = undo.enter_context(ChildDaemons(plan.conf, plan.logs))
        known_by = plan.address if plan.bare else f"{plan.address}:{plan.port}"
        cluster = Cluster(plan.fsid, known_by, plan.conf, plan.keyring, directory, daemons)
        _boot(plan, cluster, daemons)
        if self._like_microceph:
            cluster.ceph("config", "set", "global", "rbd_default_features", "63")
        return cluster

    def _plan(self, directory: Path, undo: contextlib.ExitStack) -> recipe.Recipe:
        fsid = str(uuid.uuid4())
        if self._like_microceph:
            address = undo.enter_context(ports.claimed_loopback())
            pair = (ports.MESSENGER_2, ports.MESSENGER_1)
            return recipe.Recipe(fsid, directory, self._backend, address, *pair, bare=True)
        port = undo.enter_context(ports.claimed_pair(self._address))
        return recipe.Recipe(
            fsid, directory, self._backend, self._address, port, port + 1, cephx=self._cephx
        )

    def _new_directory(self) -> Path:
        if self._directory is None:
            return Path(tempfile.mkdtemp(prefix="rbdcsi-"))
        self._directory.mkdir(mode=0o700)
        return self._directory


def _boot(plan: recipe.Recipe, cluster: Cluster, daemons: ChildDaemons) -> None:
    commands.run(plan.make_monitor_map)
    commands.run(plan.make_monitor)
    daemons.start("mon")
    daemons.start("mgr")
    commands.run(plan.make_osd)
    cluster.ceph("osd", "new", plan.fsid)  # also waits for the monitor's quorum
    with cluster.connection() as connection:
        for flag in ("noscrub", "nodeep-scrub"):
            monitor.run(connection, "osd set", key=flag)
        daemons.start("osd")

        def serves() -> bool:
            daemons.check()
            osds_up = monitor.run(connection, "osd stat")["num_up_osds"]
            return bool(osds_up and monitor.run(connection, "mgr stat")["available"])

        commands.wait_until(serves, "OSD up and manager available")
