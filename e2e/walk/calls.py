"""One step of a caller: a call, right or wrong, once or twice at once, or a volume's whole way."""

import dataclasses
import functools
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from e2e import snapshots, volume
from e2e.volume import MIB, Volume
from e2e.walk import data, freezes
from e2e.walk.contents import Content, Taken
from e2e.walk.copies import Asked
from e2e.walk.rollbacks import Rollbacks
from e2e.walk.world import Reached, World
from rbdcsi.api import csi_pb2
from rbdcsi.attachments.records import VolumeRecord

SIZE = 32 * MIB
_PODS = ("pod-1", "pod-2")
_AWAY = ("unpublish", "unpublish", "unstage", "detach")  # from a node with two Pods
_ROLLBACKS = 4  # attempts of one that is refused
_FROZEN = 0.15  # of the uses of a staged volume are frozen snapshots
_TWICE = 0.15  # of the calls
_LATE = 0.15  # of the calls: for a volume that may be gone
_TRIES, _PAUSE = 8, 0.3  # of a call of a volume's whole way; seconds
_SIZES = (SIZE, 48 * MIB, 64 * MIB)  # to which volumes grow
_WEIGHTS = {  # most calls are those of whole ways, so that some volumes are in use
    "journey": 12,
    "create": 2,
    "delete": 1,
    "attach": 3,
    "detach": 1,
    "stage": 3,
    "publish": 3,
    "write": 12,
    "read": 12,
    "unpublish": 1,
    "unstage": 1,
    "grow": 1,
    "grow-at-node": 1,
    "snapshot": 1,
    "frozen snapshot": 1,
    "delete snapshot": 1,
    "copy": 2,
    "rollback": 2,
}


Answer = TypeVar("Answer")


def copying(controller: Reached, asked: Asked) -> Callable[[], Volume]:
    """Return the call that makes a copy, of its source's size."""
    return functools.partial(volume.create, controller, asked.name, size=0, source=asked.source)


def taking(controller: Reached, asked: Asked) -> Callable[[], csi_pb2.Snapshot]:
    """Return the call that takes a snapshot."""
    return functools.partial(
        snapshots.create, controller, asked.name, asked.source, parameters=asked.parameters
    )


