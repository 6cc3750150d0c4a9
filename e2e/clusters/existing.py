"""A Ceph cluster that runs already, given by settings of the environment.

RBDCSI_TEST_CEPH_CONF and _KEYRING are paths; _USER is client.admin unless it is given; _POOL is the
one pool that tests must keep to, without it they make and delete pools of their own.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import rados

from e2e import errors
from e2e.clusters.cluster import Cluster, Daemons, Role

_PREFIX = "RBDCSI_TEST_CEPH_"
_CONNECT_SECONDS = "20"
_POOL_DELETE = "mon_allow_pool_delete"


@dataclass(frozen=True)
class Settings:
    """How to reach a cluster: files, a user without "client.", and perhaps its only pool."""

    conf: Path
    keyring: Path
    user: str = "admin"
    pool: str | None = None

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], conf: str, keyring: str
    ) -> "Settings":
        """Return what the environment says, with defaults for the two files; "" is none.

        Raises:
            Unavailable: a file is missing from the settings, or cannot be read.
        """
        given = {
            name: environment.get(f"{_PREFIX}{name}") or default
            for name, default in (("CONF", conf), ("KEYRING", keyring))
        }
        for name, path in given.items():
            if not (Path(path).is_file() and os.access(path, os.R_OK)):
                raise errors.Unavailable(
                    f"{_PREFIX}{name} is {path!r}, which is no file that can be read; give the "
                    "path of the cluster's file, and run as root"
                )
        user = environment.get(f"{_PREFIX}USER", "admin").removeprefix("client.")
        pool = environment.get(f"{_PREFIX}POOL") or None
        return cls(Path(given["CONF"]), Path(given["KEYRING"]), user, pool)


class OthersDaemons:
    """Daemons that are not ours to stop: a test that would have to is skipped."""

    @property
    def pids(self) -> Mapping[Role, int]:
        """Return none: they may run on other machines."""
        return {}

    def pid(self, role: Role) -> int:
        """Refuse."""
        raise errors.NotOurs(f"the cluster is not the test bed's: its {role} is not touched")

    def stop(self, role: Role) -> None:
        """Refuse."""
        raise errors.NotOurs(f"the cluster is not the test bed's: its {role} is not stopped")

    def start(self, role: Role) -> None:
        """Refuse."""
        raise errors.NotOurs(f"the cluster is not the test bed's: its {role} is not started")


@contextlib.contextmanager
def connected() -> Iterator[Cluster]:
    """Give the cluster of the settings; it goes on afterwards.

    Raises:
        Unavailable: see `Settings.from_environment`; or no pool is given, and the monitors do not
            let pools be deleted.
    """
    with described(Settings.from_environment(os.environ, "", ""), OthersDaemons()) as cluster:
        if cluster.pool is None:
            _require_deletable_pools(cluster)
        yield cluster


def _require_deletable_pools(cluster: Cluster) -> None:
    for monitor in cluster.ceph("mon", "dump")["mons"]:
        name = f"mon.{monitor['name']}"
        if cluster.ceph("config", "show", name, _POOL_DELETE) is not True:
            raise errors.Unavailable(
                f"{name} has {_POOL_DELETE} off, so the pools that tests make would stay: give "
                f"one pool that tests keep to by {_PREFIX}POOL, or set the option for the time of "
                f"the tests (ceph config set mon {_POOL_DELETE} true)"
            )


@contextlib.contextmanager
def described(settings: Settings, daemons: Daemons) -> Iterator[Cluster]:
    """Give the cluster that is found with the settings, and a directory for its tests."""
    client = rados.Rados(
        name=f"client.{settings.user}",
        conffile=str(settings.conf),
        conf={"keyring": str(settings.keyring), "client_mount_timeout": _CONNECT_SECONDS},
    )
    with client as found, tempfile.TemporaryDirectory(prefix="rbdcsi-") as directory:
        yield Cluster(
            fsid=found.get_fsid(),
            monitors=str(found.conf_get("mon_host")),
            conf=settings.conf,
            keyring=settings.keyring,
            directory=Path(directory),
            daemons=daemons,
            user=settings.user,
            pool=settings.pool,
            ours=False,
        )
