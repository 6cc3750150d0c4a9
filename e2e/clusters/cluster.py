"""A running Ceph cluster as tests see it: facts, and verbs that every kind of cluster shares.

What differs between kinds is how daemons are found and restarted: the small `Daemons` contract.
"""

import contextlib
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import rados
import rbd

from e2e.clusters import commands
from e2e.clusters import erasure as erasure_coding
from rbdcsi.ceph import monitor
from rbdcsi.config.secret import Secret

Role = Literal["mon", "mgr", "osd"]
PLACEMENT_GROUPS = 16
# librados waits for ever by default; seconds.
BOUNDED: Mapping[str, str] = {"rados_mon_op_timeout": "20", "rados_osd_op_timeout": "20"}
# An OSD takes the largest of the three, so they are set in order; Ceph's defaults are the second.
RATIOS: Mapping[str, tuple[float, float]] = {
    "set-nearfull-ratio": (0.00005, 0.85),
    "set-backfillfull-ratio": (0.00006, 0.90),
    "set-full-ratio": (0.00007, 0.95),
}


class Daemons(Protocol):
    """What a kind of cluster knows of its own daemons."""

    @property
    def pids(self) -> Mapping[Role, int]:
        """The process id of each daemon that runs now."""
        ...

    def pid(self, role: Role) -> int:
        """Return the process id of the role's only daemon."""
        ...

    def stop(self, role: Role) -> None:
        """End all daemons of the role, and return when their processes are gone."""
        ...

    def start(self, role: Role) -> None:
        """Start the daemon unless it runs."""
        ...


