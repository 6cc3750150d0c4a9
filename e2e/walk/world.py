"""What the callers of a walk share. Every method may be called from any thread."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc
import rados

from e2e.driver import CHANNEL_OPTIONS, Driver
from e2e.pool import PoolView
from e2e.volume import Volume
from e2e.walk.contents import Contents
from e2e.walk.copies import Copies
from rbdcsi.api import csi_pb2_grpc
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.attachments.store import Records

_SECONDS = 60.0  # for one call
# A call may be refused, or its driver may have died. It must not fail otherwise.
_REFUSALS = {
    "ABORTED",
    "ALREADY_EXISTS",
    "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION",
    "NOT_FOUND",
    "UNAVAILABLE",
}

_OVERTAKEN = ("Input/output error", "can't read superblock", "error reading header")

_Answer = TypeVar("_Answer")


class _Deadline(grpc.UnaryUnaryClientInterceptor):
    """Gives each call a deadline."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(timeout=details.timeout or _SECONDS), request)


class Reached:
    """A driver by its socket, through a channel that outlives the driver's process."""

    def __init__(self, driver: Driver) -> None:
        self.name = driver.name
        self.kubelet = driver.kubelet
        self.directory = driver.directory
        self._channel = grpc.insecure_channel(f"unix:{driver.socket}", options=CHANNEL_OPTIONS)
        channel = grpc.intercept_channel(self._channel, _Deadline())
        self.controller = csi_pb2_grpc.ControllerStub(channel)
        self.node = csi_pb2_grpc.NodeStub(channel)

    def make_directory(self, path: Path) -> None:
        """See Node.make_directory."""
        path.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


@dataclass
class World(PoolView):
    """The drivers and the pool, and what the callers know.

    Attributes:
        controllers: of the driver.
        nodes: of the driver.
        ioctx: of the pool that is the home location.
        names: of all volumes that are no copies.
        copies: the snapshots, and the volumes that are copies.
        log: the file that takes each call.
        contents: what each volume must hold.
        troubles: what is wrong, in words.
        outcomes: how often each call ended in each way.
    """

    controllers: Sequence[Reached]
    nodes: Sequence[Reached]
    ioctx: rados.Ioctx
    names: Sequence[str]
    copies: Copies
    log: Path
    contents: Contents = field(default_factory=Contents)
    troubles: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    _volumes: dict[str, list[Volume]] = field(default_factory=lambda: defaultdict(list))
    _contexts: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _begun: float = field(default_factory=time.monotonic)

    def volumes(self, name: str) -> list[Volume]:
        """Return all volumes that a name ever had, the newest last."""
        with self._lock:
            return list(self._volumes[name])

    def created(self, name: str, volume: Volume) -> None:
        """Note a volume that was created."""
        with self._lock:
            if all(each.id != volume.id for each in self._volumes[name]):
                self._volumes[name].append(volume)

    def context(self, volume: Volume, node: str) -> dict[str, str]:
        """Return the latest publish_context of a volume at a node; by guess if there is none."""
        with self._lock:
            return self._contexts.get((volume.id, node), {"generation": "1"})

    def attached(self, volume: Volume, node: str) -> None:
        """Note the publish_context of a volume at a node."""
        with self._lock:
            self._contexts[volume.id, node] = dict(volume.publish_context)

    def volume(self, volume_id: str) -> Volume:
        """Return the volume with that id."""
        with self._lock:
            every = (each for volumes in self._volumes.values() for each in volumes)
            return next(each for each in every if each.id == volume_id)

    def record(self, volume: Volume) -> VolumeRecord:
        """Return the volume's record; it is trouble if two nodes have it attached."""
        record = Records(self.ioctx).get(self.image_id(volume))
        if len(record.attachments) > 1:
            self.trouble(f"{volume.id} is attached to {', '.join(record.attachments)} at once")
        return record

    def attempt(self, what: str, call: Callable[[], _Answer]) -> _Answer | None:
        """Make a call and note how it ended; None if it was refused.

        Args:
            what: the call's name, then of whom and where.
            call: makes it.
        """
        try:
            answer = call()
        except grpc.RpcError as error:
            failed = cast(grpc.Call, error)
            code, details = failed.code().name, failed.details() or ""
            self.note(f"{what}: {code}: {details[:500]}")
            if code not in _REFUSALS and not _is_late(code, details):
                self.trouble(f"{what} ended with {code}: {details}")
            self.count(f"{what.split()[0]} {code}")
            return None
        self.note(f"{what}: OK")
        self.count(f"{what.split()[0]} OK")
        return answer

    def trouble(self, text: str) -> None:
        """Note that something is wrong."""
        self.note(f"TROUBLE {text}")
        with self._lock:
            self.troubles.append(f"after {time.monotonic() - self._begun:.2f} s: {text}")

    def note(self, line: str) -> None:
        """Write a line to the log."""
        thread = threading.current_thread().name
        line = f"{time.monotonic() - self._begun:.3f} {thread} {line}\n"
        with self._lock, self.log.open("a") as log:
            log.write(line)

    def count(self, outcome: str) -> None:
        """Count an outcome."""
        with self._lock:
            self.outcomes[outcome] += 1


def _is_late(code: str, details: str) -> bool:
    """Return whether a stage was overtaken: its device was fenced, or its image deleted."""
    return code == "INTERNAL" and any(words in details for words in _OVERTAKEN)
