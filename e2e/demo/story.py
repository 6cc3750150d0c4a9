"""The volume's way from one node to the other; each step is checked against what Ceph says."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from e2e import errors, volume
from e2e.clusters import commands
from e2e.demo.ceph import Ceph
from e2e.demo.screen import Screen
from e2e.driver import Driver
from e2e.volume import MIB, Volume
from rbdcsi.model import ids

_NAME, _SIZE = "demo", 256 * MIB
_FILE, _FILE_SIZE = "letter", 32 * MIB
_DELETE_SECONDS = 30.0


@dataclass(frozen=True)
class Story:
    """One volume, a controller, two nodes, and the Ceph they share."""

    controller: Driver
    nodes: tuple[Driver, Driver]
    ceph: Ceph
    screen: Screen

    def play(self) -> None:
        """Write a file at the first node, read it at the second, and delete the volume.

        Raises:
            Failed: something is not as it should be.
            grpc.RpcError: the driver refused a call that it should have served.
        """
        first, second = self.nodes
        made = self._create()
        self._attach(made, first)
        self._attach_while_held(made, second, holder=first)
        written = self._write(self._mount(made, first))
        self._unmount(made, first)
        self._detach(made, first)
        self._attach(made, second)
        self._read(self._mount(made, second), written)
        self._unmount(made, second)
        self._detach(made, second)
        self._delete(made)

    def _create(self) -> Volume:
        with self.screen.step("create") as note:
            made = volume.create(self.controller, _NAME, size=_SIZE)
            note.words = f"volume {made.id}"
        _require(_image(made) in self.ceph.images(), "Ceph does not list the image")
        return made

    def _attach(self, made: Volume, node: Driver) -> None:
        with self.screen.step(f"attach {node.name}") as note:
            volume.attach(self.controller, made, node.name)
            note.words = ", ".join(f"{key} {value}" for key, value in made.publish_context.items())
        holders = set(self.ceph.attachments(_image_id(made)))
        _require(holders == {node.name}, f"attached is {node.name}, recorded {holders}")

    def _attach_while_held(self, made: Volume, node: Driver, *, holder: Driver) -> None:
        with self.screen.step(f"attach {node.name} too?") as note:
            code, words = self._refusal(made, node)
            _require(code == "FAILED_PRECONDITION", f"a second writer got {code}: {words}")
            _require(holder.name in words, f"the refusal does not name {holder.name}: {words}")
            note.words = f"refused with {code}:"
        self.screen.quote(words)

    def _refusal(self, made: Volume, node: Driver) -> tuple[str, str]:
        try:
            volume.attach(self.controller, made, node.name)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        return "OK", ""

    def _mount(self, made: Volume, node: Driver) -> Path:
        with self.screen.step(f"stage {node.name}") as note:
            volume.stage(node, made)
            note.words = "mapped, filesystem made or checked, mounted"
        watchers = self.ceph.watchers(_image(made))
        held = self.ceph.attachments(_image_id(made))[node.name]
        _require(watchers == {held["client"]}, f"recorded {held['client']}, watching {watchers}")
        mark = self.ceph.metadata(_image(made), "rbdcsi.filesystem")
        _require("formatted" in mark, f"the image's metadata says {mark}")
        with self.screen.step(f"publish {node.name}") as note:
            target = volume.publish(node, made)
            note.words = f"at {target.relative_to(node.directory.parent)}"
        _require(target.is_mount(), f"nothing is mounted at {target}")
        return target

    def _write(self, target: Path) -> str:
        with self.screen.step("write a file") as note:
            data = os.urandom(_FILE_SIZE)
            with (target / _FILE).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            written = hashlib.sha256(data).hexdigest()
            note.words = f"{_FILE_SIZE // MIB} MiB and fsync, sha256 {written[:16]}..."
        return written

    def _read(self, target: Path, written: str) -> None:
        with self.screen.step("read it again") as note:
            read = hashlib.sha256((target / _FILE).read_bytes()).hexdigest()
            _require(read == written, f"written was sha256 {written}, read is {read}")
            note.words = f"the same sha256 {read[:16]}..."

    def _unmount(self, made: Volume, node: Driver) -> None:
        with self.screen.step(f"unpublish {node.name}"):
            volume.unpublish(node, made)
        with self.screen.step(f"unstage {node.name}"):
            volume.unstage(node, made)
        watchers = self.ceph.watchers(_image(made))
        _require(not watchers, f"the image is still open by {watchers}")

    def _detach(self, made: Volume, node: Driver) -> None:
        with self.screen.step(f"detach {node.name}"):
            volume.detach(self.controller, made, node.name)
        holders = set(self.ceph.attachments(_image_id(made)))
        _require(not holders, f"still attached to {holders}")

    def _delete(self, made: Volume) -> None:
        with self.screen.step("delete") as note:
            volume.delete(self.controller, made)
            note.words = "moved to the trash"
        _require(_image(made) not in self.ceph.images(), "Ceph still lists the image")
        with self.screen.step("its data is gone") as note:
            commands.wait_until(self.ceph.trash_is_empty, "empty trash", _DELETE_SECONDS)
            note.words = "removed in the background"


def _require(fact: bool, otherwise: str) -> None:
    if not fact:
        raise errors.Failed(otherwise)


def _image(made: Volume) -> str:
    return made.context["imageName"]


def _image_id(made: Volume) -> str:
    return ids.parse(made.id).image_id
