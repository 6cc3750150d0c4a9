"""The one runner of host commands: every child has a deadline, its own session and the C locale.

It uses `subprocess.Popen`, because `subprocess.run(timeout=)` kills the child and then waits for it
without limit, so that a child in uninterruptible sleep (D state) blocks the thread.

A child dies with the plugin, so that it does not change a device that the next plugin works on. The
kernel sends the signal when the *thread* that started the child ends (prctl(2), PR_SET_PDEATHSIG),
and `run` returns only after its child. Of a child that outlives its call, see `host/lasting.py`.
The thread may end before setpriv(1) has asked for the signal. So setpriv starts the program by a
path through /proc/PID/task/TID/root: an ending thread loses its root directory before the kernel
signals its children (kernel/exit.c, do_exit), and then the program is not found.

Errors name the step, its object and the cause; the log has the whole argument list.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import structlog

from rbdcsi import errors
from rbdcsi.runtime import deadlines

_log = structlog.get_logger()

Process: TypeAlias = subprocess.Popen[bytes]

_THREAD_ROOT = re.compile(
    r"/proc/\d+/task/\d+/root/(\S*/)?"
)  # before the program's name, see `_mortal`

# Exit codes by which a program answers; otherwise it was killed, or could not be started.
ANSWERS = range(1, 126)
GRACE_SECONDS = 1.0  # SIGKILL takes effect at once, or only after the kernel ends a system call
_ENVIRONMENT = {
    "LC_ALL": "C",
    # mount(8) of util-linux 2.41 uses the newer system calls, which follow no link (its issue
    # 3474). Targets are passed to it as links, which mount(2) follows. Older versions ignore this.
    "LIBMOUNT_FORCE_MOUNT2": "always",
}
_PIPE_BYTES = 1 << 20  # `dd` writes MiBs; a pipe of the default 64 KiB takes 16 switches for each
STDERR_SHOWN = 400  # characters of stderr in an error message
_LONG_ARGUMENT = 40  # characters; programs repeat their arguments in their messages


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
    """The command ended with an unexpected exit code, or could not be started (127).

    `stderr` is its message, without the long arguments that the program repeated.
    """

    def __init__(self, argv: Sequence[str], exit_code: int, stderr: str, step: str = "") -> None:
        self.exit_code = exit_code
        self.stderr = _without_arguments(stderr.strip(), argv)
        text = _shortened(self.stderr) or "nothing"
        super().__init__(f"{step or argv[0]}: exit code {exit_code}; it said: {text}")


class CommandTimedOut(errors.DeadlineExceeded):
    """The command ran out of time; it was killed and has ended."""

    def __init__(self, argv: Sequence[str], seconds: float, step: str = "") -> None:
        self.seconds = seconds
        super().__init__(
            f"{step or argv[0]}: not finished after {seconds:.1f} s, so it was killed; repeat the "
            "call"
        )


class CommandStuck(errors.ChildStuck):
    """The command was killed and does not die; `started_at` is a value of `time.monotonic`."""

    def __init__(
        self,
        argv: Sequence[str],
        process: Process,
        started_at: float,
        step: str = "",
    ) -> None:
        self.started_at = started_at
        super().__init__(
            f"{step or argv[0]}: child {process.pid} has run for "
            f"{time.monotonic() - started_at:.0f} s and does not die when killed: it waits in the "
            f"kernel; `cat /proc/{process.pid}/stack` shows in which function",
            process,
        )


def run(
    argv: Sequence[str],
    *,
    seconds: float,
    step: str = "",
    stdin: bytes | None = None,
    pass_fds: Collection[int] = (),
    ok: Collection[int] = (0,),
    outlives_plugin: bool = False,
) -> CommandResult:
    """Run a command to its end and return its exit code and output.

    Args:
        argv: the command and its arguments; never a secret, because every user can read them.
        seconds: how long it may take; the caller's own deadline shortens this.
        step: the step and its object, for error messages: "mounting ext4 of /dev/rbd0".
        stdin: bytes for its standard input (a safe way for secrets); None is an empty input.
        pass_fds: descriptors that the child inherits under the same numbers.
        ok: the exit codes that are no error.
        outlives_plugin: the command does not die with the plugin, as it starts a daemon or only
            reads; setpriv(1) takes 0.8 ms.

    Raises:
        CommandFailed: the exit code is not in `ok`, or the command could not be started.
        CommandTimedOut: the command ran out of time, was killed and has ended.
        CommandStuck: the command ran out of time and cannot be killed.
        DeadlineExceeded: the caller's time was over before the command started.
    """
    seconds = deadlines.remaining(seconds)
    started_at = time.monotonic()
    child = start(
        argv, step=step, has_input=stdin is not None, pass_fds=pass_fds, mortal=not outlives_plugin
    )
    try:
        stdout, stderr = child.communicate(stdin, timeout=seconds)
    except subprocess.TimeoutExpired:
        _log.warning("command ran out of time", command=shlex.join(argv), seconds=seconds)
        if _killed(child):
            raise CommandTimedOut(argv, seconds, step) from None
        raise CommandStuck(argv, child, started_at, step) from None
    return result(argv, CommandResult(child.returncode, stdout, stderr), step=step, ok=ok)


def start(
    argv: Sequence[str],
    *,
    step: str = "",
    has_input: bool = False,
    pass_fds: Collection[int] = (),
    mortal: bool = True,
) -> Process:
    """Start a command and return its process; see `run` for the arguments.

    Args:
        argv: the command and its arguments.
        step: for error messages.
        has_input: whether the caller writes to its standard input.
        pass_fds: descriptors that it inherits.
        mortal: whether it dies with the calling thread.

    Raises:
        CommandFailed: the command could not be started.
    """
    program = shutil.which(argv[0])
    if not program:
        raise CommandFailed(argv, 127, f"{argv[0]} is not installed", step)
    try:
        return subprocess.Popen(
            _mortal(program, argv) if mortal else argv,
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,
            pipesize=_PIPE_BYTES,
            pass_fds=tuple(pass_fds),
        )
    except (OSError, ValueError) as error:  # ValueError: an argument with a NUL
        raise CommandFailed(argv, 127, f"cannot be started: {error}", step) from error


def end(child: Process, seconds: float) -> int:
    """Return the exit code of a child of `start`, which is killed after so many seconds.

    The caller waits without limit for a child that does not die, as the kernel holds it.
    """
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    _close_pipes(child)
    return child.returncode


def result(
    argv: Sequence[str], ended: CommandResult, *, step: str, ok: Collection[int]
) -> CommandResult:
    """Return the result of an ended command; raise CommandFailed if its exit code is not in `ok`.

    Args:
        argv: the command and its arguments.
        ended: its exit code and output.
        step: for error messages.
        ok: the exit codes that are no error.
    """
    if ended.exit_code in ok:
        return ended
    output = ended.stderr.strip() or ended.stdout  # e2fsck writes its errors to standard output
    text = _THREAD_ROOT.sub("", output.decode(errors="replace"))
    _log.info("command failed", command=shlex.join(argv), exit_code=ended.exit_code, output=text)
    raise CommandFailed(argv, ended.exit_code, text, step)


def _mortal(program: str, argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command with which the program dies with this thread, or does not start."""
    root = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/root"
    return ("setpriv", "--pdeathsig", "KILL", "--", f"{root}{Path(program).absolute()}", *argv[1:])


def _without_arguments(text: str, argv: Sequence[str]) -> str:
    for argument in argv:
        if len(argument) > _LONG_ARGUMENT:
            text = text.replace(argument, "…")
    return text


def _shortened(text: str) -> str:
    """Cut the middle out: most commands print the cause last, a crash before its long backtrace."""
    if len(text) <= STDERR_SHOWN:
        return text
    half = STDERR_SHOWN // 2
    return f"{text[:half]} […] {text[-half:]}"


def _killed(child: Process) -> bool:
    """Kill the child with its whole session; return False if it still runs after the grace."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    finally:
        _close_pipes(child)
    return True


def _close_pipes(child: Process) -> None:
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe:
            pipe.close()
