"""The page about the doctor has a row for each kind of finding."""

import re

from tests.docs.documents import ROOT

RULES = ROOT / "rbdcsi/operator/doctor"
PAGE = ROOT / "docs/how-to/doctor.md"


def test_each_kind_of_finding_has_a_row() -> None:
    sources = " ".join(path.read_text() for path in RULES.glob("about_*.py"))
    kinds = set(re.findall(r'Finding\(\s*"([a-z-]+)"', sources))
    rows = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(kinds)
