"""The command as its users meet it, up to the point where it would need a cluster."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import rbdcsi
from rbdcsi.cli.main import main


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


def test_version_is_printed() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.output) == (0, f"rbdcsi, version {rbdcsi.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["controller"], "Missing option '--endpoint'"),
        (["both"], "'both' is not one of 'controller', 'node', 'all'"),
        (["controller", "--endpoint", "tcp://a:1"], "--endpoint 'tcp://a:1' is not a unix socket"),
        (["node", "--endpoint", "/s"], "`serve node` needs --node-id, this node's name"),
        (["all", "--endpoint", "/s", "--topology", "x"], "--topology 'x' is not key=value"),
        (["all", "--endpoint", "/s", "--metrics-address", "x"], "--metrics-address 'x' is not"),
        (["all", "--endpoint", "/s", "--workers", "0"], "Invalid value for '--workers'"),
        (["controller", "--endpoint", "/s", "--config", "/none"], "rbdcsi: /none: /none cannot be"),
    ],
)
def test_a_mistake_of_flags_or_file_ends_with_2_and_its_words(
    arguments: list[str], words: str
) -> None:
    result = invoke("serve", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_flags_may_come_from_the_environment(tmp_path: Path) -> None:
    config = tmp_path / "none.yaml"
    result = invoke(
        "serve",
        "node",
        CSI_ENDPOINT="unix:///csi.sock",
        RBDCSI_NODE_ID="n1",
        RBDCSI_TOPOLOGY="zone=a rack=b",
        RBDCSI_CONFIG=str(config),
    )
    assert result.exit_code == 2
    assert (
        result.stderr == f"rbdcsi: {config}: {config} cannot be read: No such file or directory\n"
    )


def test_each_mistake_of_the_file_is_a_line(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("clusters: [{}]")
    result = invoke("serve", "controller", "--endpoint", "/s", "--config", str(config))
    lines = result.stderr.splitlines()
    assert len(lines) == 5
    assert all(line.startswith(f"rbdcsi: {config}: clusters[0].") for line in lines)


def test_help_names_every_variable() -> None:
    words = invoke("serve", "--help").output
    for variable in (
        "RBDCSI_ENDPOINT",
        "RBDCSI_NODE_ID",
        "RBDCSI_STOP_GRACE",
        "RBDCSI_MAX_VOLUMES",
    ):
        assert variable in words
