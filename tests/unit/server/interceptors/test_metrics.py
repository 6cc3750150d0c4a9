from typing import Never

import grpc

from rbdcsi.server.interceptors import metrics as call_metrics
from rbdcsi.telemetry import metrics
from tests.unit.server.interceptors.context import Context, run


def test_calls_are_counted_by_method_and_code_and_while_they_run() -> None:
    def count(name: str, **labels: str) -> float:
        return metrics.REGISTRY.get_sample_value(name, labels) or 0.0

    def proceed() -> Never:
        assert count("rbdcsi_rpc_in_flight", method="DeleteVolume") == 1
        context.abort(grpc.StatusCode.ABORTED, "busy")

    before = count("rbdcsi_rpc_requests_total", method="DeleteVolume", code="ABORTED")
    context = Context()
    run(call_metrics.counted, proceed, context)
    assert count("rbdcsi_rpc_in_flight", method="DeleteVolume") == 0
    labels = {"method": "DeleteVolume", "code": "ABORTED"}
    assert count("rbdcsi_rpc_requests_total", **labels) == before + 1
    assert count("rbdcsi_rpc_duration_seconds_count", **labels) == before + 1
