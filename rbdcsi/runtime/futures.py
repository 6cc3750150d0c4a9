"""Results of operations that are under way: several begin before the first is waited for."""

from collections.abc import Callable
from typing import Generic, TypeVar

_Result = TypeVar("_Result")
_Converted = TypeVar("_Converted")


class Future(Generic[_Result]):
    """The result of an operation that has begun."""

    def __init__(self, wait: Callable[[], _Result]) -> None:
        """Take `wait`, which blocks until the operation ends, and returns its result or raises."""
        self._wait = wait

    def result(self) -> _Result:
        """Wait and return the result; call it once.

        Raises:
            RbdCsiError: what the operation raises.
        """
        return self._wait()

    def then(self, convert: Callable[[_Result], _Converted]) -> "Future[_Converted]":
        """Return the future of what `convert` makes of the result."""
        return Future(lambda: convert(self._wait()))
