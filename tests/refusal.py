"""What a test expects of a call that the driver refuses."""

import contextlib
from collections.abc import Iterator
from typing import cast

import grpc
import pytest


@contextlib.contextmanager
def refused(code: str, *words: str) -> Iterator[None]:
    """Expect the body's call to end with that gRPC code, and all the words in its message."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = cast(grpc.Call, caught.value)  # what a stub raises is both
    details = error.details() or ""
    assert error.code().name == code, f"{error.code().name}: {details}"
    missing = [word for word in words if word not in details]
    assert not missing, f"{missing} not in: {details}"
