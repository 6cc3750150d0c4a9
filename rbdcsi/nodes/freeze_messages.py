"""The messages by which a controller has a node's plugin freeze and thaw a volume's filesystem.

They travel in the notifications of presence.py. A plugin answers at once with the state so far, and
the controller repeats its order until that is final: an order that comes twice changes nothing.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Kubernetes asks a Pod every 10 s whether it lives, and ends it after several wrong answers: so of
# these at most one meets a frozen filesystem. The kernel reports a task that waits for 120 s.
FROZEN_SECONDS = 5.0


class FreezeState(enum.Enum):
    """How far a freeze is."""

    FREEZING = "freezing"  # the filesystem is being written out
    FROZEN = "frozen"  # nothing changes until it is thawed
    HELD = "held"  # it was thawed by order, and was frozen until then
    LOST = "lost"  # it is thawed, and was before the order came
    BUSY = "busy"  # another call works on the volume; nothing was frozen
    REFUSED = "refused"  # nothing was frozen, and a person must change something first


@dataclass(frozen=True)
class FreezeOrder:
    """Freeze the filesystem of a volume, or thaw it again; `token` is of one freeze."""

    volume: str
    token: str
    thaw: bool = False

    def encode(self) -> Mapping[str, Any]:
        """Return the order as JSON's values."""
        return {"volume": self.volume, "token": self.token, "thaw": self.thaw}


@dataclass(frozen=True)
class FreezeAnswer:
    """The state of a freeze; `message` says why nothing was frozen, or why it was not held."""

    state: FreezeState
    message: str = ""

    def encode(self) -> Mapping[str, Any]:
        """Return the answer as JSON's values."""
        return {"state": self.state.value, "message": self.message}


def order(value: Any) -> FreezeOrder | None:
    """Return the order with these values of JSON, None if there is none.

    Raises:
        KeyError, TypeError: a value is missing, or is not an object.
    """
    return None if value is None else FreezeOrder(value["volume"], value["token"], value["thaw"])


def answer(value: Any) -> FreezeAnswer | None:
    """Return the answer with these values of JSON, None if there is none.

    Raises:
        KeyError, TypeError, ValueError: a value is missing or unknown, or is not an object.
    """
    return None if value is None else FreezeAnswer(FreezeState(value["state"]), value["message"])
