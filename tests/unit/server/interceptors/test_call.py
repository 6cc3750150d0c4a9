from types import SimpleNamespace
from typing import cast

import grpc
import pytest

from rbdcsi.server.interceptors import call


def id_of(*metadata: tuple[str, str | bytes]) -> str:
    details = SimpleNamespace(method="/csi.v1.Identity/Probe", invocation_metadata=metadata)
    return call.request_id(cast("grpc.HandlerCallDetails", details))


def test_the_callers_request_id_is_kept_when_it_is_fit_for_a_log() -> None:
    assert id_of(("a", "b"), ("x-request-id", "abc-1")) == "abc-1"


@pytest.mark.parametrize("sent", ["", "a b", "a\n", "x" * 65, "é", b"a"])
def test_another_request_id_is_replaced(sent: str | bytes) -> None:
    request_id = id_of(("x-request-id", sent))
    assert request_id != sent
    assert len(request_id) == 16
