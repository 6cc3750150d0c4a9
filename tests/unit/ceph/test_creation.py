"""Which creations are finished; tests/integration/controller/test_interrupted.py makes the rest."""

import dataclasses

import pytest

from rbdcsi.ceph.creation import Traces, contradiction, missing
from rbdcsi.ceph.objects import Header
from rbdcsi.model.image_layout import mask

PLAIN = Header(64 << 20, 4 << 20, mask(("layering",)), None, None, None, {})
EVERY_FEATURE = mask(("striping", "exclusive-lock", "object-map", "journaling"))
FULL = Header(64 << 20, 4 << 20, EVERY_FEATURE, 65536, 4, None, {})
FINISHED = Traces("1", "1", FULL, object_map=True, journal=True)


@pytest.mark.parametrize(
    ("changes", "first_missing"),
    [
        ({}, None),
        ({"header": None}, "header"),
        ({"header": None, "named_id": None, "object_map": False}, "header"),
        ({"header": dataclasses.replace(FULL, stripe_unit=None)}, "stripes"),
        ({"header": dataclasses.replace(FULL, stripe_count=None)}, "stripes"),
        ({"object_map": False}, "object map"),
        ({"journal": False}, "journal"),
        ({"mirroring": False}, "record of mirroring"),
        ({"header": PLAIN, "object_map": False, "journal": False, "mirroring": False}, None),
    ],
)
def test_creation_is_finished_when_it_has_what_its_features_need(
    changes: dict[str, object], first_missing: str | None
) -> None:
    traces = dataclasses.replace(FINISHED, **changes)  # type: ignore[arg-type]
    assert missing(traces) == first_missing
    assert contradiction(traces) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trashed": True}, "in the trash"),
        ({"named_id": "2"}, "leads to 2, the directory to 1"),
        ({"named_id": "2", "header": None}, "leads to 2, the directory to 1"),
        ({"named_id": None}, "no object rbd_id"),
        ({"listed_id": None}, "no entry in rbd_directory"),
    ],
)
def test_state_that_no_creation_passes_through_is_named(
    changes: dict[str, object], words: str
) -> None:
    traces = dataclasses.replace(FINISHED, **changes)  # type: ignore[arg-type]
    assert words in (contradiction(traces) or "")
