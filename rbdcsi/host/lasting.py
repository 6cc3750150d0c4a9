"""Commands that may take longer than a call: mkfs of a slow device, e2fsck of a large one.

Such a child outlives the call that started it, and a repeated call takes its result. Killed at each
caller's deadline, it would begin again for ever. Each child has a thread of its own, which lives as
long as the child, because a child dies with the thread that started it. The plugin keeps results in
memory: the children die with the plugin, and then the work begins again.
"""

import contextlib
import threading
from collections.abc import Collection, Sequence
from concurrent import futures
from dataclasses import dataclass

import structlog

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.runtime import clock, deadlines

_log = structlog.get_logger()

_CALL_SECONDS = 300.0  # the longest wait of a call that has no deadline of its own


@dataclass(frozen=True)
class Work:
    """The work of a child: on which image, for which generation of its attachment, for what.

    The result of one generation counts for no other: another node may have used the image between.
    """

    image: tuple[str | int, ...]
    generation: int
    purpose: str


class _Child:
    """A command with the thread that started it and waits for it."""

    def __init__(
        self, argv: Sequence[str], step: str, ok: Collection[int], pass_fds: Collection[int]
    ) -> None:
        self.step, self.program, self.since = step, argv[0], clock.now()
        self._started: futures.Future[command.Process] = futures.Future()
        self._result: futures.Future[command.CommandResult] = futures.Future()
        arguments = (argv, step, ok, pass_fds)
        threading.Thread(target=self._run, args=arguments, name=argv[0], daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether the child has ended, or could not be started."""
        return self._result.done()

    def result(self, seconds: float) -> command.CommandResult:
        """Wait for the result; raise ChildAlive if the child runs on after that time."""
        process = self._started.result()
        try:
            return self._result.result(seconds)
        except futures.TimeoutError:
            raise errors.ChildAlive(
                f"{self.step}: {self.program} (child {process.pid}) has been running since "
                f"{self.since} and is not interrupted; repeat the call to get its result",
                process,
            ) from None

    def _run(
        self, argv: Sequence[str], step: str, ok: Collection[int], pass_fds: Collection[int]
    ) -> None:
        try:
            process = command.start(argv, step=step, pass_fds=pass_fds)
        except Exception as error:  # noqa: BLE001  the waiting call raises it
            self._started.set_exception(error)
            self._result.set_exception(error)
            return
        self._started.set_result(process)
        try:
            stdout, stderr = process.communicate()
            ended = command.CommandResult(process.returncode, stdout, stderr)
            self._result.set_result(command.result(argv, ended, step=step, ok=ok))
        except Exception as error:  # noqa: BLE001  the waiting call raises it
            self._result.set_exception(error)
        _log.info("lasting command ended", step=step, exit_code=process.returncode)


class LastingCommands:
    """The children of this plugin that may outlive a call, one for each image.

    The caller holds the volume's lock. `ChildAlive` keeps the lock while the child lives.
    """

    def __init__(self) -> None:
        self._children: dict[tuple[str | int, ...], tuple[Work, _Child]] = {}

    def run(
        self,
        work: Work,
        argv: Sequence[str],
        *,
        step: str,
        ok: Collection[int] = (0,),
        pass_fds: Collection[int] = (),
    ) -> command.CommandResult:
        """Start the command and wait for it until the caller's deadline.

        Args:
            work: the command's work; `result` finds the child by it.
            argv: the command and its arguments.
            step: the step and its object, for messages.
            ok: the exit codes that are no error.
            pass_fds: descriptors that the child inherits under the same numbers; the caller may
                close its own when this returns or raises.

        Raises:
            ChildAlive: the child runs on.
            CommandFailed: see `command.run`.
        """
        seconds = deadlines.remaining(_CALL_SECONDS)
        self._require_ended(work)
        self._children[work.image] = (work, _Child(argv, step, ok, pass_fds))
        return self._wait(work, seconds)

    def result(self, work: Work) -> command.CommandResult | None:
        """Return the result of the work that an earlier call began; None if there is none.

        A result is returned, or raised, once: the next call begins again.

        Raises:
            ChildAlive, CommandFailed: see `run`.
        """
        seconds = deadlines.remaining(_CALL_SECONDS)
        begun, _child = self._children.get(work.image, (None, None))
        return self._wait(work, seconds) if begun == work else None

    def _require_ended(self, work: Work) -> None:
        """Raise ChildAlive if a child still works on the image, whatever its work is."""
        if work.image in self._children:
            with contextlib.suppress(command.CommandFailed):
                self._wait(work, 0)

    def _wait(self, work: Work, seconds: float) -> command.CommandResult:
        """Wait for the image's child; forget it once it has ended."""
        _work, child = self._children[work.image]
        try:
            return child.result(seconds)
        finally:
            if child.has_ended:
                del self._children[work.image]
