"""Counts the deletions that do not finish, for the metrics."""

import datetime
import threading
from collections.abc import Collection, Iterable

from rbdcsi.model.ids import LocationId
from rbdcsi.telemetry import metrics


class UnfinishedDeletions:
    """The deleted images that were still there after the last attempt to remove their data."""

    def __init__(self, cluster_ids: Iterable[str]) -> None:
        """Show the number of these clusters also if it is 0."""
        self._cluster_ids = tuple(cluster_ids)
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
        numbers: dict[tuple[str, ...], float] = {(each,): 0 for each in self._cluster_ids}
        oldest: dict[tuple[str, ...], float] = {}
        for (location_id, _), seconds in self._begun.items():
            cluster = (location_id.cluster_id,)
            numbers[cluster] += 1
            oldest[cluster] = min(seconds, oldest.get(cluster, seconds))
        metrics.DELETIONS_UNFINISHED.replace(numbers)
        metrics.DELETIONS_UNFINISHED_OLDEST.replace(oldest)
