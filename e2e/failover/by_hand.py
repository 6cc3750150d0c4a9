"""The move by hand, which is the floor: Ceph's and the kernel's own tools, as a person types them.

`ceph osd blocklist add` of the old client, then map, mount and a durable write at the new node.
"""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from e2e.clusters import Cluster
from e2e.failover.node import Failing

# As a person would wait for it: the write is in Ceph when it returns.
DURABLE_WRITE = "dd if=/dev/zero of={file} bs=4096 count=1 oflag=direct conv=fsync status=none"


@dataclass(frozen=True)
class Tools:
    """How an image becomes a disk and stops being one: lines of shell.

    `map` prints the device; `unmap` ends it. Both know $image (POOL/NAME), $conf, $keyring and
    $directory, an empty directory of their own.
    """

    map: str
    unmap: str


_RBD = 'rbd --conf "$conf" --keyring "$keyring"'
TOOLS = {
    "krbd": Tools(f'{_RBD} map -o noudev "$image"', f'{_RBD} unmap -o noudev "$device"'),
    "nbd": Tools(
        'rbd-nbd --conf "$conf" --keyring "$keyring" map --try-netlink "$image"',
        'rbd-nbd unmap "$device"',
    ),
    "fuse": Tools(
        'touch "$directory/image"; qemu-storage-daemon --daemonize --pidfile "$directory/pid" '
        '--blockdev "driver=rbd,node-name=image,pool=${image%%/*},image=${image#*/},conf=$conf,'
        'user=admin,cache.direct=on,discard=unmap" '
        # as JSON, by which e2e.sweep finds a daemon
        '--export \'{"type": "fuse", "id": "e", "node-name": "image", "writable": true, '
        '"mountpoint": "\'"$directory"\'/image"}\'; '
        'losetup --find --show --direct-io=on "$directory/image"',
        'losetup --detach "$device"; pid=$(cat "$directory/pid"); kill "$pid"; '
        # one that has ended is there until its parent looks
        'while grep -qsv ") Z " "/proc/$pid/stat"; do sleep 0.1; done',
    ),
}


@dataclass
class Move:
    """One image's move to a node, and its end there."""

    cluster: Cluster
    node: Failing
    mapper: str
    image: str  # POOL/NAME
    conf: str  # of the node's machine
    keyring: str
    directory: Path  # of this move, on the node's machine
    device: str = ""

    @property
    def target(self) -> Path:
        """Where it is mounted."""
        return self.directory / "mount"

    def make(self, client: str) -> float:
        """Fence the old client, map, mount, write; return how many seconds that took."""
        self._run('mkdir -p "$directory/mount"')
        write = DURABLE_WRITE.format(file='"$directory/mount/first"')
        begun = time.monotonic()
        self.cluster.ceph("osd", "blocklist", "add", client)
        self.device = self._run(
            f'device=$({TOOLS[self.mapper].map}); mount "$device" "$directory/mount"; {write}; '
            'echo "$device"'
        )
        return time.monotonic() - begun

    def undo(self) -> None:
        """Unmount and unmap."""
        if self.device:
            self._run(f'umount "$directory/mount"; {TOOLS[self.mapper].unmap}')
            self.device = ""

    def _run(self, line: str) -> str:
        facts = {
            "image": self.image,
            "conf": self.conf,
            "keyring": self.keyring,
            "directory": self.directory,
            "device": self.device,
        }
        words = "".join(f"{name}={shlex.quote(str(value))}; " for name, value in facts.items())
        return self.node.run(words + line)
