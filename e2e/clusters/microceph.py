"""A MicroCeph that the snap runs on this machine, with the verbs of every other cluster.

Written from the snap's documented paths; it runs on machines with snapd only (the CI's runners),
never where the tests make their own cluster (`like-microceph` has its shape). Meant for throw-away
machines: pools are created and deleted, and while tests run, defaults of new pools are those for a
single node. The snap's own commands are not needed: the distribution's `ceph` and `rbd` work with
the snap's ceph.conf and keyring.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from e2e import errors
from e2e.clusters import commands, existing
from e2e.clusters.cluster import Cluster, Role

CONF = "/var/snap/microceph/current/conf/ceph.conf"
KEYRING = "/var/snap/microceph/current/conf/ceph.client.admin.keyring"
PROGRAMS = "/snap/microceph/"
ROLES: Sequence[Role] = ("mon", "mgr", "osd")
SINGLE_NODE = {
    "mon_allow_pool_size_one": "true",
    "mon_allow_pool_delete": "true",
    "osd_pool_default_size": "1",
    "osd_pool_default_pg_autoscale_mode": "off",
}


class SnapDaemons:
    """The snap's services."""

    @property
    def pids(self) -> Mapping[Role, int]:
        """The process id of each daemon that runs now; of several OSDs, the lowest."""
        return {role: min(pids) for role in ROLES if (pids := self._pids(role))}

    def pid(self, role: Role) -> int:
        """Return the process id of the role's only daemon.

        Raises:
            NotOurs: there are several; to stop one of them is not what tests mean.
        """
        pids = self._pids(role)
        if len(pids) != 1:
            raise errors.NotOurs(f"this MicroCeph runs {len(pids)} {role}, the test needs one")
        return pids[0]

    def stop(self, role: Role) -> None:
        """Stop the snap's service, which ends all daemons of that role."""
        commands.run(["snap", "stop", f"microceph.{role}"])
        commands.wait_until(lambda: role not in self.pids, f"MicroCeph's {role} has ended")

    def start(self, role: Role) -> None:
        """Start the snap's service."""
        commands.run(["snap", "start", f"microceph.{role}"])

    def _pids(self, role: Role) -> list[int]:
        pids = []
        for link in Path("/proc").glob("[0-9]*/exe"):
            with contextlib.suppress(OSError):  # it has just ended
                program = link.readlink()
                if str(program).startswith(PROGRAMS) and program.name == f"ceph-{role}":
                    pids.append(int(link.parent.name))
        return pids


@contextlib.contextmanager
def connected() -> Iterator[Cluster]:
    """Give the running MicroCeph; it goes on afterwards, with the settings that it had.

    Raises:
        Unavailable: there is none, or this user may not read its files.
    """
    try:
        settings = existing.Settings.from_environment(os.environ, CONF, KEYRING)
    except errors.Unavailable as error:
        raise errors.Unavailable(
            f"{error}. Is the microceph snap installed and bootstrapped (snap install microceph; "
            "microceph cluster bootstrap; microceph disk add loop,4G,3)?"
        ) from error
    with existing.described(settings, SnapDaemons()) as cluster:
        before = _global_settings(cluster)
        try:
            for option, value in SINGLE_NODE.items():
                cluster.ceph("config", "set", "global", option, value)
            yield cluster
        finally:
            for option in SINGLE_NODE:
                if option in before:
                    cluster.ceph("config", "set", "global", option, before[option])
                else:
                    cluster.ceph("config", "rm", "global", option)


def _global_settings(cluster: Cluster) -> dict[str, str]:
    """Return the settings that the cluster's configuration has for all daemons and clients."""
    settings = cluster.ceph("config", "dump")
    return {each["name"]: each["value"] for each in settings if each["section"] == "global"}
