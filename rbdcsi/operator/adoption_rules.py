"""Pure: whether an image that the driver did not make may become one of its volumes.

Each rule refuses what would be lost, used twice, or formatted later.
"""

from dataclasses import dataclass, field

from rbdcsi import errors
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph import ceph_csi
from rbdcsi.ceph.inspection import Inspection
from rbdcsi.ceph.objects import Header
from rbdcsi.host.block.signature import BlankContent, Content
from rbdcsi.model import filesystems
from rbdcsi.model.format_mark import KEY as MARK_KEY
from rbdcsi.model.format_mark import Mark, Phase
from rbdcsi.model.image_layout import BITS
from rbdcsi.model.node_options import NodeOptions
from rbdcsi.volumes.spec import VolumeSpec, differences

# Bits of features that no user chooses (librbd: features.h).
_OPERATIONS, _MIGRATING, _NON_PRIMARY = 1 << 8, 1 << 9, 1 << 10
_USABLE = sum(BITS.values()) | _OPERATIONS


@dataclass(frozen=True)
class Wish:
    """The use that is asked for.

    `fs_type` is the filesystem, None takes the one that the image holds; `block` is raw block use.
    `node` are the options of a StorageClass for nodes.
    """

    fs_type: str | None = None
    block: bool = False
    node: NodeOptions = field(default_factory=NodeOptions)


@dataclass(frozen=True)
class Facts:
    """The image as it was found.

    Attributes:
        image: `POOL/IMAGE`, for messages.
        header: its header.
        record: its attachments.
        mark: how the driver used it before, if it did.
        inspection: its users and its role.
        mirror_daemons: those of its watchers that are rbd-mirror's.
        content: what its data begins with.
        traces: those of ceph-csi, None if it is no volume of ceph-csi.
    """

    image: str
    header: Header
    record: VolumeRecord
    mark: Mark | None
    inspection: Inspection
    mirror_daemons: frozenset[str]
    content: Content
    traces: ceph_csi.Traces | None


def require_kept(facts: Facts) -> None:
    """Check that the image is not being deleted.

    Raises:
        Refused: it is, or it is being rolled back.
    """
    if rollback := facts.record.rollback:
        raise errors.Refused(
            f"image {facts.image} is being rolled back to snapshot {rollback.snapshot!r} since "
            f"{rollback.since}; adopt it when `rbdcsi volumes rollback` has ended"
        )
    if facts.record.deleting:
        raise errors.Refused(
            f"image {facts.image} is being deleted since {facts.record.deleting}, so it cannot be "
            "adopted; if its data is needed, restore a backup"
        )


def require_unused(facts: Facts) -> None:
    """Check that nothing has the image, or writes it, and that the driver can use it.

    Raises:
        Refused: the message says why it cannot.
    """
    image, features = facts.image, facts.header.features
    if facts.record.attachments:
        raise errors.Refused(
            f"image {image} is attached to node {', '.join(sorted(facts.record.attachments))} by a "
            "PersistentVolume for an unmanaged image; end the Pods that use it, and remove that "
            "PersistentVolume first"
        )
    if features & _MIGRATING:
        raise errors.Refused(
            f"image {image} is being migrated; finish that with `rbd migration commit {image}`, or "
            "abort it"
        )
    if facts.inspection.secondary or features & _NON_PRIMARY:
        raise errors.Refused(
            f"image {image} is the secondary copy of a mirrored image, which rbd-mirror writes; "
            f"promote it first (`rbd mirror image promote {image}`), or adopt the primary"
        )
    if unknown := features & ~(_USABLE | _MIGRATING | _NON_PRIMARY):
        raise errors.Refused(
            f"image {image} has features that this driver does not know ({unknown:#x}); "
            "use a newer driver"
        )
    if watchers := sorted(facts.inspection.watchers - facts.mirror_daemons):
        raise errors.Refused(
            f"image {image} is in use: client {', '.join(watchers)} has it open; end the Pods that "
            f"use it, and see that `rbd status {image}` lists no watchers"
        )


def require_mappable(facts: Facts, wish: Wish) -> None:
    """Check that the mapper that is asked for can have the image's features.

    Raises:
        Refused: it cannot.
    """
    journaling = facts.header.features & BITS["journaling"]
    if journaling and wish.node.mapper in {None, "krbd"} and not wish.node.try_other_mappers:
        raise errors.Refused(
            f"image {facts.image} has the feature journaling, which krbd lacks; add "
            "--parameter mounter=rbd-nbd, or disable it (`rbd feature disable "
            f"{facts.image} journaling`)"
        )


def filesystem(facts: Facts, wish: Wish) -> str | None:
    """Return the filesystem of the volume, None for raw block use.

    Raises:
        Refused: the image does not hold what is asked for, or is encrypted.
    """
    image, content = facts.image, facts.content
    if ceph_csi.is_encrypted(facts.header.metadata) or (facts.traces and facts.traces.encrypted):
        raise errors.UnexpectedContent(
            f"image {image} was encrypted by ceph-csi, which this driver cannot decrypt; leave it "
            "with ceph-csi, or copy its files to a new volume"
        )
    if wish.block:
        return None
    if facts.mark and facts.mark.phase is not Phase.FORMATTED:
        raise errors.UnexpectedContent(
            f"image {image} has metadata {MARK_KEY}, which says that this driver used it before "
            f"({facts.mark.phase.value}); adopt it with --block, or, if it holds a filesystem, "
            f"remove that first: `rbd image-meta remove {image} {MARK_KEY}`"
        )
    if isinstance(content, BlankContent):
        raise errors.UnexpectedContent(
            f"image {image} holds no filesystem, so there is nothing to adopt; let a claim make a "
            "new volume, or give --block if it is for raw block use"
        )
    if content.fs_type not in filesystems.TABLE or content.fs_type != (
        wish.fs_type or content.fs_type
    ):
        expected = wish.fs_type or f"one of {', '.join(filesystems.TABLE)}"
        raise errors.UnexpectedContent(
            f"image {image} holds {content.fs_type}, expected is {expected}; correct --fs-type, or "
            "give --block if it is for raw block use"
        )
    if facts.mark and facts.mark.fs_type != content.fs_type:
        raise errors.UnexpectedContent(
            f"image {image} holds {content.fs_type}, but its metadata {MARK_KEY} says that this "
            f"driver formatted it as {facts.mark.fs_type}; look at the image, then remove what is "
            f"wrong: `rbd image-meta remove {image} {MARK_KEY}`"
        )
    return content.fs_type


def require_same(existing: VolumeSpec, asked: VolumeSpec, image: str) -> None:
    """Check that a volume was adopted before, and for the use that is asked for now.

    Args:
        existing: the volume's spec.
        asked: the spec of an adoption.
        image: the image, for the message.

    Raises:
        AlreadyExists: the driver made it, or it was adopted for another use.
    """
    if existing.name != asked.name:
        raise errors.AlreadyExists(
            f"image {image} is the volume {existing.name!r} of this driver already; "
            "`rbdcsi volumes ls` shows its handle"
        )
    if reasons := list(differences(existing, 0, asked, 0, 0)):
        raise errors.AlreadyExists(
            f"image {image} was adopted before, but {'; '.join(reasons)}; repeat it as it was, or "
            "revert it first (how-to: move from ceph-csi)"
        )