@dataclass(frozen=True)
class Caller:
    """One of the callers; `chance` is its own."""

    world: World
    rollbacks: Rollbacks
    chance: random.Random
    twice: ThreadPoolExecutor

    def step(self) -> None:
        """Do one thing by chance."""
        kind = self.chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        of_snapshots = {"delete snapshot": self._delete_snapshot, "rollback": self._roll_back}
        if kind in of_snapshots:
            of_snapshots[kind]()
            return
        copies = [asked.name for asked in self.world.copies.copies]
        name = self.chance.choice([*self.world.names, *copies])
        if self.rollbacks.are_under_way(self.world.volumes(name)) and self.chance.random() > _LATE:
            return
        self._use(kind, name, self.chance.choice(self.world.nodes))

    def _use(self, kind: str, name: str, node: Reached) -> None:
        """Do something with a volume of that name."""
        if kind == "journey":
            self._journey(name, node)
        elif kind == "create":
            self.create(name)
        elif made := self._some(name):
            if kind in {"snapshot", "frozen snapshot"}:
                self._snapshot(made, freeze=kind == "frozen snapshot")
            elif kind == "copy":
                self._copy(made)
            else:
                self._call(kind, made, node)

    def create(self, name: str) -> Volume | None:
        """CreateVolume; of a copy, return what was made."""
        if name not in self.world.names:
            return self._some(name)
        call = functools.partial(volume.create, self._controller(), name, size=SIZE)
        made = self._attempt(f"create {name}", call)
        if made:
            self.world.created(name, made)
        return made

    def _snapshot(self, made: Volume, *, freeze: bool) -> None:
        world = self.world
        asked = world.copies.ask_for_snapshot(made.id, freeze=freeze)
        if asked is None:
            return
        before, what = world.record(made), "frozen-snapshot" if freeze else "snapshot"
        content = world.contents.of(made.id, before.rollbacks)
        for _ in range(_TRIES):
            call = taking(self._controller(), asked)
            if snapshot := self._attempt(f"{what} {made.id} {asked.name}", call):
                break
            time.sleep(self.chance.uniform(0, _PAUSE))
        if snapshot:
            begun, after = world.contents.begun(made.id), world.record(made)
            taken = Taken(_present(content, before, after), begun)
            world.copies.made(asked, snapshot.snapshot_id, taken)
            if freeze and any(data.is_staged_by(each.name, before, after) for each in world.nodes):
                freezes.require_no_recovery(world, made, snapshot.snapshot_id)

    def _delete_snapshot(self) -> None:
        if taken := self.world.copies.snapshots:
            snapshot = self.chance.choice(taken)

            def call() -> bool:
                snapshots.delete(self._controller(), snapshot.id)
                return True

            self._attempt(f"delete-snapshot {snapshot.id}", call)

    def _copy(self, made: Volume) -> None:
        """Copy a volume, or one of the snapshots."""
        world = self.world
        taken, snapshot = world.copies.snapshots, None
        if taken and self.chance.random() < 0.6:
            snapshot = self.chance.choice(taken)
        asked = world.copies.ask_for_copy(snapshot.id if snapshot else made.id)
        if asked is None:
            return
        before = world.record(made)
        content = world.contents.of(made.id, before.rollbacks)
        call = copying(self._controller(), asked)
        if copy := self._attempt(f"copy {asked.source} {asked.name}", call):
            own = _present(content, before, world.record(made))
            world.contents.copied(copy.id, snapshot.taken.present if snapshot else own)
            world.created(asked.name, copy)

    def _roll_back(self) -> None:
        """Roll a volume back, after it was taken away from its node."""
        if not (candidates := self.rollbacks.candidates()):
            return
        snapshot = self.chance.choice(candidates)
        made = self.world.volume(snapshot.source)
        with self.rollbacks.reserved(made) as reserved:
            for _ in range(_ROLLBACKS if reserved else 0):
                for node in self.world.nodes:
                    if node.name in self.world.attachments(made):
                        for kind in _AWAY:
                            self._call(kind, made, node)
                if self.rollbacks.roll_back(made, snapshot, self.chance):
                    break

    def _some(self, name: str) -> Volume | None:
        """Return a volume of that name, mostly the newest."""
        volumes = self.world.volumes(name)
        if not volumes:
            return None
        late = self.chance.random() < _LATE
        made = self.chance.choice(volumes[-3:]) if late else volumes[-1]
        return dataclasses.replace(made)

    def _journey(self, name: str, node: Reached) -> None:
        """Take a volume to a node, use it, and mostly take it away again."""
        made = self.create(name)
        if made is None:
            return
        if not self._call("attach", made, node):
            if self.chance.random() < 0.5:
                return
            self._detach_elsewhere(made)
            self._call("attach", made, node)
        if not all(self._insist(kind, made, node) for kind in ("stage", "publish")):
            return
        for _ in range(self.chance.randrange(1, 20)):
            self._use_staged(made, node)
        ways = (
            _AWAY,
            ("detach",),
            (),
        )
        for kind in self.chance.choices(ways, (5, 2, 3))[0]:
            self._call(kind, made, node)
        if self.chance.random() < 0.2:
            self._call("delete", made, node)

    def _use_staged(self, made: Volume, node: Reached) -> None:
        if self.chance.random() < _FROZEN:
            self._snapshot(made, freeze=True)
        else:
            self._call(self.chance.choice(("write", "read")), made, node)

    def _insist(self, kind: str, made: Volume, node: Reached) -> bool:
        """Repeat a call as the kubelet does; return whether it succeeded."""
        for _ in range(_TRIES):
            if self._call(kind, made, node):
                return True
            if node.name not in self.world.attachments(made):
                return False
            time.sleep(self.chance.uniform(0, _PAUSE))
        return False

    def _detach_elsewhere(self, made: Volume) -> None:
        for node_id in self.world.attachments(made):
            call = functools.partial(volume.detach, self._controller(), made, node_id)
            self._attempt(f"detach {made.id} {node_id}", call)

    def _call(self, kind: str, made: Volume, node: Reached) -> bool:
        """Make a call; return whether it succeeded."""
        world, chance, pod = self.world, self.chance, self.chance.choice(_PODS)
        if kind in {"write", "read"}:
            return {"write": data.write, "read": data.read}[kind](world, made, node, pod, chance)
        copy = dataclasses.replace(made, publish_context=world.context(made, node.name))
        node_id = "" if kind == "detach" and chance.random() < 0.1 else node.name
        calls: dict[str, Callable[[], object]] = {
            "delete": functools.partial(volume.delete, self._controller(), copy),
            "attach": functools.partial(volume.attach, self._controller(), copy, node_id),
            "detach": functools.partial(volume.detach, self._controller(), copy, node_id),
            "stage": functools.partial(volume.stage, node, copy),
            "publish": functools.partial(volume.publish, node, copy, pod=pod),
            "unpublish": functools.partial(volume.unpublish, node, copy, pod=pod),
            "unstage": functools.partial(volume.unstage, node, copy),
            "grow": functools.partial(
                volume.expand, self._controller(), copy, chance.choice(_SIZES)
            ),
            "grow-at-node": functools.partial(volume.expand_on_node, node, copy),
        }

        def call() -> bool:
            calls[kind]()
            return True

        done = bool(self._attempt(f"{kind} {made.id} {node_id}", call))
        if done and kind == "attach":
            world.attached(copy, node.name)
        return done

    def _attempt(self, what: str, call: Callable[[], Answer]) -> Answer | None:
        """Make a call, now and then twice at once."""
        if self.chance.random() >= _TWICE:
            return self.world.attempt(what, call)
        second = self.twice.submit(self.world.attempt, what, call)
        first = self.world.attempt(what, call)
        return first or second.result()

    def _controller(self) -> Reached:
        return self.chance.choice(self.world.controllers)


def _present(content: Content | None, before: VolumeRecord, after: VolumeRecord) -> frozenset[str]:
    """Return the files that a volume had from one look at its record to the other."""
    return content.present if content and before.rollbacks == after.rollbacks else frozenset()
