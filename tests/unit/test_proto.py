"""The compiled interface says exactly what the wire facts of CSI 1.13 say."""

from pathlib import Path
from typing import get_args

import pytest
from google.protobuf import descriptor_pb2

from rbdcsi.api import csi_pb2
from tests.unit import compiled_facts, wire_facts

PUBLISHED = (Path(__file__).parent / "data/csi-1.13.0.txt").read_text()


@pytest.mark.parametrize("kind", get_args(wire_facts.Kind))
def test_nothing_published_is_missing_or_different_and_nothing_is_added(
    kind: wire_facts.Kind,
) -> None:
    published = {fact for fact in wire_facts.read(PUBLISHED) if fact.kind == kind}
    compiled = {fact for fact in compiled_facts.of(csi_pb2.DESCRIPTOR) if fact.kind == kind}
    assert published, f"the published facts hold no {kind}"
    assert compiled - published == set(), "the interface says what is not published"
    assert published - compiled == set(), "the interface lacks what is published"


def test_package_syntax_and_imports_are_those_published() -> None:
    file = descriptor_pb2.FileDescriptorProto()
    csi_pb2.DESCRIPTOR.CopyToProto(file)
    title, imports, *_ = PUBLISHED.splitlines()
    assert title.endswith(f"syntax {file.syntax}, package {file.package}")
    assert imports == f"# imports: {', '.join(sorted(file.dependency))}"


def test_a_line_that_is_no_fact_is_refused_not_skipped() -> None:
    with pytest.raises(ValueError, match="not a wire fact"):
        wire_facts.read("message Volume\n  one capacity_bytes: int64")
