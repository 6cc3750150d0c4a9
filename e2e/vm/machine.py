"""One virtual machine: qemu's software emulation, the host's root read-only beneath a tmpfs.

It has two networks: eth0 on the tests' bridge, which can be cut, and eth1, qemu's own, by which
commands and the driver's socket are reached, also when eth0 is cut.
"""

import contextlib
import os
import signal
import string
import subprocess
import tempfile
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e import errors, processes
from e2e.clusters import commands
from e2e.clusters.daemons import SweptDirectory
from e2e.vm import kernel, qemu, remote
from e2e.vm.guest import agent
from e2e.vm.monitor import Monitor
from e2e.vm.network import Network
from rbdcsi.host import command

KUBELET = "/var/lib/kubelet"
REPORTS = "/dev/ttyS1"  # a second serial line, which the kernel does not write to
MIB = 1 << 20
_GUEST = Path(__file__).with_name("guest")
_VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
# The root as it is, without what is mounted on it; the mount is in a namespace that ends with it.
# That namespace has copies of the mounts of other tests, which would keep their devices busy.
_SHARE = (
    "findmnt --raw --noheadings --output TARGET | grep ^/tmp/ | tac | xargs --no-run-if-empty "
    '--delimiter "\\n" umount --lazy; '
    'mount --bind / "$0" && mount -o remount,bind,ro "$0" && '
    'exec "$1" --socket-path="$2" -o source="$0" -o sandbox=chroot -o cache=always'
)
_BOOT_SECONDS = 120.0
_END_SECONDS = 20.0


