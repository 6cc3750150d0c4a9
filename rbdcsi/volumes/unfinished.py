"""Counts the deletions that do not finish, for the metrics."""

import datetime
import threading
from collections.abc import Collection

from rbdcsi.model.ids import LocationId
from rbdcsi.telemetry import metrics


class UnfinishedDeletions:
    """The deleted images of a cluster whose data the last attempt did not remove."""

    def __init__(self, cluster_id: str) -> None:
        """Show the number of this cluster's also if it is 0."""
        self._cluster_id = cluster_id
        self._begun: dict[tuple[LocationId, str], float] = {}  # by image id, seconds since 1970
        self._lock = threading.Lock()

    def add(self, location_id: LocationId, image_id: str, begun: str) -> None:
        """Count an image.

        Args:
            location_id: where the image is.
            image_id: the image.
            begun: when its deletion began, from its record.
        """
        with self._lock:
            seconds = datetime.datetime.fromisoformat(begun).timestamp()
            self._begun[location_id, image_id] = seconds
            self._show()

    def remove(self, location_id: LocationId, image_id: str) -> None:
        """Count an image no longer, because it is gone."""
        with self._lock:
            self._begun.pop((location_id, image_id), None)
            self._show()

    def keep(self, location_id: LocationId, image_ids: Collection[str]) -> None:
        """Count only these images of a location; another controller finished the others."""
        with self._lock:
            self._begun = {
                key: seconds
                for key, seconds in self._begun.items()
                if key[0] != location_id or key[1] in image_ids
            }
            self._show()

    def keep_locations(self, location_ids: Collection[LocationId]) -> None:
        """Count only images of these locations; the pools of the others are gone."""
        with self._lock:
            self._begun = {
                key: seconds for key, seconds in self._begun.items() if key[0] in location_ids
            }
            self._show()

    def _show(self) -> None:
        cluster: tuple[str, ...] = (self._cluster_id,)
        begun = self._begun.values()
        oldest = {cluster: min(begun)} if begun else {}
        metrics.DELETIONS_UNFINISHED.replace(self._cluster_id, {cluster: len(begun)})
        metrics.DELETIONS_UNFINISHED_OLDEST.replace(self._cluster_id, oldest)
