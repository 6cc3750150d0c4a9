"""Makes the image of a volume that is a copy: a clone of a snapshot, which shares its data.

The clone has a name of its own until it is finished: its spec, its mark and its size. Then it is
renamed, and the name decides between calls that make the same volume. So an image that has the name
of a volume is a whole volume, and a call that is repeated after a crash begins anew. Whatever an
attempt leaves is found by its note; see `clone_upkeep`.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.ceph import cloning, locations, names, snapshots
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.objects import Header
from rbdcsi.model import format_mark, ids, sizes
from rbdcsi.runtime import clock, deadlines
from rbdcsi.runtime.futures import Future
from rbdcsi.snapshots import limit
from rbdcsi.telemetry import steps
from rbdcsi.volumes import ancestry, clone_notes, clone_rules, clone_undo, sources, spec
from rbdcsi.volumes.clone_notes import Attempt, CloneNotes
from rbdcsi.volumes.request import Request
from rbdcsi.volumes.sources import ContentSource, Source

_RENAMED = 3  # a source that is deleted gets another name, once


@dataclass(frozen=True)
class _Plan:
    """A copy that can be made.

    `size` is in bytes, at least that of the source as it was read. `depth` is how many ancestors
    the copy will have.
    """

    source: Source
    spec: spec.VolumeSpec
    fs_type: str | None
    size: int
    depth: int

    @property
    def is_deep(self) -> bool:
        """Whether the copy is to be flattened."""
        siblings = len(self.source.header.snapshots)
        return self.depth > clone_rules.SOFT_DEPTH or siblings >= clone_rules.CROWDED


@dataclass
class _Begun:
    """An attempt to copy `content`, whose note is written while other work is done.

    `has_left` is whether something of the attempt is left, to which the note leads.
    """

    content: ContentSource
    token: str
    noting: Future[None]
    has_left: bool = False


class Cloner:
    """Makes clones in the locations of one call."""

    def __init__(
        self,
        own_connection: Connection,
        connection: Connection,
        all_locations: locations.Locations,
        target: locations.Location,
        on_deep: Callable[[ids.LocationId], None],
    ) -> None:
        """Clone into a location.

        Args:
            own_connection: that of the configured user.
            connection: that of the call's user.
            all_locations: of volumes.
            target: the location of the copies.
            on_deep: called with the location of an image that is to be flattened.
        """
        self._own_connection = own_connection
        self._connection = connection
        self._locations = all_locations
        self._target = target
        self._notes = CloneNotes(target.ioctx)
        self._on_deep = on_deep

    @contextlib.contextmanager
    def begun(self, content: ContentSource) -> Iterator[_Begun]:
        """Begin to note an attempt, for `make`, and remove the note after the body."""
        volume, takes_snapshot = sources.volume_of(content), isinstance(content, ids.VolumeHandle)
        attempt = Attempt(str(volume), takes_snapshot, clock.now())
        begun = _Begun(content, *self._notes.begin(attempt))
        try:
            yield begun
        finally:
            if not begun.has_left:
                # No call waits for it: a note that stays leads to nothing, and is removed later.
                with deadlines.finishing():
                    self._notes.begin_end(begun.token)
        steps.done("clone.end", source=str(content))

    def make(self, begun: _Begun, request: Request, name: str) -> tuple[str, int]:
        """Make the copy and return the id of its image and its size in bytes.

        Args:
            begun: the attempt.
            request: of CreateVolume.
            name: of the copy's image.

        Raises:
            NotFound: the source does not exist, or is being deleted.
            InvalidRequest, SizeOutOfRange: the copy cannot be as requested.
            AlreadyExists: an image of that name exists; nothing of this copy is left.
            Exhausted: the source has as many snapshots as it may have.
            Busy: the source has too many ancestors, until one of them is flattened.
        """
        plan = self._plan(begun.content, request)
        begun.noting.result()
        steps.done("clone.note", image=plan.source.image)
        with deadlines.finishing(), self._noted(begun, plan.source):
            image_id, size = self._make(plan, request, begun.token, name)
        if plan.is_deep:
            self._on_deep(self._target.id)
        return image_id, size

    def _plan(self, content: ContentSource, request: Request) -> _Plan:
        """Read the source, and refuse what cannot be a copy of it; see `make`."""
        source = sources.read(self._own_connection, self._connection, self._locations, content)
        fs_type = clone_rules.filesystem(
            source.spec, source.mark, request.fs_type, named=request.filesystem_named
        )
        new_spec = spec.from_request(request.name, fs_type, request.parameters, str(content))
        clone_rules.require_layout(new_spec.layout)
        size, depth = _size(request, source.size, fs_type), 1 + self._depth(source)
        self._require_shallow(source, depth)
        return _Plan(source, new_spec, fs_type, size, depth)

    def _make(self, plan: _Plan, request: Request, token: str, name: str) -> tuple[str, int]:
        """Make the copy and return the id of its image and its size; see `make`."""
        source, fs_type = plan.source, plan.fs_type
        snapshot, mark = self._snapshot(source, token)
        self._clone(source, snapshot, token, plan.spec)
        image_id, header = self._finished(source, token)
        if source.snapshot is None and header.parent:
            snapshots.remove(
                source.location.ioctx,
                source.volume.image_id,
                header.parent.snap_id,
                source.record.writers(),
            )
            steps.done("clone.release", image=source.image)
        size = max(plan.size, _size(request, header.size, fs_type))
        if header.size < size:
            cloning.grow(self._target.ioctx, image_id, size)
            steps.done("clone.resize", image=name, size=size)
        self._describe(
            image_id, header, plan.spec, clone_rules.mark(source.spec, mark, fs_type), request
        )
        if plan.is_deep:
            self._notes.add_deep(image_id, clock.now())
            steps.done("clone.deep", image=name, ancestors=plan.depth)
        names.rename(self._target.ioctx, clone_notes.name(token), name, image_id)
        steps.done("clone.name", image=name)
        return image_id, size

    def _depth(self, source: Source) -> int:
        of_snapshots = source.snapshot is not None
        return ancestry.depth(self._connection, source.header, of_snapshots=of_snapshots)

    def _require_shallow(self, source: Source, depth: int) -> None:
        image = f"{source.location.pool}/{source.image}"
        try:
            clone_rules.require_depth(image, depth, has_snapshots=bool(source.header.snapshots))
        except errors.Busy:
            self._locations.register(source.location.id)  # it is looked after there
            CloneNotes(source.location.ioctx).add_deep(source.volume.image_id, clock.now())
            self._on_deep(source.volume.location)
            raise

    @contextlib.contextmanager
    def _noted(self, begun: _Begun, source: Source) -> Iterator[None]:
        """Keep the note while the body makes something; after an error, remove what it made."""
        begun.has_left = True
        try:
            yield
        except errors.RbdCsiError:
            # It has its own time: the body may have used up all of its time.
            with contextlib.suppress(errors.RbdCsiError), deadlines.finishing():
                location = source.location if source.snapshot is None else None
                clone_undo.undo(location, source.volume, self._target, begun.token)
                begun.has_left = False
            raise
        begun.has_left = False

    def _snapshot(self, source: Source, token: str) -> tuple[str, format_mark.Mark | None]:
        """Return the name of the snapshot to be cloned, and the mark of its content."""
        if source.snapshot:
            return source.snapshot.name, source.mark
        name, image_id = clone_notes.name(token), source.volume.image_id
        limit.require_room(source.header, source.volume)
        try:
            snapshots.take(source.location.ioctx, image_id, name, source.record.writers())
        except errors.NotFound as error:
            raise sources.missing(source.volume) from error
        steps.done("clone.snapshot", image=source.image)
        # A mark only ever moves on, to one that rules out more: of two marks the later one is safe.
        return name, sources.mark_now(source)

    def _clone(self, source: Source, snapshot: str, token: str, new_spec: spec.VolumeSpec) -> None:
        image, image_id = source.image, source.volume.image_id
        for _ in range(_RENAMED):
            try:
                cloning.clone(
                    source.location.ioctx,
                    image,
                    snapshot,
                    self._target.ioctx,
                    clone_notes.name(token),
                    new_spec.layout,
                )
                break
            except errors.NotFound as error:
                current = source.location.images.name_of(image_id)
                if current in {image, None}:
                    raise sources.missing(_content(source)) from error
                image = current or image
        steps.done("clone.image", image=clone_notes.name(token))

    def _finished(self, source: Source, token: str) -> tuple[str, Header]:
        """Return id and header of the clone, after proof that it is one of this source."""
        images, name = self._target.images, clone_notes.name(token)
        image_id = images.id_of(name)
        header = images.header(image_id) if image_id else None
        if image_id is None or header is None:
            raise errors.Busy(f"image {name} was removed while it was made; try again")
        parent, volume = header.parent, source.volume
        expected = (volume.location.pool_id, volume.location.namespace, volume.image_id)
        # A snapshot of this call has a name that nothing else has; one of a user may be made anew.
        if parent is None or (parent.pool_id, parent.namespace, parent.image_id) != expected:
            raise errors.Busy(f"another image has taken the name {source.image!r}; try again")
        if source.snapshot and parent.snap_id != source.snapshot.snap_id:
            raise sources.missing(_content(source))
        return image_id, header

    def _describe(
        self,
        image_id: str,
        header: Header,
        new_spec: spec.VolumeSpec,
        mark: format_mark.Mark | None,
        request: Request,
    ) -> None:
        """Replace the metadata that librbd has copied from the source."""
        pairs = spec.metadata(new_spec, request.parameters)
        if mark:
            pairs[format_mark.KEY] = format_mark.MARK.encode(mark)
        copied = (each for each in header.metadata if each.startswith(spec.PREFIX))
        if not self._target.images.set_metadata(
            image_id,
            pairs,
            key=spec.KEY,
            old=header.metadata.get(spec.KEY),
            remove=[each for each in copied if each not in pairs],
        ):
            raise errors.Busy(f"image {image_id}: another process changed its metadata; try again")
        steps.done("clone.metadata", image_id=image_id)


def _size(request: Request, source_bytes: int, fs_type: str | None) -> int:
    """Return the size of the copy in bytes: at least that of its source."""
    clone_rules.require_size(source_bytes, request.limit)
    return sizes.choose(
        max(request.required, source_bytes),
        request.limit,
        fs_type=fs_type,
        object_bytes=request.parameters.object_bytes,
    )


def _content(source: Source) -> ContentSource:
    if source.snapshot is None:
        return source.volume
    return ids.SnapshotHandle(source.volume, source.snapshot.snap_id)
