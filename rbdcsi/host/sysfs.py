"""Files of the kernel under /sys: read as they are, written with a deadline."""

import os
import sys
from pathlib import Path

from rbdcsi.host import command

_WRITER = Path(__file__).with_name("write_once.py")


def read(file: Path) -> str | None:
    """Return the file's text without the end of line; None if this kernel does not have it."""
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return None


def write(file: Path, text: str, *, seconds: float) -> None:
    """Write the text in one write(2), in a child; secrets are safe, they go through its input.

    Raises:
        OSError: what the kernel answers.
        CommandTimedOut, CommandStuck: it does not answer in time.
    """
    argv = (sys.executable, "-I", "-S", str(_WRITER), str(file))
    done = command.run(argv, seconds=seconds, stdin=text.encode(), ok=range(256))
    if done.exit_code:
        raise OSError(done.exit_code, os.strerror(done.exit_code), str(file))
