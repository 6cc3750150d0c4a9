"""A MicroCeph that the snap runs on this machine, with the verbs of every other cluster.

Written from the snap's documented paths; it runs on machines with snapd only (the CI's runners),
never where the tests make their own cluster (`like-microceph` has its shape). Meant for throw-away
machines: pools are created and deleted, defaults of new pools are changed for a single node. The
snap's own commands are not needed: the distribution's `ceph` and `rbd` work with the snap's
ceph.conf and keyring.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from e2e import errors
from e2e.clusters import commands, existing
from e2e.clusters.cluster import Cluster, Role

CONF = "/var/snap/microceph/current/conf/ceph.conf"
KEYRING = "/var/snap/microceph/current/conf/ceph.client.admin.keyring"
PROGRAMS = "/snap/microceph/"
SINGLE_NODE = {
    "mon_allow_pool_size_one": "true",
    "mon_allow_pool_delete": "true",
    "osd_pool_default_size": "1",
    "osd_pool_default_pg_autoscale_mode": "off",
}


class SnapDaemons:
    """The snap's services; with several OSDs, `pids` knows the one with the lowest number."""

    @property
    def pids(self) -> Mapping[Role, int]:
        """The process id of each daemon that runs now."""
        roles: tuple[Role, ...] = ("mon", "mgr", "osd")
        found = {role: _pids_of(f"ceph-{role}") for role in roles}
        return {role: min(pids) for role, pids in found.items() if pids}

    def stop(self, role: Role) -> None:
        """Stop the snap's service, which ends all daemons of that role."""
        commands.run(["snap", "stop", f"microceph.{role}"])
        commands.wait_until(lambda: role not in self.pids, f"MicroCeph's {role} has ended")

    def start(self, role: Role) -> None:
        """Start the snap's service."""
        commands.run(["snap", "start", f"microceph.{role}"])


@contextlib.contextmanager
def connected() -> Iterator[Cluster]:
    """Give the running MicroCeph; it goes on afterwards.

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
        for option, value in SINGLE_NODE.items():
            cluster.ceph("config", "set", "global", option, value)
        yield cluster


def _pids_of(program: str) -> list[int]:
    found = []
    for link in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            target = link.readlink()
            if str(target).startswith(PROGRAMS) and target.name == program:
                found.append(int(link.parent.name))
    return found
