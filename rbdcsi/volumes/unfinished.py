"""Counts the deletions that do not finish, for the metrics: those that fail, those that wait."""

import datetime
import threading
from collections.abc import Callable, Collection

import structlog

from rbdcsi.model.ids import LocationId
from rbdcsi.telemetry import metrics
from rbdcsi.volumes.dependants import Dependants

_log = structlog.get_logger()

_Image = tuple[LocationId, str]  # by its id


class UnfinishedDeletions:
    """The deleted images of a cluster whose data is still there after the last look.

    Images that wait for snapshots or clones are counted apart: nothing is wrong with them.
    """

    def __init__(self, cluster_id: str) -> None:
        """Show the number of this cluster's also if it is 0."""
        self._cluster_id = cluster_id
        self._begun: dict[_Image, float] = {}  # seconds since 1970
        self._waiting: dict[_Image, Dependants] = {}
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
            self._waiting.pop((location_id, image_id), None)
            self._show()

    def wait(self, location_id: LocationId, image_id: str, needed_by: Dependants) -> None:
        """Count an image as one that waits, and log if it did not wait for the same before.

        Args:
            location_id: where the image is.
            image_id: the image.
            needed_by: the snapshots and clones that it waits for.
        """
        image = location_id, image_id
        with self._lock:
            is_new = self._waiting.get(image) != needed_by
            self._waiting[image] = needed_by
            self._begun.pop(image, None)
            self._show()
        if is_new:
            _log.info(
                "image of a deleted volume waits for its snapshots and clones",
                cluster=self._cluster_id,
                pool=location_id.pool_id,
                image_id=image_id,
                needed_by=str(needed_by),
            )

    def remove(self, location_id: LocationId, image_id: str) -> None:
        """Count an image no longer, because it is gone."""
        with self._lock:
            self._begun.pop((location_id, image_id), None)
            self._waiting.pop((location_id, image_id), None)
            self._show()

    def keep(self, location_id: LocationId, image_ids: Collection[str]) -> None:
        """Count only these images of a location; another controller finished the others."""
        self._keep(lambda image: image[0] != location_id or image[1] in image_ids)

    def keep_locations(self, location_ids: Collection[LocationId]) -> None:
        """Count only images of these locations; the pools of the others are gone."""
        self._keep(lambda image: image[0] in location_ids)

    def _keep(self, stays: Callable[[_Image], bool]) -> None:
        with self._lock:
            self._begun = {key: value for key, value in self._begun.items() if stays(key)}
            self._waiting = {key: value for key, value in self._waiting.items() if stays(key)}
            self._show()

    def _show(self) -> None:
        cluster: tuple[str, ...] = (self._cluster_id,)
        begun = self._begun.values()
        oldest = {cluster: min(begun)} if begun else {}
        metrics.DELETIONS_UNFINISHED.replace(self._cluster_id, {cluster: len(begun)})
        metrics.DELETIONS_UNFINISHED_OLDEST.replace(self._cluster_id, oldest)
        metrics.DELETIONS_WAITING.replace(self._cluster_id, {cluster: len(self._waiting)})
