"""Notes about clones, kept at the location of the clone, so that no crash leaves anything for ever.

`made/TOKEN` is written before a call makes anything of a clone, and removed when the volume exists.
It leads to the temporary names that the call uses. `deep/IMAGE_ID` is a volume that is to be
flattened: it has too many ancestors, or its parent has too many snapshots. No note says that
something exists: an entry without anything behind it is removed.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rbdcsi import errors
from rbdcsi.ceph import omap
from rbdcsi.ceph.connection import Ioctx
from rbdcsi.model import ids, stored
from rbdcsi.runtime.futures import Future

OBJECT = "rbdcsi.clones"
PREFIX = "rbdcsi.clone."  # of the names of unfinished clones, and of the snapshots made for them
_MADE = "made/"
_DEEP = "deep/"


@dataclass(frozen=True)
class Attempt:
    """A call that makes a clone.

    Attributes:
        source: the volume_id of the source, or of the source's volume.
        snapshots: whether the call takes a snapshot of the source by itself.
        since: when it began, ISO 8601 in UTC.
    """

    source: str
    snapshots: bool
    since: str
    unknown: Mapping[str, Any] = stored.unknown_fields()

    @property
    def volume(self) -> ids.VolumeHandle:
        """The image that is cloned."""
        return ids.parse(self.source)


_ATTEMPT = stored.Kind(
    Attempt,
    name="note of a clone",
    remedy=f"so its left-overs stay: look for images and snapshots named {PREFIX}*, remove them "
    "with `rbd` if no CreateVolume is under way, then remove that key",
)


class CloneNotes:
    """The notes of one location."""

    def __init__(self, ioctx: Ioctx) -> None:
        self._omap = omap.Omap(ioctx, OBJECT)

    def begin(self, attempt: Attempt) -> tuple[str, Future[None]]:
        """Begin to note an attempt.

        Returns:
            Its token, from which `name` makes the name that it may use, and the future of the note.
        """
        token = uuid.uuid4().hex
        return token, self._omap.begin_put(_MADE + token, _ATTEMPT.encode(attempt))

    def begin_end(self, token: str) -> Future[None]:
        """Begin to remove the note of an attempt that has left nothing."""
        return self._omap.begin_put(_MADE + token, None)

    def attempts(self) -> dict[str, Attempt | errors.Failed]:
        """Return the noted attempts by token; in place of a damaged one its error."""
        attempts: dict[str, Attempt | errors.Failed] = {}
        for key, text in self._omap.items(_MADE):
            token = key.removeprefix(_MADE)
            try:
                attempts[token] = _ATTEMPT.decode(text, f"object {OBJECT}, key {key}")
            except errors.Failed as error:
                attempts[token] = error
        return attempts

    def add_deep(self, image_id: str, now: str) -> None:
        """Note that an image is to be flattened."""
        if self._omap.get(_DEEP + image_id) is None:
            self._omap.put(_DEEP + image_id, now)

    def remove_deep(self, image_id: str) -> None:
        """Remove the note of an image that is not to be flattened any more, or is gone."""
        self._omap.put(_DEEP + image_id, None)

    def deep(self) -> dict[str, str]:
        """Return the images that are to be flattened, with the time since when."""
        return {key.removeprefix(_DEEP): since for key, since in self._omap.items(_DEEP)}


def name(token: str) -> str:
    """Return the name of an attempt's image until it is finished, and of the snapshot for it."""
    return PREFIX + token
