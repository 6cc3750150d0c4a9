"""A volume that is rolled back by `rbdcsi volumes rollback`, and the looks at it afterwards."""

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e import snapshots, volume
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.lineage import Protection
from tests.integration.controller.view import View
from tests.integration.operator.shell import Shell

SIZE = 32 * MIB
_SECONDS = 120


@dataclass(frozen=True)
class Bed:
    """A controller, two nodes, Ceph's own view of the pool, and an operator's shell."""

    controller: Driver
    nodes: tuple[Driver, Driver]
    view: View
    shell: Shell

    def argv(self, made: Volume, snapshot: str) -> list[str]:
        """Return the command that rolls a volume back without a question."""
        with self.view.image(made) as image:
            name = image.get_name()
        words = ("volumes", "rollback", made.id, snapshot, "--yes", "--confirm", name)
        return [*self.shell.program, *words, "--config", str(self.shell.config)]

    def begin(self, made: Volume, snapshot: str) -> subprocess.Popen[str]:
        """Begin to roll a volume back, in a process of its own."""
        return subprocess.Popen(
            self.argv(made, snapshot),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, made: Volume, snapshot: str, *, kill_after: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run the command, which may die after one of its steps."""
        return subprocess.run(
            self.argv(made, snapshot),
            env={**os.environ, "RBDCSI_TEST_KILL_AFTER": kill_after},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def roll_back(self, made: Volume, snapshot: str) -> None:
        """Roll a volume back; check that nothing of it is left beside the data."""
        done = self.run(made, snapshot)
        assert done.returncode == 0, done.stderr
        self.require_sound(made)

    def require_sound(self, made: Volume) -> None:
        """Check the object map, and that neither record nor protection is left."""
        with self.view.image(made) as image:
            name, flags = image.get_name(), image.flags()
            has_map = bool(image.features() & 8)
        assert flags == 0
        if has_map:
            pool = self.view.ioctx.get_pool_name()
            self.shell.cluster.rbd("object-map", "check", f"{pool}/{name}")
        assert self.view.record(made).rollback is None
        assert self.protections(made) <= {Protection.NONE}

    def protections(self, made: Volume) -> set[Protection]:
        """Return the states of protection of the volume's snapshots."""
        header = Images(self.view.ioctx).header(image_id(made))
        assert header
        return {each.protection for each in header.user_snapshots()}

    def snapshot(self, made: Volume, name: str) -> str:
        """Take a snapshot by CSI, and return its id."""
        return snapshots.create(self.controller, name, made.id).snapshot_id

    def content_of(self, made: Volume, snapshot_id: str) -> bytes:
        """Return all bytes of a snapshot."""
        with self.view.image(made) as image:
            image.set_snap_by_id(int(snapshot_id.rpartition(":")[2]))
            return bytes(image.read(0, image.size()))

    def put(self, made: Volume, data: bytes, *offsets: int) -> None:
        """Write data into the image behind the driver's back."""
        with self.view.image(made, readonly=False) as image:
            for offset in offsets:
                image.write(data, offset)

    def use(self, made: Volume, work: Callable[[Path], None], *, node: int = 0) -> None:
        """Have a node mount the volume while the work is done."""
        driver = self.nodes[node]
        volume.attach(self.controller, made, driver.name)
        volume.stage(driver, made)
        try:
            work(volume.publish(driver, made))
        finally:
            volume.unpublish(driver, made)
            volume.unstage(driver, made)
            volume.detach(self.controller, made, driver.name)

    def write(self, made: Volume, files: Mapping[str, str]) -> None:
        """Write files by a node."""

        def work(target: Path) -> None:
            for name, text in files.items():
                (target / name).write_text(text)

        self.use(made, work)

    def files(self, made: Volume) -> dict[str, str]:
        """Return the files as another node reads them."""
        found: dict[str, str] = {}

        def work(target: Path) -> None:
            paths = (each for each in target.iterdir() if each.is_file())
            found.update({each.name: each.read_text() for each in paths})

        self.use(made, work, node=1)
        return found

    def remove(self, made: Volume) -> None:
        """Delete the volume with its snapshots."""
        volume.detach(self.controller, made, "")
        for each in list(snapshots.listed(self.controller, source=made.id)):
            snapshots.delete(self.controller, each.snapshot_id)
        with self.view.image(made, readonly=False) as image:
            for snapshot in list(image.list_snaps()):
                if snapshot["namespace"] == 0:
                    image.remove_snap_by_id(snapshot["id"])
        volume.delete(self.controller, made)
