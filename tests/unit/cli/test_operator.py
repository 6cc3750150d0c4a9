"""The operator's commands up to the point where they would need a cluster, and what they print."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from rbdcsi.cli import output
from rbdcsi.cli.main import main

_START = """
import sys
from rbdcsi.__main__ import main
from rbdcsi.server import app
print(sorted(name for name in sys.modules if name.split(".")[0] == "rich" or ".operator" in name))
import rich.table
"""


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_help_lists_every_command() -> None:
    words = invoke("--help").output.split()
    assert {"serve", "volumes", "attachments", "nodes", "fences", "doctor"} <= set(words)


def test_serve_loads_neither_rich_nor_the_commands_of_the_operator() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _START], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nodes"], "Usage: main nodes"),
        (["attachments", "release", "v1:c:1::a"], "Missing argument 'NODE'"),
        (["volumes", "ls", "--many"], "No such option"),
        (["snapshot"], "No such command 'snapshot'"),
    ],
)
def test_wrong_arguments_end_with_2(arguments: list[str], words: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_a_shell_can_complete_commands() -> None:
    result = CliRunner().invoke(
        main,
        [],
        prog_name="rbdcsi",
        complete_var="_RBDCSI_COMPLETE",
        env={
            "_RBDCSI_COMPLETE": "bash_complete",
            "COMP_WORDS": "rbdcsi nodes r",
            "COMP_CWORD": "2",
        },
    )
    assert result.output == "plain,retire\n"


ROWS = [
    {"name": "a [b]", "size_bytes": 3 << 29, "nodes": ["x", "y"], "since": None, "live": True},
    {"name": "c", "size_bytes": 512, "nodes": [], "since": "now", "live": False},
]


def test_json_has_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(ROWS, ("name",), json_wanted=True)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_a_table_has_a_line_for_each_value(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(ROWS, ("name", "size_bytes", "nodes", "since", "live"), json_wanted=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["NAME", "SIZE", "NODES", "SINCE", "LIVE"],
        ["a", "[b]", "1.5", "GiB", "x", "-", "yes"],
        ["y"],
        ["c", "512", "B", "-", "now", "no"],
    ]


def test_details_show_rows_below_their_key(capsys: pytest.CaptureFixture[str]) -> None:
    output.details({"volume": "v", "clients": ROWS}, json_wanted=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == [["VOLUME", "v"], ["CLIENTS"], ["NAME", "a", "[b]"]]
    assert ["NODES", "x,", "y"] in lines
