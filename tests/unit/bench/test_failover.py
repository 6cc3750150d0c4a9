"""The rules by which a fail-over is judged, on made-up reports and records."""

import pytest

from e2e.failover import log, writer
from e2e.failover.log import Reported

OLD = Reported(durable=(0, 1, 2), refused=(3, 4))
NEW = Reported(durable=(3, 4))
NOTHING = Reported()
GOOD = {0: "old", 1: "old", 2: "old", 3: "new", 4: "new"}


def faults(found: dict[int, str], old: Reported = OLD, new: Reported = NEW) -> str:
    return log.faults(found, ("old", old), ("new", new))


def test_reports_are_read_among_other_lines() -> None:
    text = (
        "durable old 0\r\n[  1.2] rbd0: err\r\ndurable other 0\r\nrefused old 1 Input/output error"
    )

    assert log.reported(text, "old") == Reported((0,), (1,))


def test_all_records_that_were_reported_and_no_others_are_right() -> None:
    assert faults(GOOD) == ""


@pytest.mark.parametrize("writer_name", ["old", "new"])
def test_a_record_whose_report_was_cut_off_is_right(writer_name: str) -> None:
    if writer_name == "old":
        assert faults({0: "old", 1: "old", 2: "old", 3: "old"}, new=NOTHING) == ""
    else:
        assert faults({**GOOD, 5: "new"}) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({**GOOD, 1: "damaged"}, "slot 1: the durable record of old is lost, found damaged"),
        ({0: "old", 2: "old", 3: "new", 4: "new"}, "slot 1: the durable record of old is lost"),
        ({**GOOD, 4: "old"}, "slot 4: the durable record of new is lost, found old"),
        ({**GOOD, 5: "old"}, "slot 5: has a record of old that was not reported"),
    ],
)
def test_lost_and_late_records_are_faults(found: dict[int, str], words: str) -> None:
    assert words in faults(found)


def test_a_slot_is_empty_a_record_or_damaged() -> None:
    record = writer.encode("old", 7)

    assert len(record) == writer.SIZE
    assert writer.decode(bytes(writer.SIZE), 7) is None
    assert writer.decode(record, 7) == "old"
    assert writer.decode(record, 8) == "damaged"
    assert writer.decode(record[:100] + b"x" + record[101:], 7) == "damaged"
    assert writer.decode(b"x" * writer.SIZE, 7) == "damaged"
