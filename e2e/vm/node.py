"""The node plugin in a virtual machine, called from outside like any other (`e2e.volume`)."""

import configparser
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
import yaml

from e2e.clusters import Cluster, commands
from e2e.driver import CLUSTER_ID
from e2e.vm.machine import KUBELET, Machine
from rbdcsi.api import csi_pb2_grpc
from rbdcsi.config.secret import Secret

_MODULES = ("rbd", "nbd")
_SOCKET = f"{KUBELET}/plugins/rbdcsi/csi.sock"
_CONFIG = "/etc/rbdcsi/config.yaml"
_LOG = "/var/log/rbdcsi.log"
_PORT = 7001  # of the machine; leads to the socket
_ROOT = Path(__file__).parents[2]
_PYTHON = _ROOT / ".venv/bin/python"
_START_SECONDS = 120.0
_STOP_SECONDS = 30.0
# A process that has ended is there until the machine's init looks, which it does once a second.
_END = 'kill -"$0" "$1"; while grep -qsv ") Z " "/proc/$1/stat"; do sleep 0.1; done'
# Otherwise a minute passes between two attempts.
_OFTEN = [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 500)]


def compile_driver() -> None:
    """Write the bytecode of this tree's driver, which takes a machine longer than all the rest.

    To be called before a machine starts: what changes later it does not see.
    """
    commands.run([_PYTHON, "-m", "compileall", "-q", _ROOT / "rbdcsi"])


@dataclass
class Node:
    """A node plugin and the machine it is in; its node id is the machine's name.

    Attributes:
        machine: where it runs.
        cluster: the Ceph of its volumes.
        pool: its cluster's default pool.
        user: the Ceph user, without `client.`, with its key.
        flags: further flags of `rbdcsi serve node`.
        keys: whether its configuration has the key; a cluster without cephx needs none.
    """

    machine: Machine
    cluster: Cluster
    pool: str
    user: tuple[str, Secret]
    flags: tuple[str, ...] = ()
    keys: bool = True
    kubelet: Path = Path(KUBELET)
    pid: int = 0
    channel: grpc.Channel | None = field(default=None, repr=False)
    _directories: set[Path] = field(default_factory=set, repr=False)

    @property
    def name(self) -> str:
        """Its node id."""
        return self.machine.name

    @property
    def identity(self) -> csi_pb2_grpc.IdentityStub:
        """The Identity service."""
        return csi_pb2_grpc.IdentityStub(self._channel())

    @property
    def node(self) -> csi_pb2_grpc.NodeStub:
        """The Node service."""
        return csi_pb2_grpc.NodeStub(self._channel())

    @property
    def monitors(self) -> str:
        """The monitors' addresses, of both protocols."""
        conf = configparser.ConfigParser()
        conf.read(self.cluster.conf)
        return conf["global"]["mon host"]

    def start(self, *, kill_after: str = "") -> Self:
        """Start it as a fresh machine needs it, too, and return when it answers.

        Args:
            kill_after: the step (telemetry.steps) after which it dies by SIGKILL; empty: none.
        """
        self.machine.run("modprobe", "-a", *_MODULES)
        self.make_directory(Path(_SOCKET).parent)
        self.machine.write(_CONFIG, self._configuration(), mode="600")
        command = (_PYTHON, "-m", "rbdcsi", "serve", "node", "--endpoint", f"unix://{_SOCKET}")
        settings = ("--node-id", self.name, "--config", _CONFIG, "--log-level", "debug")
        environment = ("env", f"RBDCSI_TEST_KILL_AFTER={kill_after}")
        self.pid = self.machine.spawn(_LOG, *environment, *command, *settings, *self.flags)
        self._connect()
        return self

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._end("KILL")

    def stop(self) -> None:
        """End it in order; not running is fine."""
        self._end("TERM")

    def reboot(self) -> None:
        """Boot its machine again, and start it there."""
        self.machine.reboot()
        self.forget()
        self.start()

    def forget(self) -> None:
        """Take note that the machine it ran in has ended."""
        self.pid = 0
        self._directories.clear()
        if self.channel:
            self.channel.close()
            self.channel = None

    def words(self) -> str:
        """Return its log."""
        return self.machine.read(_LOG)

    def make_directory(self, path: Path) -> None:
        """Make a directory as the kubelet does, which nobody else removes."""
        if path not in self._directories:
            self.machine.run("mkdir", "-p", path)
            self._directories.add(path)

    def run(
        self, line: str, *, seconds: float = 60, stdin: bytes = b"", ok: Collection[int] = (0,)
    ) -> str:
        """Run a line of shell in its machine, stopping at the first error; returns the output."""
        argv = ("bash", "-euo", "pipefail", "-c", line)
        return self.machine.run(*argv, seconds=seconds, stdin=stdin, ok=ok).text.strip()

    def _configuration(self) -> str:
        name, key = self.user
        entry = {
            "clusterID": CLUSTER_ID,
            "monitors": [self.monitors],
            "pool": self.pool,
            "user": name,
            **({"key": key.reveal()} if self.keys else {"auth": "none"}),
        }
        return yaml.safe_dump({"clusters": [entry]})

    def _connect(self) -> None:
        # a second one ends at once: the port is taken
        between = (f"TCP-LISTEN:{_PORT},reuseaddr,fork", f"UNIX-CONNECT:{_SOCKET}")
        self.machine.spawn("/run/socat.log", "socat", *between)
        self.channel = grpc.insecure_channel(self.machine.forward(_PORT), _OFTEN)
        ready = grpc.channel_ready_future(self.channel)
        try:
            ready.result(_START_SECONDS)
        except grpc.FutureTimeoutError:
            raise AssertionError(f"{self.name} did not start: {self.words()[-3000:]}") from None

    def _end(self, signal: str) -> None:
        if self.pid and self.machine.is_running:
            self.machine.run("sh", "-c", _END, signal, str(self.pid), seconds=_STOP_SECONDS)
        self.forget()

    def _channel(self) -> grpc.Channel:
        assert self.channel, f"the plugin of {self.name} is not running"
        return self.channel
