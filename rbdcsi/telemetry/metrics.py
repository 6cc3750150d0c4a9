"""The driver's own metrics, in one registry. rbdcsi.server.health serves them over HTTP.

Names and units are Prometheus's (seconds, bytes, `_total`). The table in
docs/reference/metrics.md is generated from here.
"""

import platform
from collections.abc import Iterator, Mapping

import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

import rbdcsi

REGISTRY = prometheus_client.CollectorRegistry()
prometheus_client.ProcessCollector(registry=REGISTRY)
# `_created` metrics double the number of series, and no dashboard needs them.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

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
STEP_SECONDS = prometheus_client.Histogram(
    "rbdcsi_step_duration_seconds",
    "Time of a step of a call (stage.map, stage.mkfs, stage.mount, ...), from the step before it.",
    ["step"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
CEPH_SECONDS = prometheus_client.Histogram(
    "rbdcsi_ceph_operation_duration_seconds",
    "Time of an operation of librados or librbd, failed ones too.",
    ["operation"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
CEPH_ERRORS = prometheus_client.Counter(
    "rbdcsi_ceph_operation_errors",
    "Operations of librados or librbd that failed, by the gRPC code that stands for the error.",
    ["operation", "code"],
    registry=REGISTRY,
)
CLUSTER_READY = prometheus_client.Gauge(
    "rbdcsi_cluster_ready",
    "1 if the cluster's monitors answered the last probe (/readyz asks), otherwise 0.",
    ["cluster"],
    registry=REGISTRY,
)
FENCED = prometheus_client.Counter(
    "rbdcsi_clients_fenced",
    "Ceph clients put on the blocklist because their node did not release a volume.",
    ["cluster"],
    registry=REGISTRY,
)
REFUSED = prometheus_client.Counter(
    "rbdcsi_calls_refused",
    "CSI calls that the state of the volume or node forbade (FAILED_PRECONDITION), by the reason: "
    "not_attached, other_client, foreign_watcher, node_id_taken, content, other.",
    ["method", "reason"],
    registry=REGISTRY,
)
NOT_GROWN = prometheus_client.Counter(
    "rbdcsi_filesystems_not_grown",
    "Volumes that were staged with a filesystem smaller than the device, because growing it "
    "failed.",
    registry=REGISTRY,
)
FAIL_OVER_SECONDS = prometheus_client.Histogram(
    "rbdcsi_fail_over_duration_seconds",
    "Time from the first call that detaches a volume from a node to its end, where a client had to "
    "be fenced.",
    ["cluster"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
DISCARDED = prometheus_client.Counter(
    "rbdcsi_fenced_devices_discarded",
    "Devices that this node unmounted and unmapped because their Ceph client is fenced.",
    ["cluster"],
    registry=REGISTRY,
)
FROZEN_SECONDS = prometheus_client.Histogram(
    "rbdcsi_filesystem_frozen_seconds",
    "Time for which a filesystem of this node was frozen for a snapshot, by the result: held until "
    "the snapshot was taken, or lost before.",
    ["result"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
_BUILD = prometheus_client.Info(
    "rbdcsi_build", "Versions of the driver and of Python.", registry=REGISTRY
)
_BUILD.info({"version": rbdcsi.__version__, "python": platform.python_version()})


class SnapshotGauge(Collector):
    """A gauge whose labels come and go, the first of which is the cluster.

    Each snapshot of a cluster replaces its values, so none goes stale.
    """

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...]) -> None:
        self.name, self.documentation, self.labels = name, documentation, labels
        self._values: dict[str, Mapping[tuple[str, ...], float]] = {}
        REGISTRY.register(self)

    def replace(self, cluster_id: str, values: Mapping[tuple[str, ...], float]) -> None:
        """Replace the values of a cluster by these, by their labels."""
        self._values[cluster_id] = dict(values)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauge with its values to the registry."""
        family = GaugeMetricFamily(self.name, self.documentation, labels=self.labels)
        for values in list(self._values.values()):
            for labels, value in values.items():
                family.add_metric(labels, value)
        yield family


# Each replica of the controller counts all of these once a minute: use `max`, not `sum`.
ATTACHMENTS = SnapshotGauge(
    "rbdcsi_attachments",
    "Attachments by node and state (attached, staged, released, detaching).",
    ("cluster", "node", "state"),
)
WITHOUT_NODE = SnapshotGauge(
    "rbdcsi_staged_without_node",
    "Volumes staged at a node whose node plugin does not live.",
    ("cluster", "node"),
)
FENCES = SnapshotGauge("rbdcsi_fences", "Ceph clients that the driver has fenced.", ("cluster",))
VOLUMES = SnapshotGauge("rbdcsi_volumes", "Volumes.", ("cluster", "pool", "namespace"))
DELETING = SnapshotGauge(
    "rbdcsi_volumes_deleting",
    "Deleted volumes whose data is still to be removed.",
    ("cluster", "pool", "namespace"),
)
LOCATION_READY = SnapshotGauge(
    "rbdcsi_location_ready",
    "1 if a pool and RADOS namespace with volumes could be read, otherwise 0.",
    ("cluster", "pool", "namespace"),
)
POOL_STORED = SnapshotGauge(
    "rbdcsi_pool_stored_bytes",
    "Bytes stored in a pool that has volumes, without replicas.",
    ("cluster", "pool"),
)
POOL_AVAILABLE = SnapshotGauge(
    "rbdcsi_pool_available_bytes",
    "Data that a pool with volumes can still take.",
    ("cluster", "pool"),
)
CLONES_DEEP = SnapshotGauge(
    "rbdcsi_clones_deep",
    "Copies that are being flattened in the background: they have too many ancestors, or their "
    "source has too many snapshots.",
    ("cluster",),
)
CLONES_WAITING = SnapshotGauge(
    "rbdcsi_clones_waiting",
    "Copies that are to be flattened, once their snapshots, or those that they read, are deleted.",
    ("cluster",),
)
# Of these, a controller counts the deletions that it has tried to finish: use `max` and `min`.
DELETIONS_UNFINISHED = SnapshotGauge(
    "rbdcsi_deletions_unfinished",
    "Deleted volumes whose data was still there after the last attempt to remove it.",
    ("cluster",),
)
DELETIONS_UNFINISHED_OLDEST = SnapshotGauge(
    "rbdcsi_deletions_unfinished_oldest_timestamp_seconds",
    "When the oldest of the unfinished deletions began, in seconds since 1970.",
    ("cluster",),
)
DELETIONS_WAITING = SnapshotGauge(
    "rbdcsi_deletions_waiting",
    "Deleted volumes whose data stays because their snapshots, or clones of those, need it.",
    ("cluster",),
)
