"""A program that writes numbered records and syncs none of them, and what is left of them."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e import processes
from e2e.clusters import commands

_RECORD = 512  # bytes
_PROGRAM = """
import os, struct, sys, time
file, acknowledged = (os.open(path, os.O_RDWR | os.O_CREAT) for path in sys.argv[1:])
number = 0
while True:
    os.write(file, struct.pack("<Q", number) * 64)
    number += 1
    os.pwrite(acknowledged, struct.pack("<Q", number), 0)  # on the host's own disk
    time.sleep(0.001)
"""


@dataclass(frozen=True)
class Writer:
    """A process that writes; it is no thread, because what is frozen could not be interrupted."""

    acknowledgements: Path
    process: subprocess.Popen[bytes]

    def acknowledged(self) -> int:
        """Return how many records write(2) has acknowledged."""
        return int.from_bytes(self.acknowledgements.read_bytes()[:8], "little")

    def require_goes_on(self) -> None:
        """Return when another record is acknowledged."""
        before = self.acknowledged()
        commands.wait_until(lambda: self.acknowledged() > before + 1, "the writer goes on")

    def stop(self) -> int:
        """End the process; return how many records were acknowledged."""
        assert self.process.poll() is None, "the writer got an error"
        self.process.kill()
        self.process.wait()
        return self.acknowledged()


@contextlib.contextmanager
def writing(file: Path, directory: Path) -> Iterator[Writer]:
    """Write to the file during the body; at least one record is acknowledged before it.

    Args:
        file: on the volume.
        directory: for the number of acknowledged records.
    """
    acknowledgements = directory / "acknowledged"
    acknowledgements.write_bytes(b"")
    argv = (sys.executable, "-c", _PROGRAM, str(file), str(acknowledgements))
    writer = Writer(acknowledgements, processes.start(argv, subprocess.DEVNULL))
    try:
        writer.require_goes_on()
        yield writer
    finally:
        writer.process.kill()
        writer.process.wait()


def count(file: Path) -> int:
    """Return how many records are in the file without a gap, from the first one."""
    data = file.read_bytes() if file.exists() else b""
    for number in range(len(data) // _RECORD):
        record = data[number * _RECORD : (number + 1) * _RECORD]
        if record != number.to_bytes(8, "little") * (_RECORD // 8):
            return number
    return len(data) // _RECORD