@dataclass(frozen=True)
class Cluster:
    """Facts and verbs of a running cluster.

    Attributes:
        fsid: the cluster's id, the usual `clusterID`.
        monitors: addresses as `mon_host` takes them.
        conf: a ceph.conf for clients.
        keyring: the keyring of the user.
        directory: where the tests may put files that belong to this cluster.
        daemons: how to find, stop and start its daemons.
        user: as whom tests work, without "client."; may make pools, users and blocklist entries.
        pool: the one that tests must keep to; None lets them make their own.
        ours: whether the test bed started it; otherwise others use it, too.
        pools: those that `create_pool` made and `delete_pool` has not deleted.
    """

    fsid: str
    monitors: str
    conf: Path
    keyring: Path
    directory: Path
    daemons: Daemons
    user: str = "admin"
    pool: str | None = None
    ours: bool = True
    pools: set[str] = field(default_factory=set, compare=False)

    @property
    def pids(self) -> Mapping[Role, int]:
        """The process id of each daemon that runs now; it changes when one is restarted."""
        return self.daemons.pids

    def pid(self, role: Role) -> int:
        """Return the process id of the daemon, which the caller is about to stop or freeze.

        Raises:
            NotOurs: the daemon is elsewhere, or it is one of several.
        """
        return self.daemons.pid(role)

    def connection(self, **options: str) -> rados.Rados:
        """Return a client as the cluster's user, which `with` opens and closes.

        Args:
            options: of ceph.conf, over `BOUNDED`.
        """
        conf = {"keyring": str(self.keyring), **BOUNDED, **options}
        return rados.Rados(name=f"client.{self.user}", conffile=str(self.conf), conf=conf)

    def ceph(self, *args: str, timeout: float = 30) -> Any:
        """Run `ceph ARGS` as the user.

        Args:
            args: the command's words, without `--format`.
            timeout: seconds; a monitor that does not answer would hold the command for ever.

        Returns:
            The parsed answer when it is JSON, else its text.

        Raises:
            Failed, DeadlineExceeded: see `commands.run`.
        """
        text = self._run("ceph", *args, "--format", "json", timeout=timeout).strip()
        try:
            return json.loads(text)
        except ValueError:
            return text

    def rbd(self, *args: str, timeout: float = 60) -> str:
        """Run `rbd ARGS` as the user within `timeout` seconds and return its output."""
        return self._run("rbd", *args, timeout=timeout)

    def rados(self, *args: str, timeout: float = 60) -> str:
        """Run `rados ARGS` as the user within `timeout` seconds and return its output."""
        return self._run("rados", *args, timeout=timeout)

    def _run(self, tool: str, *args: str, timeout: float) -> str:
        files = ["--conf", str(self.conf), "--keyring", str(self.keyring)]
        return commands.run([tool, *files, "--name", f"client.{self.user}", *args], timeout)

    def create_pool(
        self,
        name: str,
        *,
        erasure: bool = False,
        overwrites: bool = True,
        quota_bytes: int | None = None,
    ) -> None:
        """Create a pool for RBD and return when all its placement groups serve I/O.

        Args:
            name: the pool's name, which must be new.
            erasure: erasure-coded, for data only: headers and omap need a replicated pool.
            overwrites: allow overwrites in an erasure-coded pool, without which it takes no images.
            quota_bytes: limit of stored bytes, enforced with a delay of some seconds.

        Raises:
            RbdCsiError: the monitors refuse, or do not answer; see `monitor.run`.
        """
        if erasure:
            count = str(PLACEMENT_GROUPS)
            layout = ("erasure", erasure_coding.PROFILE, erasure_coding.rule(self.ceph))
            self.ceph("osd", "pool", "create", name, count, count, *layout)
            if overwrites:
                erasure_coding.allow_overwrites(self.ceph, name)
        self.pools.add(name)
        with self.connection() as connection:
            if not erasure:
                groups = {"pg_num": PLACEMENT_GROUPS, "pgp_num": PLACEMENT_GROUPS}
                monitor.run(connection, "osd pool create", pool=name, **groups)
            if quota_bytes is not None:
                limit = {"field": "max_bytes", "val": str(quota_bytes)}
                monitor.run(connection, "osd pool set-quota", pool=name, **limit)
            connection.wait_for_latest_osdmap()
            with connection.open_ioctx(name) as ioctx:
                list(ioctx.list_objects())  # each placement group answers, as soon as it is active
                if overwrites:
                    rbd.RBD().pool_init(ioctx, False)
                else:
                    ioctx.application_enable("rbd")

    def delete_pool(self, name: str) -> None:
        """Delete the pool with all its images; a pool that does not exist is fine."""
        with self.connection() as connection, contextlib.suppress(rados.ObjectNotFound):
            connection.delete_pool(name)
        self.pools.discard(name)

    def create_user(self, name: str, caps: Mapping[str, str]) -> Secret:
        """Create the user `client.NAME` and return its key.

        Args:
            name: without "client.".
            caps: capability by service, such as {"mon": "profile rbd"}; see `caps`.
        """
        words = [word for service, cap in caps.items() for word in (service, cap)]
        with self.connection() as connection:
            who = {"entity": f"client.{name}", "caps": words}
            (answer,) = monitor.run(connection, "auth get-or-create", **who)
        return Secret(answer["key"])

    def create_keyring(self, name: str, caps: Mapping[str, str], directory: Path) -> Path:
        """Create the user `client.NAME` and return its keyring, a new file NAME.keyring.

        Args:
            name: without "client.".
            caps: see `create_user`.
            directory: where the file goes.
        """
        keyring = directory / f"{name}.keyring"
        keyring.touch(mode=0o600)
        key = self.create_user(name, caps).reveal()
        keyring.write_text(f"[client.{name}]\n\tkey = {key}\n")
        return keyring

    def freeze_osd(self) -> None:
        """Stop the OSD in its tracks: clients' I/O hangs, connections stay open."""
        os.kill(self.pid("osd"), signal.SIGSTOP)

    def thaw_osd(self) -> None:
        """Let a frozen OSD go on."""
        os.kill(self.pid("osd"), signal.SIGCONT)

    def freeze_mon(self) -> None:
        """Stop the monitor in its tracks: commands and new connections hang, open I/O goes on."""
        os.kill(self.pid("mon"), signal.SIGSTOP)

    def thaw_mon(self) -> None:
        """Let a frozen monitor go on."""
        os.kill(self.pid("mon"), signal.SIGCONT)

    def stop_osd(self) -> None:
        """End every OSD and mark it down, which the monitor would find out much later."""
        self.daemons.stop("osd")
        self._mark_osds_down()

    def start_osd(self) -> None:
        """Start the OSD and return when it is up and all placement groups serve I/O again."""
        if "osd" in self.pids:
            return
        self._mark_osds_down()
        self.daemons.start("osd")
        commands.wait_until(self._osds_are_up, "the OSD is up again")
        self.wait_until_active()

    def set_full(self, pool: str | None = None) -> None:
        """Make one pool (by quota) or the whole cluster (by its full ratios) refuse writes.

        Returns when the flag is in the OSD map: usage is reported every few seconds only.

        Args:
            pool: holds at least one object, as any pool after `create_pool`; None: the cluster.
        """
        self._limit(pool, full=True)
        commands.wait_until(lambda: all(self._full_flags(pool)), f"{pool or 'cluster'} is full")

    def clear_full(self, pool: str | None = None) -> None:
        """Undo `set_full` and return when writes are let through again."""
        self._limit(pool, full=False)
        commands.wait_until(
            lambda: not any(self._full_flags(pool)), f"{pool or 'cluster'} is no longer full"
        )

    def wait_until_active(self, pool: str | None = None, timeout: float = 60) -> None:
        """Return when every placement group (of `pool`, or of all) is active and not stale."""
        where = ("pg", "ls-by-pool", pool) if pool else ("pg", "ls")

        def active() -> bool:
            states = [group["state"].split("+") for group in self.ceph(*where)["pg_stats"]]
            return bool(states or not pool) and all(
                "active" in state and "stale" not in state for state in states
            )

        commands.wait_until(active, f"placement groups of {pool or 'all pools'} active", timeout)

    def free_bytes(self) -> dict[str, int]:
        """Return what each pool can still take, by the monitors' count; a new pool is not in it."""
        return {pool["name"]: pool["stats"]["max_avail"] for pool in self.ceph("df")["pools"]}

    def wait_until_counted(self, pool: str) -> None:
        """Return when the manager has told the monitors of a pool just made, seconds after it."""
        commands.wait_until(lambda: pool in self.free_bytes(), f"statistics of pool {pool}")

    def _limit(self, pool: str | None, full: bool) -> None:
        if pool is not None:
            self.ceph("osd", "pool", "set-quota", pool, "max_objects", "1" if full else "0")
            return
        for command, (tiny, default) in RATIOS.items():
            self.ceph("osd", command, str(tiny if full else default))

    def _full_flags(self, pool: str | None) -> list[bool]:
        pools = self.ceph("osd", "dump")["pools"]
        return [
            "full" in found["flags_names"].split(",")
            for found in pools
            if pool in (None, found["pool_name"])
        ]

    def _mark_osds_down(self) -> None:
        self.ceph("osd", "down", *(str(number) for number in self.ceph("osd", "ls")))

    def _osds_are_up(self) -> bool:
        stat = self.ceph("osd", "stat")
        return bool(stat["num_up_osds"] == stat["num_osds"] > 0)
