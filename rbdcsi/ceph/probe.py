"""Checks which configured clusters answer: all at the same time, for a few seconds."""

import threading
import time

import structlog

from rbdcsi import errors
from rbdcsi.ceph import connections
from rbdcsi.telemetry import metrics

_log = structlog.get_logger()

PROBE_SECONDS = 3.0


class Readiness:
    """Asks the clusters; a cluster that hangs occupies one thread, not one for each check."""

    def __init__(self, pooled: connections.Connections) -> None:
        self._connections = pooled
        self._asking: dict[str, tuple[threading.Thread, list[bool]]] = {}
        self._lock = threading.Lock()

    def check(self) -> bool:
        """Return whether a cluster answered within `PROBE_SECONDS`; the metrics say which ones."""
        ends_at = time.monotonic() + PROBE_SECONDS
        clusters = self._connections.configured.clusters
        asked = {c.cluster_id: self._ask(c.cluster_id) for c in clusters}
        for thread, _ in asked.values():
            thread.join(max(0.0, ends_at - time.monotonic()))
        for cluster_id, (_, answers) in asked.items():
            metrics.CLUSTER_READY.labels(cluster_id).set(answers == [True])
        return any(answers == [True] for _, answers in asked.values())

    def _ask(self, cluster_id: str) -> tuple[threading.Thread, list[bool]]:
        """Ask a cluster in a new thread, unless the last question to it is still open."""
        with self._lock:
            open_question = self._asking.get(cluster_id)
            if open_question and open_question[0].is_alive():
                return open_question
            answers: list[bool] = []
            thread = threading.Thread(
                target=self._answer, args=(cluster_id, answers), name="probe", daemon=True
            )
            self._asking[cluster_id] = thread, answers
            thread.start()
            return thread, answers

    def _answer(self, cluster_id: str, answers: list[bool]) -> None:
        try:
            with self._connections.use(cluster_id) as connection:
                connection.command("fsid")
            answers.append(True)
        except errors.RbdCsiError as error:
            _log.warning("cluster does not answer", cluster=cluster_id, error=str(error))
            answers.append(False)
