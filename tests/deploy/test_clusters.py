"""The value `clusters`: the driver takes the configuration that the chart makes of it."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from e2e import errors
from e2e.release import manifests
from rbdcsi.config import clusters_file, keys
from tests.kubernetes import chart_values

pytestmark = pytest.mark.timeout(900)  # builds helm when the cache is cold

KEY, LONG_KEY = chart_values.KEYS
CLUSTER = {"clusterID": "main", "monitors": ["10.0.0.1"], "pool": "p", "user": "u", "key": KEY}
# Pieces of values that the driver reads, and of text that YAML or the driver could misread.
PIECES = (
    *("10.0.0.1", "mon-a", "fd00::1", "[fd00::1]", "v1:", "v2:", "[", "]", ":3300", ":0"),
    *(":65535", ":65536", "/", "/12", ",", ";", " ", "\n", "http://", "client.", "=", "<<", "~"),
    *("0x_", "0b1", "1_0", "null", "é", "\u2003", "\v", "\x7f", "'", '"', "\\", "-", "."),
)
TEXT = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
ODD = st.one_of(
    *(st.tuples(st.just(name), TEXT) for name in ("pool", "radosNamespace", "user", "nodeUser")),
    st.tuples(st.just("monitors"), st.lists(TEXT, min_size=1, max_size=2)),
    st.tuples(st.just("clusterID"), TEXT),
)


def clusters() -> SearchStrategy[list[dict[str, Any]]]:
    """Return the strategy of clusters, each with one odd value, and with an id of its own."""
    listed = st.lists(ODD, min_size=1, max_size=12)
    return listed.map(lambda pairs: [_cluster(n, *pair) for n, pair in enumerate(pairs)])


def _cluster(number: int, name: str, odd: Any) -> dict[str, Any]:
    cluster = {**CLUSTER, "clusterID": f"c{number}", name: odd}
    if name == "clusterID":
        cluster["clusterID"] = f"{odd[:30]}{number}"
    return {**cluster, "nodeKey": LONG_KEY} if name == "nodeUser" else cluster


def rendered(clusters: list[dict[str, Any]]) -> str | None:
    """Return the chart's objects for those of the clusters that it takes; none if it takes none."""
    taken = list(clusters)
    while taken:
        with tempfile.TemporaryDirectory() as directory:
            file = chart_values.file(Path(directory), {"clusters": taken})
            try:
                return manifests.template("--values", str(file))
            except errors.Failed as error:
                places = {int(number) for number in re.findall(r"/clusters/(\d+)/", str(error))}
                named = re.findall(r"clusters: (\S+): ", str(error))
        assert places or named, "helm says which cluster is wrong"
        taken = [
            cluster
            for number, cluster in enumerate(taken)
            if number not in places and cluster["clusterID"] not in named
        ]
    return None


def load(text: str) -> None:
    """Let the driver read each Secret of a rendering as if it were mounted."""
    for each in filter(None, yaml.safe_load_all(text)):
        if each["kind"] != "Secret":
            continue
        with tempfile.TemporaryDirectory() as directory:
            for name, content in each["stringData"].items():
                file = Path(directory, name)
                file.touch(mode=0o600)
                file.write_text(content.replace("/etc/rbdcsi", directory))
            clusters_file.load(Path(directory, "config.yaml"))


@hypothesis.settings(max_examples=40, derandomize=True, database=None, deadline=None)
@hypothesis.given(clusters())
def test_driver_takes_all_clusters_that_the_chart_takes(clusters: list[dict[str, Any]]) -> None:
    text = rendered(clusters)
    if text is not None:
        load(text)


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        LONG_KEY,
        f" {KEY}\n",
        "AQ...==",
        "AQ==",
        "AQBhYmNkAAAAAAAA",
        KEY.removesuffix("="),
        KEY.removesuffix("cA=="),
        f"{KEY}AAAA",
        KEY.replace("ABAA", "ACAA"),
        KEY.replace("ABAA", "ABAB"),
        KEY.replace("AA", "A\nA", 1),
        KEY.replace("AA", "A-", 1),
    ],
)
def test_chart_takes_the_keys_that_the_driver_takes_and_shows_none(key: str) -> None:
    try:
        keys.parse(key.strip())
    except ValueError:
        taken = False
    else:
        taken = True
    for name in "key", "nodeKey":
        cluster = {**CLUSTER, "nodeUser": "n", "nodeKey": LONG_KEY, name: key}
        flags = ("--set-json", f"clusters={json.dumps([cluster])}")
        if taken:
            load(manifests.template(*flags))
        else:
            with pytest.raises(errors.Failed, match=f"main: {name} is not a Ceph key") as caught:
                manifests.template(*flags)
            assert key not in str(caught.value).partition("ended with")[2]
