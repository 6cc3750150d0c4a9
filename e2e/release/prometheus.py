"""Prometheus out of Debian's package, which is unpacked and not installed: that starts a server."""

import contextlib
import json
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e import caches, processes
from e2e.clusters import commands, ports

_SECONDS = 600
_FETCH = """
cd "$0"
apt-get -qq download prometheus || { apt-get -qq update && apt-get -qq download prometheus; }
dpkg-deb --extract *.deb .
rm *.deb
"""


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that answers at this address and port."""

    address: str

    def query(self, expression: str) -> Sequence[Mapping[str, Any]]:
        """Return the series that the expression has now, each with its labels and its value."""
        words = urllib.parse.urlencode({"query": expression})
        found: Sequence[Mapping[str, Any]] = self._get(f"query?{words}")["result"]
        return found

    def targets(self) -> Sequence[Mapping[str, Any]]:
        """Return what is scraped, with labels, health and the last error."""
        found: Sequence[Mapping[str, Any]] = self._get("targets?state=active")["activeTargets"]
        return found

    def rules(self) -> Sequence[Mapping[str, Any]]:
        """Return the alert rules, with health, state and the last error."""
        (group,) = self._get("rules")["groups"]
        found: Sequence[Mapping[str, Any]] = group["rules"]
        return found

    def _get(self, what: str) -> Mapping[str, Any]:
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{what}", timeout=30) as answer:
            data: Mapping[str, Any] = json.load(answer)["data"]
        return data


@contextlib.contextmanager
def running(configuration: Mapping[str, object]) -> Iterator[Prometheus]:
    """Run a Prometheus with that configuration, which ends with the body.

    Raises:
        DeadlineExceeded: it does not answer.
    """
    with (
        tempfile.TemporaryDirectory() as name,
        ports.claimed_pair("127.0.0.1") as port,
        contextlib.closing(processes.Spawner("prometheus")) as spawner,
    ):
        directory = Path(name)
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
        child = spawner.spawn(
            [
                program(),
                f"--config.file={directory}/prometheus.yaml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            directory / "log",
        )
        try:
            server = Prometheus(f"127.0.0.1:{port}")
            commands.wait_until(lambda: _answers(server), "Prometheus answers")
            yield server
        finally:
            child.kill()
            child.wait()


def program(name: str = "prometheus") -> Path:
    """Return the path of a program of the package, fetched now unless the cache has it.

    Args:
        name: "prometheus" or "promtool".

    Raises:
        Failed: the package cannot be had; the message is apt's.
    """
    return caches.made("prometheus-bookworm", _fetch) / "usr/bin" / name


def _fetch(directory: Path) -> None:
    commands.run(["sh", "-ec", _FETCH, directory], timeout=_SECONDS)


def _answers(server: Prometheus) -> bool:
    with contextlib.suppress(OSError):
        server.query("vector(1)")
        return True
    return False
