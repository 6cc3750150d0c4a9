"""Files of the kernel under /sys: read as they are, written with a deadline."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from rbdcsi.config.secret import Secret
from rbdcsi.host import command

_WRITER = Path(__file__).with_name("write_once.py")


def read(file: Path) -> str | None:
    """Return the file's text without the end of line; None if this kernel does not have it."""
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Key:
    """A Ceph key that the kernel is told by its name, as `key=NAME` in what is written."""

    name: str
    secret: Secret


def write(file: Path, text: str, *, seconds: float, key: Key | None = None) -> None:
    """Write the text in one write(2), in a child; secrets are safe, they go through its input.

    Args:
        file: which file.
        text: what to write.
        seconds: how long it may take.
        key: the kernel finds it in the keyring of the child: else its secret would be shown to
            everybody who may read the device's attributes (config_info), for as long as it lives.

    Raises:
        OSError: what the kernel answers.
        CommandTimedOut, CommandStuck: it does not answer in time.
    """
    argv = [sys.executable, "-I", "-S", str(_WRITER), str(file)]
    if key:
        argv, text = [*argv, key.name], f"{key.secret.reveal()}\n{text}"
    done = command.run(argv, seconds=seconds, stdin=text.encode(), ok=range(256))
    if done.exit_code:
        raise OSError(done.exit_code, os.strerror(done.exit_code), str(file))
