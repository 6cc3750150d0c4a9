"""Writes numbered records into a file, and reports each one that is durable.

    writer.py write FILE NAME    continues at the first slot without a record
    writer.py read FILE          prints the records as JSON: [[slot, name], ...]

It needs the standard library only. A record fills a slot of the file: the slot's number, the
writer's name and a checksum. All slots have been written before the first record, so a record
changes no metadata of the filesystem and goes straight to the device: two writers of one device
meet in the same bytes. Nothing that is read or written goes through the page cache.
"""

import hashlib
import json
import mmap
import os
import sys
import termios
import time

SLOTS = 4096
SIZE = 4096  # bytes of a slot
_PACE = 0.1  # seconds between two records: the slots last, and the machine has time for a move
_PIECE = 256  # slots that are read or made at once


def encode(name: str, slot: int) -> bytes:
    """Return a record's bytes."""
    facts = json.dumps([slot, name]).encode()
    return hashlib.blake2b(facts, digest_size=32).digest() + facts.ljust(SIZE - 32, b"\0")


def decode(content: bytes, slot: int) -> str | None:
    """Return the name of a slot's writer; None if the slot is empty, "damaged" if it is neither."""
    if not any(content):
        return None
    try:
        _, name = json.loads(content[32:].rstrip(b"\0"))
    except (ValueError, TypeError):
        return "damaged"
    return name if encode(name, slot) == content else "damaged"


def records(file: int) -> list[tuple[int, str]]:
    """Return slot and name of every record."""
    buffer = mmap.mmap(-1, SIZE * _PIECE)
    found = []
    for first in range(0, SLOTS, _PIECE):
        os.preadv(file, [buffer], first * SIZE)
        for slot in range(first, first + _PIECE):
            at = (slot - first) * SIZE
            if name := decode(buffer[at : at + SIZE], slot):
                found.append((slot, name))
    return found


def write(path: str, name: str) -> None:
    """Write records until no slot is left; report each, and each error."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_DSYNC)
    if os.fstat(file).st_size < SLOTS * SIZE:
        _make_slots(file)
    first = max((slot for slot, _ in records(file)), default=-1) + 1
    buffer = mmap.mmap(-1, SIZE)
    _report(f"begins {name} {first}")
    for slot in range(first, SLOTS):
        buffer[:] = encode(name, slot)
        try:
            os.pwritev(file, [buffer], slot * SIZE)
        except OSError as error:
            _report(f"refused {name} {slot} {os.strerror(error.errno or 0)}")
        else:
            _report(f"durable {name} {slot}")
        time.sleep(_PACE)


def _make_slots(file: int) -> None:
    empty = mmap.mmap(-1, SIZE * _PIECE)
    for first in range(0, SLOTS, _PIECE):
        os.pwritev(file, [empty], first * SIZE)
    os.fsync(file)


def _report(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # in one piece
    if os.isatty(1):
        termios.tcdrain(1)  # otherwise the terminal would keep the last reports to itself


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(*sys.argv[2:])
    else:
        print(json.dumps(records(os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECT))))
