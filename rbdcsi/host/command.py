"""The one runner of host commands: every child has a deadline, its own session and the C locale.

It uses `subprocess.Popen`, because `subprocess.run(timeout=)` kills the child and then waits for it
without limit, so that a child in uninterruptible sleep (D state) blocks the thread.
"""

import os
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.runtime import deadlines

GRACE_SECONDS = 1.0  # SIGKILL takes effect at once, or only after the kernel ends a system call
_ENVIRONMENT = {
    "LC_ALL": "C",
    # mount(8) of util-linux 2.41 uses the newer system calls, which follow no link (its issue
    # 3474). Targets are passed to it as links, which mount(2) follows. Older versions ignore this.
    "LIBMOUNT_FORCE_MOUNT2": "always",
}
_PIPE_BYTES = 1 << 20  # `dd` writes MiBs; a pipe of the default 64 KiB takes 16 switches for each
STDERR_SHOWN = 800  # characters of stderr in an error message


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of a finished command."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """The standard output as text; bytes that are not UTF-8 become surrogates."""
        return self.stdout.decode(errors="surrogateescape")


class CommandFailed(errors.Failed):
    """The command ended with an unexpected exit code, or could not be started (127)."""

    def __init__(self, argv: Sequence[str], exit_code: int, stderr: str) -> None:
        self.argv, self.exit_code, self.stderr = tuple(argv), exit_code, stderr
        text = _shortened(stderr.strip()) or "nothing"
        super().__init__(f"{' '.join(argv)}: exit code {exit_code}; it said: {text}")


class CommandTimedOut(errors.DeadlineExceeded):
    """The command ran out of time; it was killed and has ended."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        self.argv, self.seconds = tuple(argv), seconds
        super().__init__(f"{' '.join(argv)}: not finished after {seconds:.1f} s, so it was killed")


class CommandStuck(errors.ChildStuck):
    """The command was killed and does not die; `started_at` is a value of `time.monotonic`."""

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[bytes], started_at: float):
        self.argv, self.started_at = tuple(argv), started_at
        super().__init__(
            f"{' '.join(argv)}: child {process.pid} has run for "
            f"{time.monotonic() - started_at:.0f} s and does not die when killed: it waits in the "
            f"kernel; `cat /proc/{process.pid}/stack` shows in which function",
            process,
        )


def run(
    argv: Sequence[str],
    *,
    seconds: float,
    stdin: bytes | None = None,
    pass_fds: Collection[int] = (),
    ok: Collection[int] = (0,),
) -> CommandResult:
    """Run a command to its end and return its exit code and output.

    Args:
        argv: the command and its arguments; never a secret, because every user can read them.
        seconds: how long it may take; the caller's own deadline shortens this.
        stdin: bytes for its standard input (a safe way for secrets); None is an empty input.
        pass_fds: descriptors that the child inherits under the same numbers.
        ok: the exit codes that are no error.

    Raises:
        CommandFailed: the exit code is not in `ok`, or the command could not be started.
        CommandTimedOut: the command ran out of time, was killed and has ended.
        CommandStuck: the command ran out of time and cannot be killed.
        DeadlineExceeded: the caller's time was over before the command started.
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
        output = stderr.strip() or stdout  # e2fsck writes its errors to standard output
        raise CommandFailed(argv, child.returncode, output.decode(errors="replace"))
    return CommandResult(child.returncode, stdout, stderr)


def _shortened(text: str) -> str:
    """Cut the middle out: most commands print the cause last, a crash before its long backtrace."""
    if len(text) <= STDERR_SHOWN:
        return text
    half = STDERR_SHOWN // 2
    return f"{text[:half]} […] {text[-half:]}"


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
    """Kill the child with its whole session; return False if it still runs after the grace."""
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
