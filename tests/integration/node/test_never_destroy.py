"""What a volume holds outlives every read error and every contradiction with its metadata."""

import contextlib
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from e2e import driver, volume
from e2e.driver import Driver
from rbdcsi.model import format_mark
from rbdcsi.model.format_mark import MARK, Mark, Phase
from tests.integration.node import lab as labs
from tests.integration.node.conftest import wait_until_registered
from tests.integration.node.lab import MIB, Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 64 * MIB
SECTOR = 512
INJECTIONS = 12  # for each state of a volume
READ = [(0, MIB), (SIZE - MIB // 2, SIZE)]  # what must be read before mkfs: from, to
FORMATTED = MARK.encode(Mark(Phase.FORMATTED, "ext4"))
FORMATTED_XFS = MARK.encode(Mark(Phase.FORMATTED, "xfs"))
RAW_XFS = MARK.encode(Mark(Phase.RAW, "xfs"))


@dataclass(frozen=True)
class FailingNode:
    """A node whose devices fail where it is told."""

    node: Driver
    faults: Path

    @contextlib.contextmanager
    def failing_at(self, *sectors: int) -> Iterator[None]:
        """Let reads of these sectors fail on every device that is mapped during the body."""
        errors = [{"event": "none", "iotype": "read", "errno": 5, "sector": s} for s in sectors]
        self.faults.write_text(json.dumps(errors))
        try:
            yield
        finally:
            self.faults.write_text("[]")


@pytest.fixture(scope="module")
def failing(lab: Lab, installation: driver.Installation) -> FailingNode:
    """Give a node with the failing storage daemon in front of the real one."""
    node = installation.node("node-f")
    faults = node.directory / "faults.json"
    faults.write_text("[]")
    node.environment = {
        "PATH": f"{Path(__file__).parents[2] / 'bin'}:{os.environ['PATH']}",
        "DISK_FAULTS": str(faults),
    }
    wait_until_registered(lab.ioctx, node.start())
    return FailingNode(node, faults)


def _with_a_file(lab: Lab, node: Driver, made: volume.Volume) -> None:
    volume.stage(node, made)
    (made.staging(node) / "file").write_text("data")
    volume.unstage(node, made)
    assert lab.mark(made) == Mark(Phase.FORMATTED, "ext4")


def _with_a_file_and_no_mark(lab: Lab, node: Driver, made: volume.Volume) -> None:
    _with_a_file(lab, node, made)
    lab.remove_metadata(made, format_mark.KEY)


def _with_a_file_and_an_unfinished_mark(lab: Lab, node: Driver, made: volume.Volume) -> None:
    _with_a_file(lab, node, made)
    lab.set_metadata(made, format_mark.KEY, MARK.encode(Mark(Phase.FORMATTING, "ext4")))


def _with_data_of_a_stranger(lab: Lab, _node: Driver, made: volume.Volume) -> None:
    lab.write(made, b"data", SIZE - 4)


def _blank(_lab: Lab, _node: Driver, _made: volume.Volume) -> None:
    pass


STATES: list[Callable[[Lab, Driver, volume.Volume], None]] = [
    _with_a_file,
    _with_a_file_and_no_mark,
    _with_a_file_and_an_unfinished_mark,
    _with_data_of_a_stranger,
    _blank,
]


def test_nothing_is_destroyed_when_reads_fail(
    lab: Lab, failing: FailingNode, figures: Callable[[str], None]
) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    destroyed, injections = [], 0
    for prepare in STATES:
        with lab.volume(f"faults{prepare.__name__}", at=failing.node) as made:
            prepare(lab, failing.node, made)
            before = lab.checksum(made), lab.mark(made)
            for _ in range(INJECTIONS):
                begin, end = chance.choice(READ)
                sector = chance.randrange(begin, end) // SECTOR
                injections += 1
                with (
                    failing.failing_at(sector),
                    refused("INTERNAL", "cannot be read", "left as it is"),
                ):
                    volume.stage(failing.node, made)
                if (lab.checksum(made), lab.mark(made)) != before:
                    destroyed.append(f"{prepare.__name__} by sector {sector}")
    figures(f"never destroy: {len(destroyed)} destroyed / {injections} injections, seed {seed}")
    assert destroyed == []


def test_data_is_there_when_reads_work_again(lab: Lab, failing: FailingNode) -> None:
    with lab.volume("faults-end", at=failing.node) as made:
        _with_a_file(lab, failing.node, made)
        with failing.failing_at(0), pytest.raises(grpc.RpcError):
            volume.stage(failing.node, made)
        volume.stage(failing.node, made)
        assert (made.staging(failing.node) / "file").read_text() == "data"


@pytest.mark.parametrize(
    ("mark", "offset", "words"),
    [
        (None, 0, ("never formatted by this driver", "unknown data")),
        (None, MIB - 4, ("never formatted by this driver", "unknown data")),
        (None, MIB, ("never formatted by this driver", "holds data between them")),
        (None, SIZE - 4, ("never formatted by this driver",)),
        (FORMATTED, None, ("reads as blank", "damaged or gone")),
        (FORMATTED, 0, ("reads as unknown data", "damaged or gone")),
        (MARK.encode(Mark(Phase.FORMATTED, "xfs")), None, ("formatted as xfs, not ext4",)),
        (MARK.encode(Mark(Phase.FORMATTING, "xfs")), None, ("formatting as xfs, not ext4",)),
    ],
)
def test_contradiction_is_refused_with_what_was_found(
    lab: Lab, mark: str | None, offset: int | None, words: tuple[str, ...]
) -> None:
    node = lab.nodes[0]
    with lab.volume("contradiction") as made:
        if mark:
            lab.set_metadata(made, format_mark.KEY, mark)
        if offset is not None:
            lab.write(made, b"data", offset)
        before = lab.checksum(made), lab.mark(made)
        with refused("FAILED_PRECONDITION", made.context["imageName"], *words):
            volume.stage(node, made)
        assert (lab.checksum(made), lab.mark(made)) == before
        assert labs.held_at(node) == []


ISO_9660 = (b"\x01CD001\x01", 32768)  # a volume descriptor, as a file's blocks may hold one


@pytest.mark.parametrize("mode", ["SINGLE_NODE_WRITER", "SINGLE_NODE_READER_ONLY"])
def test_formatted_volume_is_mounted_though_a_file_holds_another_signature(
    lab: Lab, mode: str
) -> None:
    node = lab.nodes[0]
    with lab.volume("signature", capability=volume.mounted("xfs"), size=400 * MIB) as made:
        volume.stage(node, made)
        (made.staging(node) / "file").write_text("data")
        volume.unstage(node, made)
        lab.write(made, *ISO_9660)
        if mode != "SINGLE_NODE_WRITER":
            volume.detach(lab.controller, made, "node-a")
            made.capability = volume.mounted("xfs", mode)
            volume.attach(lab.controller, made, "node-a")
        volume.stage(node, made)
        assert (made.staging(node) / "file").read_text() == "data"


@pytest.mark.parametrize(
    ("mark", "superblock", "words"),
    [
        (FORMATTED_XFS, False, ("reads as iso9660", "damaged or gone")),
        (None, True, ("never formatted by this driver",)),
        (RAW_XFS, True, ("used as a raw block device",)),
    ],
)
def test_foreign_signature_is_refused_without_mark_and_superblock(
    lab: Lab, mark: str | None, superblock: bool, words: tuple[str, ...]
) -> None:
    node = lab.nodes[0]
    with lab.volume("signature-only", capability=volume.mounted("xfs"), size=400 * MIB) as made:
        volume.stage(node, made)
        volume.unstage(node, made)
        if not superblock:
            lab.write(made, bytes(512))
        lab.write(made, *ISO_9660)
        lab.remove_metadata(made, format_mark.KEY)
        if mark:
            lab.set_metadata(made, format_mark.KEY, mark)
        before = lab.checksum(made), lab.mark(made)
        with refused("FAILED_PRECONDITION", *words):
            volume.stage(node, made)
        assert (lab.checksum(made), lab.mark(made)) == before


@pytest.mark.parametrize("mark", ["", "formatted", '{"state": "done"}', "[]", "\0"])
def test_damaged_mark_is_an_error_that_shows_it_and_the_repair(lab: Lab, mark: str) -> None:
    with lab.volume("damaged-mark") as made:
        lab.set_metadata(made, format_mark.KEY, mark)
        before = lab.checksum(made)
        with refused("INTERNAL", "is damaged", "nothing is formatted", FORMATTED):
            volume.stage(lab.nodes[0], made)
        assert lab.checksum(made) == before


def test_lost_mark_put_back_as_the_refusal_says_gives_the_data_again(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("mark-lost") as made:
        _with_a_file_and_no_mark(lab, node, made)
        with refused("FAILED_PRECONDITION", "rbd image-meta set", FORMATTED):
            volume.stage(node, made)
        lab.set_metadata(made, format_mark.KEY, FORMATTED)
        volume.stage(node, made)
        assert (made.staging(node) / "file").read_text() == "data"
