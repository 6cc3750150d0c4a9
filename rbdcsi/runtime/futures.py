"""Results of running operations: a caller may begin several before it waits for the first."""

from collections.abc import Callable
from typing import Generic, TypeVar

_Result = TypeVar("_Result")
_Converted = TypeVar("_Converted")


class Future(Generic[_Result]):
    """The result of an operation that has begun."""

    def __init__(self, wait: Callable[[], _Result]) -> None:
        """Create the future; `wait` blocks until the operation ends and returns its result."""
        self._wait = wait

    def result(self) -> _Result:
        """Wait and return the result; call it once.

        Raises:
            RbdCsiError: the operation failed.
        """
        return self._wait()

    def then(self, convert: Callable[[_Result], _Converted]) -> "Future[_Converted]":
        """Return a future whose result `convert` makes from the result of this one."""
        return Future(lambda: convert(self._wait()))
