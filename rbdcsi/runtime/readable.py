"""Waits for a file that can be read, such as a pidfd, which can when its process has ended.

select(2) does not take descriptors above 1,023, and a process may have more files open.
"""

import select
from typing import IO


def wait_until_readable(file: int | IO[bytes], seconds: float | None) -> bool:
    """Wait until the file can be read, or is at its end; return whether it is by then.

    Args:
        file: a descriptor, or a file with one.
        seconds: the longest time to wait; None is no limit.
    """
    waiting = select.poll()
    waiting.register(file, select.POLLIN)
    return bool(waiting.poll(None if seconds is None else seconds * 1000))
