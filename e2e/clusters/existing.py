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
    """Daemons that are not ours to stop: tests that would have to are told so."""

    @property
    def pids(self) -> Mapping[Role, int]:
        """Return none: they may run on other machines."""
        return {}

    def stop(self, role: Role) -> None:
        """Refuse."""
        raise errors.Unavailable(f"the cluster is somebody else's: its {role} is not stopped")

    def start(self, role: Role) -> None:
        """Refuse."""
        raise errors.Unavailable(f"the cluster is somebody else's: its {role} is not started")


@contextlib.contextmanager
def connected() -> Iterator[Cluster]:
    """Give the cluster of the settings; it goes on afterwards.

    Raises:
        Unavailable: see `Settings.from_environment`.
    """
    with described(Settings.from_environment(os.environ, "", ""), OthersDaemons()) as cluster:
        yield cluster


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
        )
