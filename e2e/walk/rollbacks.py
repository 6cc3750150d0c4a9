"""Rolls volumes of a walk back, in processes that may be killed, and are run again then.

A volume is reserved for one caller, so that it is known which rollback changed it; the other
callers mostly leave it alone. After a rollback the image's bytes are compared with the snapshot's,
unless the volume was used since.
"""

import contextlib
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

import rbd

from e2e import processes
from e2e.driver import Installation
from e2e.volume import Volume
from e2e.walk.copies import Snapshot
from e2e.walk.deaths import OF_ROLLBACK, steps
from e2e.walk.world import World
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph.images import Images
from rbdcsi.model import ids

_SECONDS = 120.0  # for one that was cut off to be finished
_PAUSE = 0.5
_POLL = 0.01
_LIFE = 0.5  # seconds, at most, after the record was written, of a process that is killed


class Rollbacks:
    """The rollbacks of a walk; `ended` are the Ceph clients that these put on the blocklist."""

    def __init__(self, world: World, installation: Installation) -> None:
        self.ended: set[str] = set()
        self._world = world
        self._installation = installation
        self._steps = [step for step in steps() if step.startswith(OF_ROLLBACK)]
        self._reserved: set[str] = set()
        self._lock = threading.Lock()

    def candidates(self) -> list[Snapshot]:
        """Return the snapshots to which a volume that was in use can be rolled back."""
        taken = self._world.copies.snapshots
        return [each for each in taken if self._exists(each) and self._was_used(each)]

    def _exists(self, snapshot: Snapshot) -> bool:
        handle = ids.parse_snapshot(snapshot.id)
        header = Images(self._world.ioctx).header(handle.volume.image_id)
        return header is not None and header.user_snapshot(handle.snap_id) is not None

    def _was_used(self, snapshot: Snapshot) -> bool:
        record = self._world.record(self._world.volume(snapshot.source))
        return record.generation > 0 and not record.deleting

    def are_under_way(self, volumes: Sequence[Volume]) -> bool:
        """Return whether one of the volumes is reserved."""
        with self._lock:
            return any(each.id in self._reserved for each in volumes)

    @contextlib.contextmanager
    def reserved(self, made: Volume) -> Iterator[bool]:
        """Reserve a volume for the body's rollbacks; yield False if another caller has it."""
        with self._lock:
            is_free = made.id not in self._reserved
            if is_free:
                self._reserved.add(made.id)
        try:
            yield is_free
        finally:
            if is_free:
                with self._lock:
                    self._reserved.remove(made.id)

    def roll_back(self, made: Volume, snapshot: Snapshot, chance: random.Random) -> bool:
        """Roll a reserved volume back; one that was cut off is asked for until it is finished.

        Returns:
            Whether it is done, or there is no use in trying again.
        """
        world, contents = self._world, self._world.contents
        before, ends_at = world.record(made), time.monotonic() + _SECONDS
        while time.monotonic() < ends_at:
            outcome = self._run(made, snapshot, chance)
            after = world.record(made)
            if after.rollbacks < before.rollbacks:
                return True  # the volume is deleted
            if outcome == "OK":
                contents.rolled_back(made.id, after.rollbacks, snapshot.taken)
                self._compare(made, snapshot, after)
                return True
            if outcome == "refused" and not after.rollback:
                if after.rollbacks > before.rollbacks:
                    contents.rolled_back(
                        made.id, after.rollbacks, snapshot.taken, perhaps=before.rollbacks
                    )
                return not self._exists(snapshot)
            time.sleep(_PAUSE)
        world.trouble(f"rollback {snapshot.id} was cut off, and cannot be finished")
        return True

    def _run(self, made: Volume, snapshot: Snapshot, chance: random.Random) -> str:
        """Run the command, which may be killed; return `OK`, `refused`, `killed` or `crashed`."""
        before = self._world.record(made)
        self.ended |= {each.client for each in (before.rollback, before.growth) if each}
        step = chance.choice(self._steps) if chance.random() < 0.4 else ""
        life = chance.uniform(0, _LIFE) if not step and chance.random() < 0.4 else None
        process = self._start(made, snapshot, step)
        if life:
            while process.poll() is None and self._world.record(made).rollbacks <= before.rollbacks:
                time.sleep(_POLL)
            time.sleep(life)
            process.kill()
        _, said = process.communicate()
        outcomes = {0: "OK", 1: "refused", -signal.SIGKILL: "killed"}
        outcomes[-signal.SIGSEGV] = "crashed"  # inside librados 16, once in 660 runs: as if killed
        outcome, message = outcomes.get(process.returncode, ""), said.decode(errors="replace")
        what = f"rollback {snapshot.id}"
        if not outcome or "Traceback" in message:
            self._world.trouble(f"{what} ended with {process.returncode}: {message}")
        self._world.note(f"{what} (dies after {step or life}): {outcome}: {message[-500:]}")
        self._world.count(f"rollback {outcome}")
        return outcome or "refused"

    def _start(self, made: Volume, snapshot: Snapshot, step: str) -> subprocess.Popen[bytes]:
        try:
            with self._world.image(made, readonly=True) as image:
                name = image.get_name()
        except rbd.ImageNotFound:
            name = "deleted"
        words = ("volumes", "rollback", made.id, snapshot.id, "--yes", "--confirm", name)
        return processes.start(
            [*self._installation.program, *words, "--config", self._installation.config],
            subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            environment={"RBDCSI_TEST_KILL_AFTER": step},
        )

    def _compare(self, made: Volume, snapshot: Snapshot, before: VolumeRecord) -> None:
        """Compare the image with the snapshot; it does not count if something used the volume."""
        snap_id = ids.parse_snapshot(snapshot.id).snap_id
        try:
            with self._world.image(made, readonly=True) as image:
                image.set_snap_by_id(snap_id)
                expected = image.read(0, image.size())
            with self._world.image(made, readonly=True) as image:
                content = image.read(0, image.size())
                exists = any(each["id"] == snap_id for each in image.list_snaps())
        except (rbd.ImageNotFound, rbd.InvalidArgument):
            return
        after = self._world.record(made)
        same = (after.generation, after.rollbacks) == (before.generation, before.rollbacks)
        if not exists or not same or before.attachments or after.deleting:
            return
        if content != expected.ljust(len(content), b"\0"):
            self._world.trouble(f"rollback {snapshot.id}: the image differs from the snapshot")
        self._world.count("rollback compared")
