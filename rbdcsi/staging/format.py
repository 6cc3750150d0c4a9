"""Makes or checks the filesystem on a staged device, as `format_rules` decides."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.open_image import OpenImage
from rbdcsi.host import lasting
from rbdcsi.host.block import btrfs_uuid, devices, signature
from rbdcsi.host.fs import filesystems
from rbdcsi.model import mkfs_options
from rbdcsi.model.filesystems import TABLE
from rbdcsi.model.format_mark import KEY, MARK, Mark, Phase, read_mark
from rbdcsi.runtime.futures import Future
from rbdcsi.staging.format_rules import Action, decide, hides_superblock, needs_raw_mark
from rbdcsi.telemetry import steps

READ_SECONDS = 30.0


@dataclass(frozen=True)
class MarkedImage:
    """An image, by its ids and its name for messages, with the text of its mark.

    `identity` is unique among the images of all clusters. An unmanaged image, which the driver did
    not make, is never formatted: it may hold anything.
    `generation` is that of the attachment by which the image is used now.
    """

    images: Images
    identity: tuple[str | int, ...]
    image_id: str
    name: str
    text: str | None
    unmanaged: bool
    generation: int

    @property
    def mark(self) -> Mark | None:
        """The mark that the text stands for; Failed if it is damaged."""
        return read_mark(self.text, self.name)

    def runner(self, children: lasting.LastingCommands, purpose: str) -> filesystems.Runner:
        """Return the runner of a command that works for this attachment on the image."""
        work = lasting.Work(self.identity, self.generation, purpose)
        return filesystems.Runner(children, work)

    def next_mark(self, phase: Phase, fs_type: str) -> Mark:
        """Return the mark that follows this one, written by this attachment."""
        before = self.mark or Mark(phase, fs_type)
        return dataclasses.replace(before, phase=phase, fs_type=fs_type, generation=self.generation)

    def set(self, old: str | None, new: Mark) -> None:
        """Write the next mark if the stored text is still the old one.

        Even an unchanged mark is written, because only the compare-and-swap proves that no other
        node wrote.

        Args:
            old: the text that the mark has now.
            new: the next mark.

        Raises:
            Busy: the mark has another text.
        """
        pairs = {KEY: MARK.encode(new)}
        if not self.images.set_metadata(self.image_id, pairs, key=KEY, old=old):
            raise errors.Busy(
                f"image {self.name}: another node changed metadata {KEY} just now; try again"
            )


def prepare_raw(image: MarkedImage, made_for: str) -> None:
    """Mark the image before it is used as a writable block device.

    Args:
        image: with its mark.
        made_for: the filesystem that the volume was made for.

    Raises:
        Refused: see `needs_raw_mark`.
        Busy: another node changed the mark.
    """
    if needs_raw_mark(image.mark, image.name):
        image.set(image.text, image.next_mark(Phase.RAW, made_for))
        steps.done("stage.raw", image=image.name)


def content_of(
    image: MarkedImage,
    opened_image: OpenImage,
    reading: Future[signature.Content],
    *,
    readonly: bool,
) -> signature.Content:
    """Return the content of the device; of an image to be formatted Ceph is asked for objects, too.

    Args:
        image: with its mark.
        opened_image: the same image, open.
        reading: of the device where it is mapped.
        readonly: the image is not to be formatted.

    Raises:
        UnexpectedContent: the image was never formatted, and has data in the part that is not read.
        Others: see `signature.reading`.
    """
    is_new = image.mark is None and not image.unmanaged and not readonly
    has_objects = is_new and opened_image.holds_data()
    content = reading.result()
    if has_objects and content == signature.BlankContent():
        raise errors.UnexpectedContent(
            f"image {image.name} was never formatted by this driver, and reads as blank at its "
            "start and end, but holds data between them (`rbd diff` lists where), so it is not "
            "formatted. If the data is not needed, delete the volume and make another one"
        )
    return content


def prepare(
    image: MarkedImage,
    device: Path,
    content: signature.Content,
    fs_type: str,
    mkfs_text: str,
    children: lasting.LastingCommands,
    *,
    readonly: bool,
) -> None:
    """Make the device ready to be mounted: it has a filesystem of that type, which is checked.

    Args:
        image: its mark is written before and after mkfs. If another node changed the mark, mkfs
            does not run.
        device: where it is mapped.
        content: the result of `content_of` after the metadata was read.
        fs_type: the filesystem that the call asks for.
        mkfs_text: options for mkfs from the metadata; empty for the defaults.
        children: of this plugin, which may outlive a call.
        readonly: nothing may be written.

    Raises:
        Refused: see `decide`, and damage that fsck does not mend by itself.
        Busy: another node changed the mark, or the device is in use.
        ChildAlive: mkfs or the check runs on; a repeated call takes its result.
    """
    name, mark = image.name, image.mark
    if not readonly:
        devices.require_unclaimed(device)
    if hides_superblock(mark, content, fs_type) and signature.has(
        device, fs_type, seconds=READ_SECONDS
    ):
        content = signature.Signature(fs_type)
    match decide(mark, content, fs_type, readonly=readonly, image=name, unmanaged=image.unmanaged):
        case Action.MAKE | Action.MAKE_AGAIN:
            arguments = _mkfs_arguments(mkfs_text, fs_type, name)
            begun = image.next_mark(Phase.FORMATTING, fs_type)
            image.set(image.text, begun)
            steps.done("stage.formatting", image=name, fs_type=fs_type)
            _make(device, fs_type, arguments, content, image.runner(children, "make"))
            steps.done("stage.mkfs", image=name, fs_type=fs_type)
            image.set(MARK.encode(begun), image.next_mark(Phase.FORMATTED, fs_type))
            steps.done("stage.formatted", image=name, fs_type=fs_type)
        case Action.MOUNT if not readonly:
            filesystems.check(device, fs_type, image.runner(children, "check"))
            if mark and mark.copied and fs_type == "btrfs":
                btrfs_uuid.renew(device, seconds=READ_SECONDS)
                steps.done("stage.uuid", image=name)
        case Action.MOUNT:
            pass


def note_mounted(image: MarkedImage) -> None:
    """Note that a copied filesystem was mounted for writing, which has replayed its journal.

    Args:
        image: with the mark that it had before.

    Raises:
        Busy: another node changed the mark.
    """
    mark = image.mark
    if mark and mark.copied:
        image.set(image.text, dataclasses.replace(mark, copied=False, generation=image.generation))
        steps.done("stage.copied", image=image.name)


def _mkfs_arguments(text: str, fs_type: str, image: str) -> tuple[str, ...]:
    """Check options from an image's metadata, which any client of the pool can write.

    This is before the image is marked and mkfs runs: a filesystem that no node mounts stays.
    """
    try:
        arguments = mkfs_options.parse(text, fs_type, TABLE[fs_type].mkfs_allowed)
        filesystems.require_mountable(fs_type, arguments)
    except errors.InvalidRequest as error:
        raise errors.UnexpectedContent(
            f"image {image} holds no filesystem yet, and the options for making one in its "
            f"metadata are refused: {error}; delete the volume and make it again from a "
            "StorageClass without them"
        ) from error
    return arguments


def _make(
    device: Path,
    fs_type: str,
    arguments: tuple[str, ...],
    content: signature.Content,
    runner: filesystems.Runner,
) -> None:
    """Make the filesystem, unless the mkfs of an earlier call has made it."""
    made = runner.children.result(runner.work)
    if made and isinstance(content, signature.Signature) and content.fs_type == fs_type:
        return
    if content != signature.BlankContent():
        # The leftovers of an interrupted mkfs are zeroed, so mkfs itself never gets a force option.
        filesystems.erase_signature(device, fs_type, seconds=READ_SECONDS)
        content = signature.content(device, seconds=READ_SECONDS)
    filesystems.make(device, fs_type, arguments, content, runner)
