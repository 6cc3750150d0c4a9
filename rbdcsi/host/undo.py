"""Undo after a failed step: has time of its own, and never hides the fault that it follows."""

import contextlib
from collections.abc import Iterator

from rbdcsi import errors
from rbdcsi.runtime import deadlines

UNDO_SECONDS = 10.0  # the caller's time may be what ran out


@contextlib.contextmanager
def after(fault: BaseException, what: str) -> Iterator[None]:
    """Run the body as the undo named `what`; its own error becomes a note of the fault."""
    with deadlines.within(UNDO_SECONDS):
        try:
            yield
        except errors.RbdCsiError as error:
            fault.add_note(f"{what} failed too: {error}")
