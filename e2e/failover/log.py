"""Pure: what a writer reported, what a reader found, and whether the one fits the other."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_LINE = re.compile(r"(durable|refused) (\S+) (\d+)")


@dataclass(frozen=True)
class Reported:
    """The slots that a writer reported, in order: durable ones, and those that it was refused."""

    durable: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()


def reported(text: str, name: str) -> Reported:
    """Return what the writer of that name reported in a text, which may have other lines, too."""
    slots: dict[str, list[int]] = {"durable": [], "refused": []}
    for what, writer, slot in _LINE.findall(text):
        if writer == name:
            slots[what].append(int(slot))
    return Reported(tuple(slots["durable"]), tuple(slots["refused"]))


def faults(found: Mapping[int, str], old: tuple[str, Reported], new: tuple[str, Reported]) -> str:
    """Return what is wrong with the records, in words, a line each; empty if nothing is.

    Every durable record is there. Beyond them, each writer may have one record whose report was cut
    off: the old writer in the slot after its last durable one, the new one likewise.

    Args:
        found: the name by slot, as read.
        old: name and reports of the writer that was there first.
        new: name and reports of the one after the move.
    """
    return "\n".join([*_lost(found, *old), *_lost(found, *new), *_unexplained(found, (old, new))])


def _lost(found: Mapping[int, str], name: str, said: Reported) -> Iterable[str]:
    for slot in said.durable:
        if found.get(slot) != name:
            yield f"slot {slot}: the durable record of {name} is lost, found {found.get(slot)}"


def _unexplained(
    found: Mapping[int, str], writers: Iterable[tuple[str, Reported]]
) -> Iterable[str]:
    allowed = {
        (slot, name)
        for name, said in writers
        for slot in (*said.durable, max(said.durable, default=-1) + 1)
    }
    for slot, name in sorted(found.items() - {(slot, name) for slot, name in allowed}):
        yield f"slot {slot}: has a record of {name} that was not reported"
