"""Files of the kernel below /sys: read directly, written in a child with a deadline."""

import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from rbdcsi.config.secret import Secret
from rbdcsi.host import command

_WRITER = Path(__file__).with_name("write_once.py")


def read(file: Path) -> str | None:
    """Return the file's text without the line end; None if it, or its device, is not there."""
    try:
        return file.read_text().strip()
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENODEV}:
            return None
        raise


@dataclass(frozen=True)
class Key:
    """A Ceph key. The text for the kernel names it, as `key=NAME`, without the secret."""

    name: str
    secret: Secret


def write(file: Path, text: str, *, seconds: float, key: Key | None = None) -> None:
    """Write the text by one write(2), in a child. The child gets text and secret on its input.

    Args:
        file: a file below /sys.
        text: the text; it names the key, if there is one, as `key=NAME`.
        seconds: how long it may take.
        key: the key that the child puts into its keyring for the kernel. If the secret were in the
            text, every user could read it in the device's attribute config_info.

    Raises:
        OSError: the kernel refuses the write.
        CommandTimedOut, CommandStuck: the write did not end in time.
    """
    argv = [sys.executable, "-I", "-S", str(_WRITER), str(file)]
    if key:
        argv, text = [*argv, key.name], f"{key.secret.reveal()}\n{text}"
    step = f"writing to {file}"
    result = command.run(argv, seconds=seconds, stdin=text.encode(), ok=range(256), step=step)
    if result.exit_code:
        raise OSError(result.exit_code, os.strerror(result.exit_code), str(file))
