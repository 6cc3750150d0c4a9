"""The identity of this machine and of its current boot.

A node plugin's container shares neither /etc/machine-id nor a host name with its machine. So the
plugin keeps an id of its own in a directory that outlives a reboot, and adds the machine's hardware
id, by which a copy of the machine's disk is another machine.
"""

import contextlib
import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors

_FILE = "machine-id"
_HARDWARE = Path("/sys/class/dmi/id/product_uuid")  # absent on some machines
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # random(4): new at each boot


@dataclass(frozen=True)
class Machine:
    """A machine and one of its boots; an empty id is not known."""

    machine_id: str
    boot_id: str


def this_machine(directory: Path) -> Machine:
    """Return the identity of this machine, which is made at the first call.

    Args:
        directory: keeps the machine's id; it must outlive reboots. If it is lost, the machine
            counts as another one.

    Raises:
        ConfigError: the directory cannot be written.
    """
    try:
        own_id = _kept_id(directory / _FILE)
    except OSError as error:
        raise errors.ConfigError(
            f"{directory / _FILE}: the id of this machine cannot be kept here: {error.strerror}; "
            "put the socket (--endpoint) into a directory that the plugin can write and that "
            "outlives a reboot"
        ) from error
    digest = hashlib.blake2b(f"{own_id}\n{_hardware_id()}".encode(), digest_size=16)
    return Machine(digest.hexdigest(), _BOOT.read_text().strip())


def _kept_id(file: Path) -> str:
    """Return the id in the file, which appears with its whole text or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        draft = file.with_name(f"{_FILE}.{uuid.uuid4().hex}")
        with draft.open("w") as opened:
            opened.write(f"{uuid.uuid4()}\n")
            opened.flush()
            os.fsync(opened.fileno())  # otherwise a power loss may leave an empty file
        with contextlib.suppress(FileExistsError):  # another process was faster
            file.hardlink_to(draft)
        draft.unlink()
    return file.read_text().strip()


def _hardware_id() -> str:
    try:
        return _HARDWARE.read_text().strip()
    except OSError:
        return ""
