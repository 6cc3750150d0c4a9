"""The driver's errors. Each class has the gRPC code that the CSI specification requires.

    RbdCsiError
    ├── InvalidRequest       INVALID_ARGUMENT
    ├── Unauthenticated      UNAUTHENTICATED
    ├── Forbidden            PERMISSION_DENIED
    ├── NotFound             NOT_FOUND
    ├── AlreadyExists        ALREADY_EXISTS
    ├── Refused              FAILED_PRECONDITION
    │   ├── NotAttached
    │   ├── OtherClient
    │   ├── ForeignWatcher
    │   ├── NodeIdTaken
    │   ├── UnexpectedContent
    │   └── ConfigError      (reaches no caller: the driver does not start)
    ├── SizeOutOfRange       OUT_OF_RANGE
    ├── Exhausted            RESOURCE_EXHAUSTED
    ├── Busy                 ABORTED
    │   └── ChildAlive
    │       └── ChildStuck
    ├── Unavailable          UNAVAILABLE
    ├── DeadlineExceeded     DEADLINE_EXCEEDED
    └── Failed               INTERNAL
        └── CommandFailed    (host/command.py)

The module that raises an error writes its message. A message names the object, its state, the
expected state, and the next step.
"""

from typing import ClassVar, Protocol


class RbdCsiError(Exception):
    """Base of every error that may reach a caller; `code` is the name of a gRPC status code."""

    code: ClassVar[str] = "INTERNAL"


class InvalidRequest(RbdCsiError):
    """The request is wrong, whatever the state of the volume or the cluster."""

    code = "INVALID_ARGUMENT"


class Unauthenticated(RbdCsiError):
    """Ceph does not accept the user and key."""

    code = "UNAUTHENTICATED"


class Forbidden(RbdCsiError):
    """Ceph knows the user, but its capabilities do not allow this."""

    code = "PERMISSION_DENIED"


class NotFound(RbdCsiError):
    """The volume, node, pool or path does not exist."""

    code = "NOT_FOUND"


class AlreadyExists(RbdCsiError):
    """The object exists with other properties than those asked for."""

    code = "ALREADY_EXISTS"


class Refused(RbdCsiError):
    """The state of the volume forbids the call; a person or another call must change it first.

    `reason` is the label by which the metrics count it, see docs/reference/metrics.md.
    """

    code = "FAILED_PRECONDITION"
    reason: ClassVar[str] = "other"


class NotAttached(Refused):
    """The volume is not attached to the node, not any more, or not for that use."""

    reason = "not_attached"


class OtherClient(Refused):
    """A recorded client of another machine or boot still has the image open."""

    reason = "other_client"


class ForeignWatcher(Refused):
    """A client that is in no record has the image open."""

    reason = "foreign_watcher"


class NodeIdTaken(Refused):
    """The node's id belongs to another machine, whose plugin lives."""

    reason = "node_id_taken"


class UnexpectedContent(Refused):
    """What is in the image does not agree with its marks, so nothing is written to it."""

    reason = "content"


class ConfigError(Refused):
    """The configuration cannot be used; each line of the message names a mistake and its fix."""


def refusal_reasons() -> frozenset[str]:
    """Return the reasons of all refusals."""
    kinds: list[type[Refused]] = [Refused, *Refused.__subclasses__()]
    return frozenset(kind.reason for kind in kinds)


class SizeOutOfRange(RbdCsiError):
    """The driver cannot provide a volume of this size or range, or a snapshot has no such byte."""

    code = "OUT_OF_RANGE"


class Exhausted(RbdCsiError):
    """The pool has no space or quota left, or the node has no room for another volume."""

    code = "RESOURCE_EXHAUSTED"


class Busy(RbdCsiError):
    """Another operation on the same object is running; the same call may succeed later."""

    code = "ABORTED"


class Child(Protocol):
    """A child process; subprocess.Popen has these members."""

    pid: int

    def poll(self) -> int | None:
        """Return None while the child lives, otherwise its exit code."""


class ChildAlive(Busy):
    """A child process lives on after the call that started it.

    Until `child.poll()` returns an exit code, it may still change the object it works on.
    """

    def __init__(self, message: str, child: Child) -> None:
        super().__init__(message)
        self.child = child


class ChildStuck(ChildAlive):
    """A child process was killed but does not die: it waits in the kernel (D state)."""


class Unavailable(RbdCsiError):
    """Ceph or the host does not answer at present."""

    code = "UNAVAILABLE"


class DeadlineExceeded(RbdCsiError):
    """The time of the call, or of one of its steps, ran out."""

    code = "DEADLINE_EXCEEDED"


class Failed(RbdCsiError):
    """A step failed unexpectedly; the message names the step and the cause."""

    code = "INTERNAL"
