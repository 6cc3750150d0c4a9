"""What each volume of a walk must hold, and what it must not hold.

Files are never removed, so a volume only gains files until it is rolled back. Its record counts the
rollbacks that began; so a write, a read or a snapshot belongs to one number if the record has the
same number before and after. What a volume holds is known for each of its numbers.
"""

import threading
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Content:
    """Files by their tokens; there may be others.

    Attributes:
        present: it has all of these.
        absent: it has none of these.
    """

    present: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Taken:
    """What a snapshot holds.

    Attributes:
        present: it has all of these files.
        begun: it has none but these.
    """

    present: frozenset[str] = frozenset()
    begun: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Base:
    """What a volume held after a rollback: a snapshot's files, or perhaps what it had before."""

    taken: Taken
    perhaps: int | None = None  # the number that it had before


_Key = tuple[str, int]  # a volume's id, and its number of rollbacks


@dataclass
class Contents:
    """The contents of all volumes. Every method may be called from any thread."""

    _begun: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _written: dict[_Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    _acknowledged: dict[_Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    _bases: dict[_Key, _Base] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, volume: str, token: str) -> None:
        """Note a write that is about to begin."""
        with self._lock:
            self._begun[volume].add(token)

    def written(self, volume: str, rollbacks: int, token: str, *, acknowledged: bool) -> None:
        """Note a write that has ended while the volume had this number of rollbacks."""
        with self._lock:
            self._written[volume, rollbacks].add(token)
            if acknowledged:
                self._acknowledged[volume, rollbacks].add(token)

    def begun(self, volume: str) -> frozenset[str]:
        """Return the files of all writes that have begun."""
        with self._lock:
            return frozenset(self._begun[volume])

    def copied(self, volume: str, present: frozenset[str]) -> None:
        """Note what a new copy holds."""
        with self._lock:
            self._bases[volume, 0] = _Base(Taken(present))

    def rolled_back(
        self, volume: str, rollbacks: int, taken: Taken, *, perhaps: int | None = None
    ) -> None:
        """Note a rollback.

        Args:
            volume: the volume's id.
            rollbacks: its number since.
            taken: what the snapshot holds.
            perhaps: its number before, if the rollback may have changed nothing.
        """
        with self._lock:
            self._bases[volume, rollbacks] = _Base(taken, perhaps)

    def of(self, volume: str, rollbacks: int) -> Content | None:
        """Return what a volume holds with this number of rollbacks; None if that is not known."""
        with self._lock:
            return self._of(volume, rollbacks)

    def _of(self, volume: str, rollbacks: int) -> Content | None:
        base = self._bases.get((volume, rollbacks), None if rollbacks else _Base(Taken()))
        if base is None:
            return None
        earlier = (
            tokens
            for (each, number), tokens in self._written.items()
            if each == volume and number < rollbacks
        )
        content = Content(base.taken.present, frozenset().union(*earlier) - base.taken.begun)
        if base.perhaps is not None:
            before = self._of(volume, base.perhaps)
            if before is None:
                return None
            content = Content(content.present & before.present, content.absent & before.absent)
        return Content(content.present | self._acknowledged[volume, rollbacks], content.absent)
