from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host.mappers import interface, select
from rbdcsi.host.mappers.krbd import Krbd
from tests.unit.host.mappers.images import IMAGE


class Unsupporting(Krbd):
    """A mapper that gives a reason why it cannot."""

    def __init__(self, name: str, reason: str | None) -> None:
        super().__init__()
        self.name, self.reason = name, reason

    def unsupported(self, image: interface.Image | None = None) -> str | None:
        return None if self.reason is None else f"{self.reason} for {image}"


KRBD = Unsupporting("krbd", "no module rbd")
NBD = Unsupporting("nbd", None)
FUSE = Unsupporting("fuse", None)


def test_first_supported_one_is_chosen() -> None:
    assert select.choose((KRBD, NBD, FUSE)) is NBD


def test_wanted_order_decides() -> None:
    assert select.choose((KRBD, NBD, FUSE), ("krbd", "fuse", "nbd")) is FUSE


def test_none_supported_is_refused_with_the_reason_of_each() -> None:
    nbd = Unsupporting("nbd", "no rbd-nbd")

    with pytest.raises(errors.Refused, match=r"krbd: no module rbd .*\. nbd: no rbd-nbd") as caught:
        select.choose((KRBD, nbd, FUSE), ("krbd", "nbd"), IMAGE)

    assert f"no rbd-nbd for {IMAGE}" in str(caught.value)


def test_unknown_name_is_invalid() -> None:
    with pytest.raises(errors.InvalidRequest, match="'iscsi'"):
        select.choose((KRBD,), ("iscsi",))


def test_every_mapper_is_offered_in_the_order_of_preference(tmp_path: Path) -> None:
    assert tuple(mapper.name for mapper in select.every(tmp_path)) == select.NAMES
