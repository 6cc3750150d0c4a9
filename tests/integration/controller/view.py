"""What Ceph's own tools show of a pool, with the records and data of volumes."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import rados
import rbd

from e2e.clusters import commands
from e2e.pool import PoolView, image_id
from e2e.volume import Volume
from rbdcsi.attachments import records, store
from rbdcsi.volumes.clone_notes import CloneNotes


@dataclass(frozen=True)
class View(PoolView):
    """A pool and RADOS namespace."""

    ioctx: rados.Ioctx

    @contextlib.contextmanager
    def image(self, made: Volume, *, readonly: bool = True) -> Iterator[rbd.Image]:
        """Open the volume's image, by default without becoming one of its watchers."""
        with super().image(made, readonly=readonly) as image:
            yield image

    def record(self, made: Volume) -> records.VolumeRecord:
        """Return the volume's attachment record."""
        return store.Records(self.ioctx).get(image_id(made))

    def attached_to(self, node_id: str) -> frozenset[str]:
        """Return the ids of the images that the node has attached here."""
        return frozenset(store.Records(self.ioctx).attached_to(node_id))

    def objects_of(self, found: str) -> list[str]:
        """Return the names of all objects of the image of that id."""
        return sorted(each.key for each in self.ioctx.list_objects() if found in each.key)

    def execute(self, name: str, method: str, argument: bytes) -> None:
        """Call a method of the OSD's class rbd on an object, to write."""
        with rados.WriteOpCtx() as op:
            op.execute("rbd", method, argument)
            self.ioctx.operate_write_op(op, name)

    def tell_osd_the_newest_map(self, admin: rados.Rados) -> None:
        """Let the OSD know what the monitors have just decided: it learns it from its clients."""
        admin.wait_for_latest_osdmap()
        rbd.RBD().list(self.ioctx)

    def wait_until_gone(self, found: str) -> None:
        """Return when nothing is left of the image of that id, nor of its record."""

        def gone() -> bool:
            empty = store.Records(self.ioctx).get(found) == records.VolumeRecord()
            return empty and not self.objects_of(found)

        # A sweeper that another one has kept from its work looks again after at most 60 s.
        commands.wait_until(gone, f"image {found} and its record are gone", timeout=120)

    def wait_until_no_copy_is_noted(self) -> None:
        """Return when the notes of finished copies are gone; no call waits for that."""
        attempts = CloneNotes(self.ioctx).attempts
        commands.wait_until(lambda: not attempts(), "no copy is noted")
