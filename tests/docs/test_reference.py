"""The generated tables are those of today's source, and what the source says in them is true."""

import re

import pytest

from rbdcsi import errors
from rbdcsi.config.clusters import Cluster
from rbdcsi.model.parameters import Parameter
from tools import reference
from tools.reference import chart_values, messages, sources

PARAMETERS = sources.PARAMETERS.TABLE
TOGETHER = {"stripeUnit": {"stripeCount": "8"}, "stripeCount": {"stripeUnit": "64K"}}


def test_every_reason_of_a_refusal_is_explained() -> None:
    page = (sources.ROOT / "docs/reference/metrics.md").read_text()
    section = page.split("## Why a call is refused")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == errors.refusal_reasons()


def test_generated_tables_are_up_to_date() -> None:
    stale = [page for page, text in reference.pages().items() if page.read_text() != text]
    assert stale == [], "run `make docs`"


@pytest.mark.parametrize("row", PARAMETERS, ids=lambda row: row.name)
def test_example_of_a_parameter_is_accepted(row: Parameter) -> None:
    if row.example:
        pairs = {row.name: row.example, **TOGETHER.get(row.name, {})}
        assert sources.PARAMETERS.parse(pairs) != sources.PARAMETERS.parse({})


@pytest.mark.parametrize("row", PARAMETERS, ids=lambda row: row.name)
def test_default_of_a_parameter_is_what_leaving_it_out_means(
    row: Parameter,
) -> None:
    if row.default and row.name != sources.PARAMETERS.FSTYPE:  # that one is CreateVolume's
        left_out = sources.PARAMETERS.parse({})
        assert sources.PARAMETERS.parse({row.name: row.default}) == left_out


def test_keys_of_the_configuration_are_those_of_its_record() -> None:
    names = [key.name for key in sources.CONFIGURATION.TABLE]
    assert len(names) == len(set(names)) == len(Cluster.__dataclass_fields__)


def test_every_flag_and_every_value_has_a_meaning() -> None:
    assert [option.name for option in sources.SERVE.params[1:] if not option.help] == []
    nested = {each.path for each in chart_values.values() if each.kind == "object"}
    unexplained = [
        each.path
        for each in chart_values.values()
        if not each.meaning and each.path.rpartition(".")[0] not in nested
    ]
    assert unexplained == []


def test_every_message_has_a_chapter_and_known_ones_are_found() -> None:
    first_words = {(each.code, each.text.partition(" ")[0]) for each in messages.all_messages()}
    assert len(first_words) > 60
    assert ("INVALID_ARGUMENT", "objectSize:") in first_words
    assert ("exit code 2", "--endpoint") in first_words
