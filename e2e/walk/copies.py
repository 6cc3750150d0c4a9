"""The snapshots and copies of a walk, and what each of the snapshots must hold."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from e2e.walk.contents import Taken


@dataclass(frozen=True)
class Asked:
    """A snapshot or copy that somebody asked for; its call may not have been answered.

    Attributes:
        name: of the snapshot or of the copy.
        source: the id of the volume or snapshot.
        parameters: of the call.
    """

    name: str
    source: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that exists, or existed; `source` is the id of its volume."""

    id: str
    source: str
    taken: Taken


@dataclass
class Copies:
    """All snapshots and copies. Every method may be called from any thread."""

    most_snapshots: int
    most_copies: int
    _snapshots: dict[str, Asked] = field(default_factory=dict)
    _copies: dict[str, Asked] = field(default_factory=dict)
    _made: dict[str, Snapshot] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask_for_snapshot(self, source: str, *, freeze: bool) -> Asked | None:
        """Return a new snapshot's name and source; None if there are enough."""
        parameters = {"freeze": "true"} if freeze else {}
        with self._lock:
            if len(self._snapshots) >= self.most_snapshots:
                return None
            return self._ask(self._snapshots, "snapshot", source, parameters)

    def ask_for_copy(self, source: str) -> Asked | None:
        """Return a new copy's name and source; None if there are enough."""
        with self._lock:
            if len(self._copies) >= self.most_copies:
                return None
            return self._ask(self._copies, "copy", source, {})

    def made(self, asked: Asked, snapshot_id: str, taken: Taken) -> None:
        """Note that a snapshot was made."""
        with self._lock:
            self._made[asked.name] = Snapshot(snapshot_id, asked.source, taken)

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshots that were made; some may be deleted by now."""
        with self._lock:
            return list(self._made.values())

    @property
    def unanswered_snapshots(self) -> list[Asked]:
        """The snapshots that may have been made, or may be made yet."""
        with self._lock:
            return [asked for name, asked in self._snapshots.items() if name not in self._made]

    @property
    def copies(self) -> list[Asked]:
        """The copies that may have been made."""
        with self._lock:
            return list(self._copies.values())

    def _ask(
        self, every: dict[str, Asked], kind: str, source: str, parameters: Mapping[str, str]
    ) -> Asked:
        asked = Asked(f"{kind}-{len(every)}", source, parameters)
        every[asked.name] = asked
        return asked
