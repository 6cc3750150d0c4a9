"""What names an image, and which images may be adopted: see also the tests on a real Ceph."""

import dataclasses

import pytest

from rbdcsi import errors
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph import ceph_csi
from rbdcsi.ceph.inspection import Inspection
from rbdcsi.ceph.objects import Header
from rbdcsi.host.block import signature
from rbdcsi.host.block.signature import BlankContent, Signature
from rbdcsi.model import image_names
from rbdcsi.model.format_mark import Mark, Phase
from rbdcsi.operator import adoption, adoption_rules
from rbdcsi.operator.adoption import ImageName
from rbdcsi.operator.adoption_rules import Facts, Wish

NUMBER = "0f2c8a51-9d5e-4c0e-8b61-2a7d3f4e5b6c"
FACTS = Facts(
    "kubernetes/archive",
    Header(1 << 30, 1 << 22, 1, None, None, None, {}),
    VolumeRecord(),
    None,
    Inspection(frozenset(), False, None, ()),
    frozenset(),
    Signature("ext4"),
    None,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("archive", ImageName("archive", "main")),
        ("kubernetes/archive", ImageName("archive", "main", "kubernetes", "")),
        ("kubernetes/shop/archive", ImageName("archive", "main", "kubernetes", "shop")),
    ],
)
def test_image_is_named_as_rbd_names_it(text: str, name: ImageName) -> None:
    assert adoption.parse(text, "main") == name


@pytest.mark.parametrize("text", ["", "/a", "a/", "a//b", "a/b/c/d", "pool/image@snapshot"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="names no image"):
        adoption.parse(text, None)


@pytest.mark.parametrize(
    ("image", "prefix"),
    [
        (f"csi-vol-{NUMBER}", "csi-vol-"),
        (f"team-a-{NUMBER}", "team-a-"),
        (NUMBER, NUMBER),
        ("archive", "archive"),
        (f"csi-vol-{NUMBER}-temp", f"csi-vol-{NUMBER}-temp"),
    ],
)
def test_image_is_listed_by_its_name_without_the_uuid(image: str, prefix: str) -> None:
    assert image_names.listed_prefix(image) == prefix


def test_image_that_nothing_uses_may_be_adopted() -> None:
    adoption_rules.require_kept(FACTS)
    adoption_rules.require_unused(FACTS)
    adoption_rules.require_mappable(FACTS, Wish())
    assert adoption_rules.filesystem(FACTS, Wish()) == "ext4"
    assert adoption_rules.filesystem(FACTS, Wish(block=True)) is None


def test_mirror_daemon_may_watch() -> None:
    watched = Inspection(frozenset(("10.0.0.1:0/1",)), False, None, ())
    facts = dataclasses.replace(FACTS, inspection=watched)
    adoption_rules.require_unused(dataclasses.replace(facts, mirror_daemons=watched.watchers))
    with pytest.raises(errors.Refused, match=r"client 10\.0\.0\.1:0/1 has it open"):
        adoption_rules.require_unused(facts)


@pytest.mark.parametrize(("bit", "text"), [(9, "migrated"), (10, "secondary"), (20, "0x100000")])
def test_features_that_no_user_chooses_are_refused(bit: int, text: str) -> None:
    header = dataclasses.replace(FACTS.header, features=1 | 1 << bit)
    with pytest.raises(errors.Refused, match=text):
        adoption_rules.require_unused(dataclasses.replace(FACTS, header=header))


def test_image_with_clones_of_its_snapshots_is_usable() -> None:
    header = dataclasses.replace(FACTS.header, features=1 | 1 << 8)  # operations
    adoption_rules.require_unused(dataclasses.replace(FACTS, header=header))


def test_deleted_image_is_refused() -> None:
    record = VolumeRecord(deleting="2026-01-01T00:00:00+00:00")
    with pytest.raises(errors.Refused, match="is being deleted since 2026"):
        adoption_rules.require_kept(dataclasses.replace(FACTS, record=record))


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        (Mark(Phase.FORMATTED, "xfs"), "formatted it as xfs"),
        (Mark(Phase.FORMATTING, "ext4"), r"used it before \(formatting\)"),
    ],
)
def test_mark_that_contradicts_is_refused(mark: Mark, text: str) -> None:
    with pytest.raises(errors.UnexpectedContent, match=text):
        adoption_rules.filesystem(dataclasses.replace(FACTS, mark=mark), Wish())


def test_encryption_of_files_shows_in_no_signature() -> None:
    facts = dataclasses.replace(FACTS, traces=ceph_csi.Traces("pvc-1", encrypted=True))
    with pytest.raises(errors.UnexpectedContent, match="encrypted by ceph-csi"):
        adoption_rules.filesystem(facts, Wish())


def test_content_is_found_without_a_device() -> None:
    size = 64 << 40  # more than a file of ext4 can have
    assert signature.content_of_parts(size, [(0, bytes(4096))], seconds=10) == BlankContent()
    luks = b"LUKS\xba\xbe\x00\x01" + bytes(4088)
    found = signature.content_of_parts(size, [(0, luks), (size - 4096, bytes(4096))], seconds=10)
    assert found == Signature("crypto_LUKS")
    data = signature.content_of_parts(1 << 20, [(0, b"\1" * 4096)], seconds=10)
    assert data == Signature(signature.UNKNOWN)
