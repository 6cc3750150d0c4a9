"""Has the filesystems of volumes frozen, at the nodes that have them staged, for a snapshot.

The node's plugin does it (`staging/freeze.py`), asked by notifications. It thaws by itself after a
few seconds. So the snapshot counts only if the plugin answers, after it was taken, that the
filesystem was frozen until then. A volume that no node has staged for writing does not change: its
record must be the same before and after.
"""

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.attachments.records import Attachment, VolumeRecord
from rbdcsi.ceph.connection import Ioctx
from rbdcsi.model import ids
from rbdcsi.nodes import presence
from rbdcsi.nodes.freeze_messages import FROZEN_SECONDS, FreezeAnswer, FreezeOrder, FreezeState
from rbdcsi.runtime import deadlines
from rbdcsi.telemetry import steps

_TOKEN_BYTES = 8
_POLL_SECONDS = 0.02
_BUSY_SECONDS = 0.2  # between two attempts
_FREEZE_SECONDS = 60.0  # for a filesystem to be written out
_THAW_SECONDS = 2 * FROZEN_SECONDS  # after it a lost answer does not matter any more


@dataclass(frozen=True)
class Volume:
    """A volume, and the records of its location."""

    handle: ids.VolumeHandle
    records: store.Records


@contextlib.contextmanager
def frozen(home: Ioctx, volumes: Sequence[Volume]) -> Iterator[None]:
    """Keep the filesystems of the volumes frozen for the body, which takes the snapshots.

    If this raises, the snapshots must not be used.

    Args:
        home: the home location of the cluster.
        volumes: the volumes.

    Raises:
        Busy: a filesystem could not be frozen now, or was thawed too early, or a volume was
            attached, staged or detached at the same time.
        Unavailable: a node's plugin does not answer.
        Refused: a node's plugin or kernel cannot freeze the volume.
    """
    before = [volume.records.get(volume.handle.image_id) for volume in volumes]
    freezes = [
        _Freeze(home, volume.handle, node, attachment)
        for volume, record in zip(volumes, before, strict=True)
        for node, attachment in record.attachments.items()
        if attachment.clients and (not attachment.readonly or attachment.settles)
    ]
    try:
        _freeze(freezes)
        yield
        for volume, record in zip(volumes, before, strict=True):
            _require_unchanged(volume, record)
        _thaw(freezes)
    except BaseException:
        for freeze in freezes:
            freeze.give_up()
        raise


def _freeze(freezes: Sequence["_Freeze"]) -> None:
    ends_at = time.monotonic() + deadlines.remaining(_FREEZE_SECONDS)
    for freeze in freezes:  # a plugin that cannot answer would freeze for nothing
        freeze.require_answer()
    for freeze in freezes:  # all begin together
        freeze.order()
    for freeze in freezes:
        freeze.wait_until_frozen(ends_at)
    steps.done("snapshot.freeze", nodes=[freeze.node for freeze in freezes])


def _thaw(freezes: Sequence["_Freeze"]) -> None:
    with deadlines.within(None):  # the snapshot is taken, and the call's end must not undo it
        ends_at = time.monotonic() + _THAW_SECONDS
        for freeze in freezes:
            freeze.order(thaw=True)
        for freeze in freezes:
            freeze.require_held(ends_at)
    steps.done("snapshot.thaw")


def _require_unchanged(volume: Volume, before: VolumeRecord) -> None:
    record = volume.records.get(volume.handle.image_id)
    if (record.generation, record.attachments) != (before.generation, before.attachments):
        raise errors.Busy(
            f"volume {volume.handle} was attached, staged or detached while its snapshot was "
            "taken, so its filesystem may have been in use; try again"
        )


