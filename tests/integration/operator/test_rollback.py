"""Volumes are rolled back in place by `rbdcsi volumes rollback`, and read through the driver."""

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest

from e2e import volume
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.attachments import store
from rbdcsi.attachments.records import Growth
from rbdcsi.ceph.lineage import Protection
from rbdcsi.model import format_mark
from rbdcsi.runtime import clock
from tests.integration.operator.conftest import Hold
from tests.integration.operator.rollback_bed import SIZE, Bed

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(400)]


def test_files_are_those_of_the_snapshot_and_other_snapshots_stay(bed: Bed, made: Volume) -> None:
    taken, contents = {}, {}
    for number in range(3):
        bed.write(made, {"shared": f"as of {number}", f"file-{number}": "kept"})
        taken[number] = bed.snapshot(made, f"s{number}")
        contents[number] = bed.content_of(made, taken[number])
    bed.write(made, {"shared": "lost", "late": "lost"})
    bed.roll_back(made, "s1")  # by its CSI name
    assert bed.view.content(made) == contents[1]
    assert bed.files(made) == {"shared": "as of 1", "file-0": "kept", "file-1": "kept"}
    for number, snapshot_id in taken.items():
        assert bed.content_of(made, snapshot_id) == contents[number]
    bed.roll_back(made, taken[2])  # and on to a newer one
    assert bed.view.content(made) == contents[2]
    bed.roll_back(made, "csi-snap-s0")  # by the name of the RBD snapshot
    assert bed.files(made) == {"shared": "as of 0", "file-0": "kept"}


def test_it_says_what_is_lost_and_asks_twice(bed: Bed) -> None:
    claim = {"csi.storage.k8s.io/pvc/name": "notes", "csi.storage.k8s.io/pvc/namespace": "home"}
    made = volume.create(bed.controller, "asked", size=SIZE, parameters=claim)
    taken = bed.snapshot(made, "before")
    bed.write(made, {"file": "kept"})
    content = bed.view.content(made)
    words = ("volumes", "rollback", made.id, "before")
    done = bed.shell.run(*words)
    assert (done.returncode, "repeat it with --yes" in done.stderr) == (1, True)
    assert all(each in done.stderr for each in (made.id, taken, "home/notes", "csi-asked"))
    done = bed.shell.run(*words, "--yes")
    assert (done.returncode, "repeat it with --confirm csi-asked" in done.stderr) == (1, True)
    done = bed.shell.run(*words, "--yes", "--confirm", "csi-other")
    assert (done.returncode, "'csi-other' is not the image" in done.stderr) == (1, True)
    assert bed.shell.run(*words, answer="n").returncode == 1
    done = bed.shell.run(*words, answer="y\ncsi-other")
    assert (done.returncode, "nothing is done" in done.stderr) == (1, True)
    assert bed.view.content(made) == content
    done = bed.shell.run(*words, answer="y\ncsi-asked")
    assert (done.returncode, "has the content of snapshot" in done.stdout) == (0, True), done.stderr
    # It was blank then, so it may be formatted again.
    assert format_mark.KEY not in bed.view.metadata(made)
    assert bed.files(made) == {}
    bed.remove(made)


def test_a_volume_that_was_grown_since_keeps_its_size(bed: Bed) -> None:
    # The kernel does not grow a mounted ext4 here, see tests/integration/node/test_expand.py.
    small, large = 128 * MIB, 256 * MIB
    made = volume.create(bed.controller, "grown", size=small, capability=volume.mounted("btrfs"))
    bed.write(made, {"file": "kept"})
    taken, before = bed.snapshot(made, "small"), bed.view.content(made)
    volume.expand(bed.controller, made, large)
    sizes = list[int]()

    def measure(target: Path) -> None:
        vfs = os.statvfs(target)
        sizes.append(vfs.f_blocks * vfs.f_frsize)

    bed.use(made, measure)
    bed.put(made, b"lost", large - 4)
    newer = bed.snapshot(made, "large")
    checksum = hashlib.sha256(bed.content_of(made, newer)).digest()
    bed.roll_back(made, taken)
    assert bed.view.content(made) == before + bytes(large - small)
    assert bed.files(made) == {"file": "kept"}
    bed.use(made, measure)
    assert sizes == [large, large]  # it was grown when it was staged
    assert hashlib.sha256(bed.content_of(made, newer)).digest() == checksum
    assert volume.expand(bed.controller, made, 2 * large).capacity_bytes == 2 * large
    bed.remove(made)


@pytest.mark.parametrize("own_writes", [False, True])
def test_a_clone_is_rolled_back_and_so_is_its_source(
    bed: Bed, made: Volume, own_writes: bool
) -> None:
    bed.write(made, {"file": "of the source"})
    base = bed.snapshot(made, "base")
    clone = volume.create(bed.controller, f"clone-{own_writes}", size=2 * SIZE, source=base)
    own = {"own": "kept"} if own_writes else {}
    if own:
        bed.write(clone, own)
    first, content = bed.snapshot(clone, f"first-{own_writes}"), bed.view.content(clone)
    bed.write(clone, {"file": "lost", "own": "lost"})
    bed.roll_back(clone, first)
    assert bed.view.content(clone) == content
    bed.put(made, b"lost" * MIB, 0)
    bed.roll_back(made, base)  # the snapshot that the clone reads
    assert bed.files(made) == {"file": "of the source"}
    assert bed.files(clone) == {"file": "of the source", **own}
    bed.remove(clone)


