"""What a block device holds, found by reading it: blank, or the signature of something.

blkid's exit code 2 means "blank" and "unreadable" alike, and drivers that trusted it have made
file systems over live data. So nothing is called blank here but bytes that were read as zeroes.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.block import devices
from rbdcsi.runtime import deadlines

HEAD_BYTES = 4 << 20  # every file system, partition table and LUKS header begins in here
TAIL_BYTES = 1 << 20  # GPT's second table, RAID and ZFS labels
UNKNOWN = "unknown data"


@dataclass(frozen=True)
class Blank:
    """Every byte that was looked at was read and is zero."""


@dataclass(frozen=True)
class Signature:
    """Something is there: `fs_type` as blkid names it, or `unknown data`."""

    fs_type: str
    uuid: str | None = None


class DeviceUnreadable(errors.Failed):
    """The device did not give every byte that was asked for, so nothing is known of it."""


def content(device: Path, *, seconds: float) -> Blank | Signature:
    """Read the device and tell what is there; see `reading`."""
    with reading(device, seconds=seconds) as found:
        return found()


@contextlib.contextmanager
def reading(device: Path, *, seconds: float) -> Iterator[Callable[[], Blank | Signature]]:
    """Read the device's start and end, past the page cache, while the body does something else.

    What the body gets waits for the reads and tells what is there; the body's end waits for them,
    too, so that the device is free then.

    Raises:
        DeviceUnreadable: an error or a short read, anywhere.
        CommandTimedOut, CommandStuck: the device does not answer.
    """
    parts = ends(devices.size(device))
    if not parts:
        raise DeviceUnreadable(f"{device}: has no size, so nothing can be read of it")
    seconds = deadlines.remaining(seconds)
    with futures.ThreadPoolExecutor(len(parts)) as readers:
        zeros = [readers.submit(_is_zero, device, at, length, seconds) for at, length in parts]

        def found() -> Blank | Signature:
            # every part is read, whatever the first one holds: blkid says nothing of failed reads
            are_zero = [zero.result() for zero in zeros]
            return Blank() if all(are_zero) else _signature(device, seconds)

        yield found


def ends(size: int) -> list[tuple[int, int]]:
    """Return (offset, length) of what is read: head and tail, without overlap."""
    head = min(HEAD_BYTES, size)
    tail = min(TAIL_BYTES, size - head)
    return [(offset, length) for offset, length in ((0, head), (size - tail, tail)) if length]


def _is_zero(device: Path, offset: int, length: int, seconds: float) -> bool:
    found = _read(device, offset, length, seconds)
    if len(found) != length:
        raise DeviceUnreadable(
            f"{device}: {length} bytes at {offset} were asked for, {len(found)} came"
        )
    return found == bytes(length)  # compared as one; a loop over millions of bytes takes 30 ms


def _read(device: Path, offset: int, length: int, seconds: float) -> bytes:
    """Read with O_DIRECT in a child: in this thread, a device that hangs would hold it."""
    flags = "direct,fullblock,skip_bytes,count_bytes"
    argv = ("dd", f"if={device}", f"iflag={flags}", "bs=1M", f"skip={offset}", f"count={length}")
    try:
        return command.run((*argv, "status=none"), seconds=seconds).stdout
    except command.CommandFailed as error:
        raise DeviceUnreadable(
            f"{device}: {length} bytes at {offset} cannot be read, so it is not known what it "
            f"holds and it is left as it is: {error.stderr.strip()}"
        ) from error


def _signature(device: Path, seconds: float) -> Signature:
    argv = ("blkid", "-p", "-o", "export", "--", str(device))
    # 2: nothing that blkid knows (what was read is not zero, so it is data); 8: several at once
    completed = command.run(argv, seconds=seconds, ok=(0, 2, 8))
    found = dict(line.split("=", 1) for line in completed.text.splitlines() if "=" in line)
    fs_type = found.get("TYPE") or found.get("PTTYPE")
    return Signature(fs_type, found.get("UUID")) if fs_type else Signature(UNKNOWN)