class _Freeze:
    """The freeze of a volume at one node."""

    def __init__(
        self,
        home: Ioctx,
        handle: ids.VolumeHandle,
        node: str,
        attachment: Attachment,
    ) -> None:
        self.node = node
        self._home, self._handle = home, handle
        self._machines = {client.machine_id for client in attachment.clients}
        self._token = _token()

    def require_answer(self) -> None:
        """Return if the node's plugin answers; see `order`."""
        self._ask(presence.Question())

    def order(self, *, thaw: bool = False) -> FreezeAnswer:
        """Order the freeze or the thaw, and return how far it is.

        Raises:
            Unavailable: the plugin does not answer.
            Refused: its driver is of before there were such orders.
        """
        order = FreezeOrder(str(self._handle), self._token, thaw)
        freeze = self._ask(presence.Question(freeze=order)).freeze
        if freeze is None:
            raise errors.Refused(
                f"volume {self._handle} is staged at node {self.node!r}, whose plugin is of an "
                "older driver that cannot freeze filesystems; update the node plugins, or use a "
                "VolumeSnapshotClass without the parameter freeze"
            )
        return freeze

    def _ask(self, question: presence.Question) -> presence.Answer:
        answers = presence.ask(self._home, self.node, question)
        # An older driver did not note the machine of its client.
        own = [each for each in answers.answers if self._machines & {each.machine_id, ""}]
        if not own:
            plugin = "does not answer" if answers.silent else "does not run"
            raise errors.Unavailable(
                f"volume {self._handle} is staged at node {self.node!r}, whose plugin {plugin}, so "
                "its filesystem cannot be kept frozen for a snapshot; look at the rbdcsi Pod of "
                "that node, or use a VolumeSnapshotClass without the parameter freeze"
            )
        return own[0]

    def wait_until_frozen(self, ends_at: float) -> None:
        """Return when the filesystem is frozen.

        Args:
            ends_at: the end of the wait, by the monotonic clock.

        Raises:
            Busy: it is not frozen in time.
            Unavailable, Refused: see `frozen`.
        """
        while True:
            answer = self.order()
            match answer.state:
                case FreezeState.FROZEN:
                    return
                case FreezeState.REFUSED:
                    raise errors.Refused(answer.message)
                case FreezeState.LOST | FreezeState.HELD:
                    raise self._lost(answer)
                case FreezeState.BUSY:
                    self._token = _token()  # begins again
                    pause = _BUSY_SECONDS
                case FreezeState.FREEZING:
                    pause = _POLL_SECONDS
            if time.monotonic() + pause > ends_at:
                raise errors.Busy(
                    f"volume {self._handle}: node {self.node!r} could not freeze its filesystem in "
                    f"time ({answer.message or 'it still writes out what it has in memory'}); no "
                    "snapshot was taken, and the call can be repeated"
                )
            time.sleep(deadlines.remaining(pause))

    def require_held(self, ends_at: float) -> None:
        """Thaw the filesystem, and return if it was frozen until then.

        Args:
            ends_at: the end of the wait, by the monotonic clock.

        Raises:
            Busy: it was thawed before, or is not thawed in time.
            Unavailable, Refused: see `order`.
        """
        while (answer := self.order(thaw=True)).state is FreezeState.FROZEN:
            if time.monotonic() > ends_at:
                answer = FreezeAnswer(FreezeState.LOST, "its disk does not answer")
                break
            time.sleep(_POLL_SECONDS)
        if answer.state is not FreezeState.HELD:
            raise self._lost(answer)

    def give_up(self) -> None:
        """Order the thaw, if the plugin answers; otherwise it thaws by itself."""
        with contextlib.suppress(errors.RbdCsiError), deadlines.within(None):
            self.order(thaw=True)

    def _lost(self, answer: FreezeAnswer) -> errors.Busy:
        return errors.Busy(
            f"volume {self._handle}: its filesystem at node {self.node!r} was not frozen until the "
            f"snapshot was taken ({answer.message}; it is thawed after {FROZEN_SECONDS:.0f} s at "
            "the latest), so the snapshot is removed; the call can be repeated"
        )


def _token() -> str:
    return secrets.token_hex(_TOKEN_BYTES)
