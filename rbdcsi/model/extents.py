"""Ranges of bytes of an image: in order, without overlap, found piece by piece."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

Extent: TypeAlias = tuple[int, int]  # offset and length in bytes; a length is never 0


class TouchedPieces:
    """The pieces of an image that extents touch, and of each the part from first to last byte.

    Memory goes by the number of touched pieces, however many extents there are.
    """

    def __init__(self, piece_bytes: int) -> None:
        self._piece_bytes = piece_bytes
        self._parts: dict[int, Extent] = {}

    def add(self, offset: int, length: int) -> None:
        """Add an extent; they come in any order."""
        end = offset + length
        while offset < end:
            piece = offset // self._piece_bytes
            upto = min(end, (piece + 1) * self._piece_bytes)
            first, size = self._parts.get(piece, (offset, 0))
            last = max(first + size, upto)
            first = min(first, offset)
            self._parts[piece] = (first, last - first)
            offset = upto

    def parts(self) -> list[Extent]:
        """Return the touched part of each piece, in ascending order."""
        return [self._parts[piece] for piece in sorted(self._parts)]


def windows(start: int, end: int, most: int) -> Iterator[Extent]:
    """Yield the extents that make up the range, each of at most so many bytes."""
    for offset in range(start, end, most):
        yield offset, min(most, end - offset)


def merged(extents: Iterable[Extent]) -> list[Extent]:
    """Return extents that cover the same bytes, in ascending order, none touching the next."""
    result: list[Extent] = []
    for offset, length in sorted(extents):
        if result and offset <= sum(result[-1]):
            first, size = result[-1]
            result[-1] = (first, max(first + size, offset + length) - first)
        else:
            result.append((offset, length))
    return result


def joined(extents: Iterable[Extent], gap: int) -> list[Extent]:
    """Return ascending extents, those with less than `gap` bytes between them joined to one."""
    result: list[Extent] = []
    for offset, length in extents:
        if result and offset - sum(result[-1]) < gap:
            first, _ = result[-1]
            result[-1] = (first, offset + length - first)
        else:
            result.append((offset, length))
    return result


def common(extent: Extent, start: int, end: int) -> list[Extent]:
    """Return the part of the extent from `start` to `end`, an empty list if there is none."""
    first, last = max(extent[0], start), min(sum(extent), end)
    return [(first, last - first)] if first < last else []


def parts(extents: Sequence[Extent], most: int) -> Iterator[Sequence[Extent]]:
    """Yield the extents in lists of at most so many."""
    for index in range(0, len(extents), most):
        yield extents[index : index + most]
