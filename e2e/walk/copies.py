"""The snapshots and copies of a walk, and what each of them must hold.

A snapshot holds at least the files whose writes were acknowledged before the first call that asked
for it. A copy of it holds the same, and a copy of a volume what was acknowledged before its call.
"""

import threading
from dataclasses import dataclass, field

from e2e.volume import Volume


@dataclass(frozen=True)
class Asked:
    """A snapshot or copy that somebody asked for; its call may not have been answered.

    Attributes:
        name: of the snapshot or of the copy.
        source: the id of the volume or snapshot.
        tokens: the files that it must hold.
    """

    name: str
    source: str
    tokens: frozenset[str]


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that exists, or existed."""

    id: str
    tokens: frozenset[str]


@dataclass
class Copies:
    """All snapshots and copies. Every method may be called from any thread."""

    most: int
    _snapshots: dict[str, Asked] = field(default_factory=dict)
    _copies: dict[str, Asked] = field(default_factory=dict)
    _made: dict[str, Snapshot] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask_for_snapshot(self, volume: Volume, tokens: set[str]) -> Asked | None:
        """Return a new snapshot's name and source; None if there are enough."""
        with self._lock:
            return self._ask(self._snapshots, "snapshot", volume.id, frozenset(tokens))

    def ask_for_copy(self, source: str, tokens: frozenset[str]) -> Asked | None:
        """Return a new copy's name and source; None if there are enough."""
        with self._lock:
            return self._ask(self._copies, "copy", source, tokens)

    def made(self, asked: Asked, snapshot_id: str) -> None:
        """Note that a snapshot was made."""
        with self._lock:
            self._made[asked.name] = Snapshot(snapshot_id, asked.tokens)

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
        self, every: dict[str, Asked], kind: str, source: str, tokens: frozenset[str]
    ) -> Asked | None:
        if len(every) >= self.most:
            return None
        asked = Asked(f"{kind}-{len(every)}", source, tokens)
        every[asked.name] = asked
        return asked
