"""A Ceph user with its key."""

import re
from dataclasses import dataclass

from rbdcsi.config.secret import Secret

# Ceph's configuration, keyrings and krbd part fields by the signs that are left out.
_USER = re.compile(r"[^\s=,\[\]]+")


def user(text: str) -> str:
    """Return the name of a Ceph user without `client.`.

    Raises:
        ValueError: the text is not the name of a user.
    """
    name = text.removeprefix("client.")
    if not _USER.fullmatch(name):
        raise ValueError(f"{text!r} is not a Ceph user; give a name such as `rbdcsi`")
    return name


@dataclass(frozen=True)
class Credentials:
    """A Ceph user (without the leading `client.`) and its key, None where Ceph checks no keys."""

    user: str
    key: Secret | None
