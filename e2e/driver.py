"""The driver as its users meet it: processes on unix sockets, called over gRPC.

Demo, tests and benchmarks share it. A process that the body leaves behind is ended by its pid.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
import yaml

from e2e import processes
from e2e.clusters import Cluster, controller_caps, node_caps
from e2e.clusters.caps import within
from rbdcsi.api import csi_pb2_grpc

CLUSTER_ID = "local"
PROGRAM = (sys.executable, "-m", "rbdcsi")  # this tree's; another is in e2e.release.inside
_START_SECONDS = 60.0
_STOP_SECONDS = 40.0
_PAUSE = 0.02
# A channel waits a second before it connects again by default; a driver is up in half of one.
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
)


@dataclass
class Driver:
    """One process of the driver; `directory` holds its socket, log, mounts and mappers' state."""

    role: str
    directory: Path
    flags: tuple[str, ...]
    program: Sequence[str] = PROGRAM
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    channel: grpc.Channel | None = None

    @property
    def name(self) -> str:
        """What it was prepared as; of a node, its id."""
        return self.directory.name

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / "csi.sock"

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return Path(self.flags[self.flags.index("--config") + 1])

    @property
    def log(self) -> Path:
        """What it wrote to stderr, from all its starts."""
        return self.directory / "driver.log"

    @property
    def kubelet(self) -> Path:
        """The directory that targets are below."""
        return self.directory / "kubelet"

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process
        return self.process.pid

    @property
    def identity(self) -> csi_pb2_grpc.IdentityStub:
        """The Identity service."""
        return csi_pb2_grpc.IdentityStub(self._channel())

    @property
    def controller(self) -> csi_pb2_grpc.ControllerStub:
        """The Controller service."""
        return csi_pb2_grpc.ControllerStub(self._channel())

    @property
    def group_controller(self) -> csi_pb2_grpc.GroupControllerStub:
        """The GroupController service."""
        return csi_pb2_grpc.GroupControllerStub(self._channel())

    @property
    def snapshot_metadata(self) -> csi_pb2_grpc.SnapshotMetadataStub:
        """The SnapshotMetadata service."""
        return csi_pb2_grpc.SnapshotMetadataStub(self._channel())

    @property
    def node(self) -> csi_pb2_grpc.NodeStub:
        """The Node service."""
        return csi_pb2_grpc.NodeStub(self._channel())

    def start(self, *, kill_after: str = "") -> Self:
        """Start the process and wait until it listens.

        Args:
            kill_after: the step (telemetry.steps) after which it dies by SIGKILL; empty: none.
        """
        command = (*self.program, "serve", self.role)
        flags = ("--endpoint", f"unix://{self.socket}", *self.flags)
        environment = {**self.environment, "RBDCSI_TEST_KILL_AFTER": kill_after}
        with self.log.open("ab") as log:
            self.process = processes.start(
                (*command, *flags), log.fileno(), environment=environment, ending="TERM"
            )
        self.channel = grpc.insecure_channel(f"unix:{self.socket}", options=CHANNEL_OPTIONS)
        self._wait_until_it_listens()
        return self

    def kill(self) -> None:
        """End it by SIGKILL, as power failure would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order; not running is fine."""
        self._end(signal.SIGTERM)

    def wait_for_death(self, seconds: float = 120) -> None:
        """Wait until it has died by itself; a lease of another dead process lasts 15 s."""
        assert self.process
        self.process.wait(seconds)

    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def make_directory(self, path: Path) -> None:
        """Make a directory as the kubelet does."""
        path.mkdir(parents=True, exist_ok=True)

    def words(self) -> str:
        """Return the log's text."""
        return self.log.read_text(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        if self.channel:
            self.channel.close()
            self.channel = None
        if self.process:
            if self.process.poll() is None:
                self.process.send_signal(number)
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_STOP_SECONDS)
            self.process = None

    def _channel(self) -> grpc.Channel:
        assert self.channel, f"{self.role} is not running"
        return self.channel

    def _wait_until_it_listens(self) -> None:
        """Return when it takes connections.

        `grpc.channel_ready_future` would look at the channel in a thread of its own for a moment
        longer, and end with an error if the process, and so the channel, ends at that moment.
        """
        assert self.process
        ends_at = time.monotonic() + _START_SECONDS
        while time.monotonic() < ends_at and self.process.poll() is None:
            with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
                connection.connect(str(self.socket))
                return
            time.sleep(_PAUSE)
        raise AssertionError(
            f"{self.role} did not start, exit code {self.process.poll()}; it said:\n"
            f"{self.words()[-3000:]}"
        )