class Machine:
    """A machine that starts when its context is entered, and is gone with all it had after it.

    What is written to it is lost when it stops, but for its disks: one at /var/lib/kubelet, and
    those that are asked for.

    Attributes:
        name: its host name.
        address: that of eth0.
        boots: how often it was started.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        index: int,
        *,
        memory: int = 1024 * MIB,
        disks: Mapping[str, int | Path] | None = None,
        kernel_words: Sequence[str] = (),
    ) -> None:
        """Describe it.

        Args:
            name: its host name.
            network: which eth0 is in.
            index: of the machine in the network, from 0; gives its address.
            memory: bytes.
            disks: further disks, by the directory they are mounted at: the size in bytes of a new
                one (ext4), or an image file, which is used as it is and kept.
            kernel_words: further parameters of its kernel.
        """
        self.name = name
        self.address = network.address(index)
        self.boots = 0
        self._network = network
        self._index = index
        self._memory = memory
        self._kernel_words = tuple(kernel_words)
        self._disks: dict[str, int | Path] = {KUBELET: 1024 * MIB, **(disks or {})}
        self._undo = contextlib.ExitStack()
        self._spawner = processes.Spawner(f"machine-{name}")
        self._directory = Path()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._booted_at = 0
        self._monitor: Monitor | None = None
        self._ports: dict[int, int] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._spawner.close)
            directory = Path(tempfile.mkdtemp(prefix="rbdcsi-vm-"))
            self._directory = undo.enter_context(SweptDirectory(directory))
            self._console.touch()
            for number, (_, content) in enumerate(self._disks.items()):
                if isinstance(content, int):
                    self._make_disk(number, content)
            undo.callback(self.kill)
            self.start()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    @property
    def tap(self) -> str:
        """The name of its tap in the network's namespace."""
        return f"tap{self._index}"

    @property
    def is_running(self) -> bool:
        """Whether its processes run; frozen ones do."""
        return bool(self._processes) and all(p.poll() is None for p in self._processes)

    def start(self) -> None:
        """Boot it, and return when commands can be run in it.

        Raises:
            Failed: it ended while it booted; the message is the end of what it said.
            DeadlineExceeded: it is not up in time.
        """
        self.boots += 1
        self._booted_at = self._console.stat().st_size
        tap = self._network.tap(self.tap)
        try:
            self._share_root()
            argv = qemu.command(self._plan(), kernel.ready(), tap)
            self._spawn(argv, "qemu.out", (tap,))
        finally:
            os.close(tap)  # it lives with qemu from now on
        commands.wait_until(self._is_up, f"{self.name} is up", _BOOT_SECONDS)
        self._monitor = Monitor(self._directory / qemu.MONITOR)
        self.forward(agent.ADDRESS[1])

    def stop(self) -> None:
        """Switch it off: what was written to its disks is on them; processes get no signal."""
        self._halt("poweroff")

    def reboot(self) -> None:
        """Boot it again: processes end, mounts are not unmounted, disks are written out."""
        self._halt("reboot")
        self.start()

    def kill(self) -> None:
        """End it as a power failure would; not running is fine."""
        for process in reversed(self._processes):
            process.kill()
        self._reap()

    def freeze(self) -> None:
        """Stop it in its tracks; its network stays."""
        self._processes[-1].send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._processes[-1].send_signal(signal.SIGCONT)

    def cut(self) -> None:
        """Take it off the network; `run` still works."""
        self._network.cut(self.tap)

    def join(self) -> None:
        """Put it back on the network."""
        self._network.join(self.tap)

    def console(self) -> str:
        """Return what it wrote to its console since it was last started."""
        with self._console.open("rb") as file:
            file.seek(self._booted_at)
            return file.read().decode(errors="replace")

    def reports(self) -> str:
        """Return what its programs wrote to `REPORTS` in all its boots.

        On the console, messages of the kernel would break into the lines of programs.
        """
        return (self._directory / qemu.REPORTS).read_text(errors="replace")

    def run(
        self,
        *argv: str | Path,
        seconds: float = 30,
        stdin: bytes = b"",
        ok: Collection[int] = (0,),
    ) -> command.CommandResult:
        """Run a command in it as root, to its end, as `remote.run` does."""
        words = [str(word) for word in argv]
        return remote.run(self.forward(agent.ADDRESS[1]), words, seconds, stdin, ok)

    def write(self, path: str | Path, content: str, mode: str = "644") -> None:
        """Write a file in it; its directory is made."""
        self.run("install", "-D", "-m", mode, "/dev/stdin", str(path), stdin=content.encode())

    def read(self, path: str | Path) -> str:
        """Return the text of a file in it."""
        return self.run("cat", str(path)).text

    def spawn(self, log: str | Path, *argv: str | Path) -> int:
        """Start a process in it that goes on; returns its pid.

        Args:
            log: the file that takes what it prints, at its end.
            argv: program and arguments.
        """
        line = 'log=$1; shift; mkdir -p "${log%/*}"; "$@" </dev/null >>"$log" 2>&1 & echo $!'
        return int(self.run("setsid", "sh", "-c", line, "sh", str(log), *argv).text)

    def forward(self, port: int) -> str:
        """Return the address on this machine's loopback that leads to its TCP port."""
        if port not in self._ports:
            assert self._monitor, f"{self.name} is not running"
            self._ports[port] = self._monitor.forward(qemu.CHANNEL, agent.ADDRESS[0], port)
        return f"127.0.0.1:{self._ports[port]}"

    @property
    def _console(self) -> Path:
        return self._directory / qemu.CONSOLE

    def _halt(self, how: str) -> None:
        self.run("sync")
        with contextlib.suppress(errors.Failed, OSError):  # the connection ends with it
            self.run("busybox", how, "-f")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._processes[-1].wait(_END_SECONDS)
        self.kill()

    def _reap(self) -> None:
        for process in self._processes:
            process.wait(_END_SECONDS)
        self._processes.clear()
        self._ports.clear()
        if self._monitor:
            self._monitor.close()
            self._monitor = None

    def _is_up(self) -> bool:
        if not self.is_running:
            said = self.console() + self._said("qemu.out") + self._said("virtiofsd.out")
            self.kill()
            raise errors.Failed(f"{self.name} ended while it booted:\n{said[-3000:]}")
        return agent.READY in self.console()

    def _said(self, output: str) -> str:
        file = self._directory / output
        return file.read_text(errors="replace") if file.exists() else ""

    def _spawn(self, argv: Sequence[str], output: str, pass_fds: Collection[int] = ()) -> None:
        child = self._spawner.spawn(argv, self._directory / output, pass_fds)
        self._processes.append(child)

    def _share_root(self) -> None:
        root, socket_path = self._directory / "root", self._directory / qemu.SHARE
        root.mkdir(exist_ok=True)
        socket_path.unlink(missing_ok=True)
        private = ("unshare", "--mount", "--propagation", "private")
        share = ("sh", "-c", _SHARE, str(root), _VIRTIOFSD, str(socket_path))
        self._spawn((*private, *share), "virtiofsd.out")

        def shared() -> bool:
            if not self.is_running:
                raise errors.Failed(f"virtiofsd ended: {self._said('virtiofsd.out')}")
            return socket_path.exists()

        commands.wait_until(shared, f"{socket_path} is served")

    def _make_disk(self, number: int, size: int) -> None:
        disk = self._directory / f"disk{number}"
        with disk.open("wb") as file:
            file.truncate(size)
        commands.run(["mkfs.ext4", "-q", disk])

    def _plan(self) -> qemu.Plan:
        files = [
            content if isinstance(content, Path) else self._directory / f"disk{number}"
            for number, content in enumerate(self._disks.values())
        ]
        return qemu.Plan(
            directory=self._directory,
            memory=self._memory,
            mac=f"52:54:00:77:{self._network.number:02x}:{self._index:02x}",
            uuid=str(uuid.uuid5(uuid.NAMESPACE_DNS, self.name)),
            disks=files,
            kernel_words=self._kernel_words,
            told={
                "guest": str(_GUEST),
                "name": self.name,
                "address": f"{self.address}/24",
                "modules": str(kernel.ready().modules),
                "disks": ",".join(map("vd{}:{}".format, string.ascii_lowercase, self._disks)),
            },
        )
