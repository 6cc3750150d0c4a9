"""A Ceph user with its key."""

from dataclasses import dataclass

from rbdcsi.config.secret import Secret


@dataclass(frozen=True)
class Credentials:
    """A Ceph user (without the leading `client.`) and its key."""

    user: str
    key: Secret