def test_a_newer_snapshot_differs_by_fast_diff_too(bed: Bed, raw: Volume) -> None:
    """librbd itself takes over the object map of the snapshot, which leaves changes out."""
    piece = 4 * MIB
    with bed.view.image(raw, readonly=False) as image:
        image.write(b"0" * piece, 0)
        image.create_snap("older")
        image.write(b"1" * piece, piece)
        image.create_snap("target")
        image.write(b"2" * piece, 0)
        image.create_snap("newer")
    bed.roll_back(raw, "target")
    changed = set[int]()
    with bed.view.image(raw) as image:
        image.diff_iterate(
            0,
            image.size(),
            "newer",
            lambda offset, _length, _exists: changed.add(offset),
            whole_object=True,
        )
    assert 0 in changed


def test_a_snapshot_by_hand_never_makes_data_blank(bed: Bed, made: Volume) -> None:
    bed.snapshot(made, "blank")
    bed.write(made, {"file": "kept"})
    with bed.view.image(made, readonly=False) as image:
        image.create_snap("by-hand")
    bed.roll_back(made, "blank")
    assert format_mark.KEY not in bed.view.metadata(made)
    formatting = format_mark.Mark(format_mark.Phase.FORMATTING, "ext4")
    with bed.view.image(made, readonly=False) as image:  # a node died while it formatted
        image.metadata_set(format_mark.KEY, format_mark.MARK.encode(formatting))
    rows = bed.shell.json("snapshots", "ls", "--volume", made.id)
    (by_hand,) = (row["snapshot"] for row in rows if row["state"] == "unmanaged")
    copy = volume.create(bed.controller, "of by-hand", size=SIZE, source=by_hand)
    assert bed.files(copy) == {"file": "kept"}
    volume.delete(bed.controller, copy)
    bed.roll_back(made, "by-hand")
    assert bed.files(made) == {"file": "kept"}


def test_readers_get_the_journal_replayed(bed: Bed, made: Volume) -> None:
    taken = list[str]()

    def write_and_take(target: Path) -> None:
        with (target / "file").open("w") as file:
            file.write("kept")
            file.flush()
            os.fsync(file.fileno())
        taken.append(bed.snapshot(made, "while mounted"))

    bed.use(made, write_and_take)
    bed.roll_back(made, taken[0])
    readers = dataclasses.replace(made, capability=volume.mounted(mode="MULTI_NODE_READER_ONLY"))
    assert bed.files(readers) == {"file": "kept"}


def test_refusals_name_the_reason_and_leave_nothing(bed: Bed, hold: Hold, raw: Volume) -> None:
    taken = bed.snapshot(raw, "refused")

    def refusal(snapshot: str, *words: str) -> None:
        before = bed.view.record(raw)
        done = bed.run(raw, snapshot)
        assert done.returncode == 1
        assert all(each in done.stderr for each in words), done.stderr
        assert (bed.view.record(raw), bed.protections(raw)) == (before, {Protection.NONE})

    other = volume.create(bed.controller, "other", size=SIZE)
    refusal(bed.snapshot(other, "foreign"), f"is one of volume {other.id}")
    refusal("missing", "has no snapshot 'missing'", "rbdcsi snapshots ls")
    volume.attach(bed.controller, raw, "node-a")
    refusal(taken, "is attached to 'node-a'")
    volume.detach(bed.controller, raw, "node-a")
    growth = Growth("127.0.0.1:0/4242", 2 * SIZE, clock.now())
    records = store.Records(bed.view.ioctx)
    before = records.change(
        image_id(raw), lambda record: dataclasses.replace(record, growth=growth)
    )
    refusal(taken, "is being grown to")
    records.change(image_id(raw), lambda _: dataclasses.replace(before.record, growth=None))
    with hold(raw) as address:
        refusal(taken, f"client {address} has its image open")
    bed.remove(other)
    done = bed.shell.run("volumes", "rollback", other.id, "any", "--yes")
    assert (done.returncode, "does not exist, or is being deleted" in done.stderr) == (1, True)


def test_a_snapshot_that_reads_more_of_the_parent_is_refused(bed: Bed, raw: Volume) -> None:
    bed.put(raw, b"of the source", 0, SIZE - MIB)
    clone = volume.create(bed.controller, "cut", size=SIZE, source=raw.id, capability=volume.raw())
    taken = bed.snapshot(clone, "of cut")
    with bed.view.image(clone, readonly=False) as image:
        image.resize(SIZE // 2)
        image.resize(SIZE)
    done = bed.run(clone, taken)
    assert (done.returncode, "was flattened or made smaller since" in done.stderr) == (1, True)
    bed.remove(clone)


def test_images_with_few_features(bed: Bed) -> None:
    def create(features: str) -> Volume:
        return volume.create(
            bed.controller,
            f"with {features}",
            size=SIZE,
            parameters={"imageFeatures": features},
            capability=volume.raw(),
        )

    unlayered, layered = create("exclusive-lock"), create("layering")
    done = bed.run(unlayered, bed.snapshot(unlayered, "of unlayered"))
    assert (done.returncode, "has not the feature layering" in done.stderr) == (1, True)
    bed.put(layered, b"kept", 0)
    taken = bed.snapshot(layered, "of layered")
    bed.put(layered, b"lost", 0)
    bed.roll_back(layered, taken)
    assert bed.view.content(layered, 0, 4) == b"kept"
    for made in (unlayered, layered):
        bed.remove(made)
