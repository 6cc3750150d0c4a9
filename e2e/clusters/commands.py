"""Runs the command line tools of Ceph, always with a time limit, and waits for facts."""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from e2e import errors

PAUSE = 0.1  # seconds between two looks at a fact that sends no event
# The driver's background work looks again after 60 s, Ceph drops a killed client after 30 s.
SECONDS = 120.0


def run(argv: Sequence[str | Path], timeout: float = 60) -> str:
    """Run a tool to its end and return its standard output.

    Args:
        argv: program and arguments; never a secret, others can read them.
        timeout: seconds, then the tool is killed.

    Raises:
        Unavailable: the program is not installed.
        DeadlineExceeded: it did not end in time.
        Failed: it ended with another exit code than 0.
    """
    words = [str(word) for word in argv]
    line = " ".join(words)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise errors.Unavailable(
            f"{words[0]} is not installed: tools/packages.sh lists the packages"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise errors.DeadlineExceeded(
            f"`{line}` did not end within {timeout:g} s: does Ceph answer?"
        ) from error
    if done.returncode:
        raise errors.Failed(f"`{line}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def sync(path: Path) -> None:
    """Write out the file system of that path; `os.sync` would wait for those of other runs, too."""
    run(["sync", "--file-system", path])


def wait_until(
    fact: Callable[[], bool], what: str, timeout: float = SECONDS, pause: float = PAUSE
) -> None:
    """Return as soon as `fact()` is true.

    Args:
        fact: looks at the world; its own errors pass through.
        what: the fact in words, for the error.
        timeout: seconds.
        pause: seconds between two looks.

    Raises:
        DeadlineExceeded: the fact did not come true.
    """
    ends_at = time.monotonic() + timeout
    while not fact():
        if time.monotonic() > ends_at:
            raise errors.DeadlineExceeded(f"waited {timeout:g} s in vain: {what}")
        time.sleep(pause)
