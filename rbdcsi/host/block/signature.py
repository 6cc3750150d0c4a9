"""The content of a block device, found by reading it: blank, or with a signature.

blkid has the same exit code, 2, for a blank and for an unreadable device. Drivers that trusted it
have made filesystems over live data. This module calls a device blank only if the bytes at its
start and end were read and are zero.
"""

import contextlib
from collections.abc import Collection, Iterator
from concurrent import futures
from dataclasses import dataclass, field, replace
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.block import devices
from rbdcsi.host.kernel import memfd
from rbdcsi.model import superblocks
from rbdcsi.runtime import deadlines
from rbdcsi.runtime.futures import Future

HEAD_BYTES = 1 << 20  # every filesystem, partition table and LUKS header begins in this part
TAIL_BYTES = 512 << 10  # GPT's second table, RAID and ZFS labels
UNKNOWN = "unknown data"
_BTRFS_SUPERBLOCK = 64 << 10
_BTRFS_LOG_ROOT = slice(0x60, 0x68)


@dataclass(frozen=True)
class BlankContent:
    """The content of a device whose start and end were read and are zero."""

    def __str__(self) -> str:
        return "blank"


@dataclass(frozen=True)
class Signature:
    """The content of a device with data: `fs_type` is blkid's name for it, or `unknown data`.

    `unused` is the number of bytes by which its filesystem can grow, None if that is not known.
    """

    fs_type: str
    uuid: str | None = None
    unused: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.fs_type}, UUID {self.uuid}" if self.uuid else self.fs_type


Content = BlankContent | Signature


class DeviceUnreadable(errors.Failed):
    """The device did not return every byte that was asked for, so its content is not known."""


def content(device: Path, *, seconds: float) -> Content:
    """Read the device and return its content; see `reading`."""
    with reading(device, seconds=seconds) as future:
        return future.result()


def content_of_parts(size: int, parts: Collection[tuple[int, bytes]], *, seconds: float) -> Content:
    """Return the content of a device that is not mapped here, see `content`.

    Args:
        size: of the device, in bytes.
        parts: offset and bytes of each part of `ends`.
        seconds: how long it may take.
    """
    if all(data == bytes(len(data)) for _, data in parts):
        return BlankContent()
    with memfd.sparse(size, parts) as fd:
        return _signature(Path(memfd.path(fd)), seconds, pass_fds=(fd,))


def has(device: Path, fs_type: str, *, seconds: float) -> bool:
    """Return whether the device has a valid superblock of that filesystem, whatever else it has.

    Args:
        device: the block device.
        fs_type: blkid's name of the filesystem.
        seconds: how long it may take.
    """
    argv = ("blkid", "-p", "-n", fs_type, "-s", "TYPE", "-o", "value", "--", str(device))
    result = command.run(argv, seconds=seconds, step=f"looking at {device}", ok=(0, 2, 8))
    return result.text.strip() == fs_type


def has_btrfs_log(device: Path, *, seconds: float) -> bool:
    """Return whether a btrfs has a log that its next mount must replay.

    It is the field log_root of the superblock (btrfs documentation, on-disk format).

    Args:
        device: the block device.
        seconds: how long it may take.

    Raises:
        DeviceUnreadable: the superblock could not be read.
    """
    superblock = read(device, _BTRFS_SUPERBLOCK, 4096, seconds)
    return any(superblock[_BTRFS_LOG_ROOT])


def unused_bytes(device: Path, fs_type: str, *, seconds: float) -> int | None:
    """Return the bytes by which the device's filesystem can grow, as its superblock on disk says.

    A mounted filesystem may have a newer superblock in memory, and be larger than this says.

    Args:
        device: the block device.
        fs_type: its filesystem.
        seconds: how long it may take.

    Returns:
        None if there is no superblock of that filesystem.

    Raises:
        DeviceUnreadable: the superblock could not be read.
    """
    size = devices.size(device)
    head = read(device, 0, min(superblocks.HEAD_BYTES, size), seconds)
    return superblocks.unused_bytes(fs_type, head, size)


@contextlib.contextmanager
def reading(device: Path, *, seconds: float) -> Iterator[Future[Content]]:
    """Read the device's start and end with direct I/O while the body runs.

    Yields the future of the content. Leaving the body waits for the reads, so that the device is
    no longer open.

    Raises:
        DeviceUnreadable: a part could not be read, or not in full.
        CommandTimedOut, CommandStuck: the device does not answer.
    """
    size = devices.size(device)
    parts = ends(size)
    if not parts:
        raise DeviceUnreadable(
            f"{device}: has a size of 0 bytes, so its content cannot be read; check the image's "
            "size with `rbd info`"
        )
    seconds = deadlines.remaining(seconds)
    with futures.ThreadPoolExecutor(len(parts)) as readers:
        reads = [readers.submit(_part, device, offset, length, seconds) for offset, length in parts]

        def result() -> Content:
            # Wait for every part before blkid runs: blkid does not report failed reads.
            heads = [read.result() for read in reads]
            if not any(heads):
                return BlankContent()
            content = _signature(device, seconds)
            unused = superblocks.unused_bytes(content.fs_type, heads[0], size)
            return replace(content, unused=unused)

        yield Future(result)


def ends(size: int) -> list[tuple[int, int]]:
    """Return (offset, length) of the parts that are read: head and tail, without overlap."""
    head = min(HEAD_BYTES, size)
    tail = min(TAIL_BYTES, size - head)
    return [(offset, length) for offset, length in ((0, head), (size - tail, tail)) if length]


def _part(device: Path, offset: int, length: int, seconds: float) -> bytes:
    """Return the begin of a part, nothing if the whole part is zero."""
    data = read(device, offset, length, seconds)
    if len(data) != length:
        raise DeviceUnreadable(
            f"{device}: a read of {length} bytes at {offset} returned {len(data)}, so its content "
            "is not known and it is left as it is; check the device with `dmesg`"
        )
    if data == bytes(length):  # compared as one; a loop over millions of bytes takes 30 ms
        return b""
    return data[: superblocks.HEAD_BYTES]


def read(device: Path, offset: int, length: int, seconds: float) -> bytes:
    """Read with O_DIRECT in a child, because a device that hangs would block this thread.

    Args:
        device: the block device.
        offset: of the part, in bytes.
        length: of the part, in bytes.
        seconds: how long it may take.

    Raises:
        DeviceUnreadable: the part could not be read.
    """
    flags = "direct,fullblock,skip_bytes,count_bytes"
    part = (f"bs={length}", f"skip={offset}", f"count={length}")
    argv = ("dd", f"if={device}", f"iflag={flags}", *part, "status=none")
    try:
        step = f"reading {device}"
        return command.run(argv, seconds=seconds, step=step, outlives_plugin=True).stdout
    except command.CommandFailed as error:
        raise DeviceUnreadable(
            f"{device}: {length} bytes at {offset} cannot be read, so its content is not known and "
            f"it is left as it is: {error.stderr.strip()}"
        ) from error


def _signature(device: Path, seconds: float, pass_fds: Collection[int] = ()) -> Signature:
    argv = ("blkid", "-p", "-o", "export", "--", str(device))
    # 2: no signature known to blkid (the device is not zero, so it has data); 8: several signatures
    step = f"looking at {device}"
    result = command.run(argv, seconds=seconds, step=step, pass_fds=pass_fds, ok=(0, 2, 8))
    fields = dict(line.split("=", 1) for line in result.text.splitlines() if "=" in line)
    fs_type = fields.get("TYPE") or fields.get("PTTYPE")
    return Signature(fs_type, fields.get("UUID")) if fs_type else Signature(UNKNOWN)
