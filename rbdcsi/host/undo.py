"""Undo after a failed step: it has time of its own, and its error never replaces the step's."""

import contextlib
from collections.abc import Iterator

from rbdcsi import errors
from rbdcsi.runtime import deadlines

UNDO_SECONDS = 10.0  # the call's own time may be over already


@contextlib.contextmanager
def after(fault: BaseException, action: str) -> Iterator[None]:
    """Run the body as the undo called `action`; an error of the body becomes a note of the fault.

    Args:
        fault: the error that made the undo necessary.
        action: the undo's name in the note: "unmapping /dev/rbd0 again".

    Raises:
        ChildStuck: a child of the undo does not die: the volume must stay locked while it lives.
    """
    with deadlines.within(UNDO_SECONDS):
        try:
            yield
        except errors.ChildStuck as error:
            raise errors.ChildStuck(
                f"{fault}; {action} failed too: {error}", error.child
            ) from fault
        except errors.RbdCsiError as error:
            fault.add_note(f"{action} failed too: {error}")
