"""The one runner of host commands: every child has a deadline, its own session and the C locale.

Relies on `subprocess.Popen`; not on `subprocess.run(timeout=)`, which kills the child and then
waits for it without limit, so that a child in uninterruptible sleep (D state) keeps the thread.
"""

import os
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.runtime import deadlines

GRACE_SECONDS = 1.0  # SIGKILL takes effect at once, or not before the kernel lets go
_ENVIRONMENT = {
    "LC_ALL": "C",
    # mount(8) of util-linux 2.41 takes the newer system calls and follows no link then (its issue
    # 3474); targets are links here, which mount(2) follows. Older versions do not know this.
    "LIBMOUNT_FORCE_MOUNT2": "always",
}
_PIPE_BYTES = 1 << 20  # `dd` hands over MiBs, which takes 16 switches each by the default of 64 KiB
STDERR_SHOWN = 800  # characters of stderr that an error carries


@dataclass(frozen=True)
class Completed:
    """What a finished command left behind."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Its output as text; what is not UTF-8 is kept by surrogates."""
        return self.stdout.decode(errors="surrogateescape")


class CommandFailed(errors.Failed):
    """The command ended with an exit code that was not expected, or could not be started (127)."""

    def __init__(self, argv: Sequence[str], exit_code: int, stderr: str) -> None:
        self.argv, self.exit_code, self.stderr = tuple(argv), exit_code, stderr
        said = _shortened(stderr.strip()) or "nothing"
        super().__init__(f"{' '.join(argv)}: exit code {exit_code}; it said: {said}")


class CommandTimedOut(errors.DeadlineExceeded):
    """The command ran longer than it may; it was killed and is gone."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        self.argv, self.seconds = tuple(argv), seconds
        super().__init__(f"{' '.join(argv)}: not finished after {seconds:.1f} s, so it was killed")


class CommandStuck(errors.ChildStuck):
    """The command was killed and does not die; `started_at` is on `time.monotonic`'s clock."""

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[bytes], started_at: float):
        self.argv, self.started_at = tuple(argv), started_at
        super().__init__(
            f"{' '.join(argv)}: child {process.pid} has run for "
            f"{time.monotonic() - started_at:.0f} s and does not die when killed, "
            f"the kernel holds it (`cat /proc/{process.pid}/stack` tells where)",
            process,
        )


def run(
    argv: Sequence[str],
    *,
    seconds: float,
    stdin: bytes | None = None,
    pass_fds: Collection[int] = (),
    ok: Collection[int] = (0,),
) -> Completed:
    """Run a command to its end and return what it printed.

    Args:
        argv: the command and its arguments; never a secret, every user can read them.
        seconds: how long it may take; the caller's own deadline shortens this.
        stdin: bytes for its standard input (secrets travel so); None is an empty input.
        pass_fds: descriptors that the child inherits under the same numbers.
        ok: exit codes that are no error.

    Raises:
        CommandFailed: another exit code than those in `ok`, or it could not be started.
        CommandTimedOut: it ran out of time, was killed and is gone.
        CommandStuck: it ran out of time and cannot be killed.
        DeadlineExceeded: the caller's time was over before it started.
    """
    seconds = deadlines.remaining(seconds)
    started_at = time.monotonic()
    child = _start(argv, stdin is not None, pass_fds)
    try:
        stdout, stderr = child.communicate(stdin, timeout=seconds)
    except subprocess.TimeoutExpired:
        if _killed(child):
            raise CommandTimedOut(argv, seconds) from None
        raise CommandStuck(argv, child, started_at) from None
    if child.returncode not in ok:
        said = stderr.strip() or stdout  # e2fsck complains on its standard output
        raise CommandFailed(argv, child.returncode, said.decode(errors="replace"))
    return Completed(child.returncode, stdout, stderr)


def _shortened(said: str) -> str:
    """Leave the middle out: most say the cause last, a crash before its long backtrace."""
    if len(said) <= STDERR_SHOWN:
        return said
    half = STDERR_SHOWN // 2
    return f"{said[:half]} […] {said[-half:]}"


def _start(
    argv: Sequence[str], has_input: bool, pass_fds: Collection[int]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,
            pipesize=_PIPE_BYTES,
            pass_fds=tuple(pass_fds),
        )
    except (OSError, ValueError) as error:  # ValueError: an argument with a NUL
        raise CommandFailed(argv, 127, f"cannot be started: {error}") from error


def _killed(child: subprocess.Popen[bytes]) -> bool:
    """Kill the child with its whole session; False when it is still there after the grace."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    finally:
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe:
                pipe.close()
    return True