@dataclass(frozen=True)
class Installation:
    """A configured driver on one cluster: gives controllers and nodes, and ends them all.

    Controllers and nodes have a file each, because they are different users of Ceph. A process
    that is both is a controller to Ceph, whose user may do whatever a node's may.
    """

    directory: Path
    config: Path
    node_config: Path
    running: contextlib.ExitStack
    program: Sequence[str] = PROGRAM

    def controller(self, name: str = "controller", *flags: str) -> Driver:
        """Prepare a controller; the caller starts it."""
        return self._prepare("controller", name, self.config, flags)

    def node(self, node_id: str, *flags: str) -> Driver:
        """Prepare a node with directories of its own; the caller starts it."""
        return self._prepare("node", node_id, self.node_config, ("--node-id", node_id, *flags))

    def whole(self, node_id: str, *flags: str) -> Driver:
        """Prepare one process that is controller and node; the caller starts it."""
        return self._prepare("all", node_id, self.config, ("--node-id", node_id, *flags))

    def _prepare(self, role: str, name: str, config: Path, flags: tuple[str, ...]) -> Driver:
        directory = self.directory / name
        (directory / "kubelet").mkdir(parents=True)
        ours = (
            "--config",
            str(config),
            "--kubelet-dir",
            str(directory / "kubelet"),
            "--state-dir",
            str(directory / "state"),
            "--log-level",
            "debug",
        )
        driver = Driver(role, directory, (*ours, *flags), self.program)
        self.running.callback(driver.stop)
        return driver


@contextlib.contextmanager
def installed(
    cluster: Cluster,
    directory: Path,
    pool: str,
    *,
    namespace: str = "",
    further_pools: Sequence[str] = (),
    program: Sequence[str] = PROGRAM,
    keys: bool = True,
) -> Iterator[Installation]:
    """Configure the driver for a cluster; what was started is stopped at the end.

    Args:
        cluster: which Ceph.
        directory: for sockets, mounts and logs; short, sockets are in it.
        pool: the cluster's default pool.
        namespace: the RADOS namespace in that pool, which the driver's users are limited to.
        further_pools: others that the driver's users may use; they need not exist yet.
        program: the command that is `rbdcsi`.
        keys: whether the configuration has them; a cluster without cephx needs none.
    """
    with contextlib.ExitStack() as running:
        config, node_config = (
            _configured(
                cluster,
                directory,
                {"pool": pool, "radosNamespace": namespace},
                role,
                caps(within(pool, namespace), *further_pools),
                running,
                keys=keys,
            )
            for role, caps in (("controller", controller_caps), ("node", node_caps))
        )
        yield Installation(directory, config, node_config, running, program)


def _configured(
    cluster: Cluster,
    directory: Path,
    home: Mapping[str, str],
    role: str,
    caps: Mapping[str, str],
    undo: contextlib.ExitStack,
    *,
    keys: bool,
) -> Path:
    """Make the role's Ceph user, and return its configuration file; `home` is pool, namespace."""
    user, file = f"{role}-{uuid.uuid4().hex[:8]}", directory / f"{role}.yaml"
    if not cluster.ours:
        undo.callback(cluster.ceph, "auth", "rm", f"client.{user}")
    keyring = str(cluster.create_keyring(user, caps, directory))
    entry = {
        "clusterID": CLUSTER_ID,
        "confFile": str(cluster.conf),
        **home,
        "user": user,
        **({"keyring": keyring} if keys else {"auth": "none"}),
    }
    file.write_text(yaml.safe_dump({"clusters": [entry]}))
    return file
