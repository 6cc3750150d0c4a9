"""Ctrl-C, a kind kill and a closed terminal end the demo in one way: after the step under way.

A signal is only noted. An exception out of a handler could come between the making of a directory
and the note that it has to be removed.
"""

import signal
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_noted: list[str] = []


class Interrupted(Exception):
    """Somebody wants the demo to end; the text is the signal's name."""


def listen() -> None:
    """Note the signals from now on."""
    for number in _ENDING:
        signal.signal(number, _note)


def check() -> None:
    """Raise Interrupted if a signal was noted."""
    if _noted:
        raise Interrupted(_noted[0])


def noted() -> str:
    """Return the name of the first signal that was noted, empty for none."""
    return _noted[0] if _noted else ""


def _note(number: int, _frame: FrameType | None) -> None:
    _noted.append(signal.Signals(number).name)
