"""What the driver counts of itself, in one registry. rbdcsi.health shows it over HTTP."""

import platform
from importlib import metadata

import prometheus_client

REGISTRY = prometheus_client.CollectorRegistry()
prometheus_client.ProcessCollector(registry=REGISTRY)
# They double the series, and nobody asks for them.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

RPC_REQUESTS = prometheus_client.Counter(
    "rbdcsi_rpc_requests", "CSI calls answered.", ["method", "code"], registry=REGISTRY
)
RPC_SECONDS = prometheus_client.Histogram(
    "rbdcsi_rpc_duration_seconds",
    "Time from a CSI call's arrival at a worker to its answer.",
    ["method", "code"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
RPC_IN_FLIGHT = prometheus_client.Gauge(
    "rbdcsi_rpc_in_flight", "CSI calls being served.", ["method"], registry=REGISTRY
)
_BUILD = prometheus_client.Info("rbdcsi_build", "What is running.", registry=REGISTRY)
_BUILD.info({"version": metadata.version("rbdcsi"), "python": platform.python_version()})
