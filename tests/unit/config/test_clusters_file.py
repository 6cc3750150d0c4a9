import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.config import clusters_file, credentials
from rbdcsi.config.secret import Secret
from rbdcsi.telemetry import logs

KEY = "AQAAAAAAAAAAABAAAQIDBAUGBwgJCgsMDQ4PEA=="
OTHER_KEY = "AQAAAAAAAAAAABAAEA8ODQwLCgkIBwYFBAMCAQ=="

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


def mistakes(path: Path) -> list[str]:
    with pytest.raises(errors.ConfigError) as refused:
        clusters_file.load(path)
    return str(refused.value).splitlines()


def cluster(**changes: object) -> str:
    facts = {"clusterID": "a", "monitors": ["10.0.0.1"], "pool": "rbd", "user": "u", "key": KEY}
    return json.dumps({k: v for k, v in {**facts, **changes}.items() if v is not None})


def test_a_cluster_is_read_with_its_defaults(write: Write) -> None:
    path = write(
        f"""
        clusters:
          - clusterID: east
            monitors: 10.0.0.1:6789,mon-b
            pool: rbd
            user: client.rbdcsi
            key: {KEY}
        """
    )
    east = clusters_file.load(path).cluster("east")
    assert east.monitors == ("10.0.0.1:6789", "mon-b")
    assert (east.pool, east.rados_namespace, east.conf_file) == ("rbd", "", None)
    assert east.credentials() == credentials.Credentials("rbdcsi", Secret(KEY))


def test_every_mistake_is_named_at_once_with_file_place_and_fix(
    write: Write, tmp_path: Path
) -> None:
    path = write(
        f"""
        clusters:
          - clusterID: east
            monitors: 10.0.0.1
            pool: rbd
            user: u
            key: {KEY}
          - clusterID: east
            monitors: [10.0.0.1, a_b]
            keyFile: {tmp_path}/none
            user: "a b"
            radosNamespac: x
          - pool: 1
            confFile: {tmp_path}/missing.conf
            monitors: 10.0.0.1
        cluster: []
        """
    )
    found = mistakes(path)
    assert all(line.startswith(f"{path}: ") for line in found)
    assert [line.removeprefix(f"{path}: ") for line in found] == [
        "clusters[1].clusterID: 'east' is the clusterID of a cluster above; choose another",
        "clusters[1].monitors: 'a_b' is not a monitor's address; give one such as 10.0.0.1, "
        "mon-a:6789, [fd00::1]:6789 or [v2:10.0.0.1:3300,v1:10.0.0.1:6789]",
        "clusters[1].pool: is missing: name the pool of StorageClasses without one; node records "
        "live there, too",
        "clusters[1].user: 'a b' is not a Ceph user; give a name such as `rbdcsi`",
        f"clusters[1].keyFile: {tmp_path}/none: {tmp_path}/none cannot be read: "
        "No such file or directory",
        "clusters[1].radosNamespac: is not a known key; did you mean radosNamespace?",
        "clusters[2].clusterID: is missing: give the cluster the name that StorageClasses use",
        "clusters[2].confFile: exactly one of monitors, monitorsFile, confFile is needed; found: "
        "monitors, confFile",
        "clusters[2].pool: must be text; put it in quotes",
        "clusters[2].user: is missing: name the Ceph user, such as `rbdcsi` for client.rbdcsi",
        "clusters[2].keyring: exactly one of key, keyFile, keyring, auth is needed; found: none",
        "cluster: is not a known key; did you mean clusters?",
    ]


def test_a_cluster_without_cephx_needs_no_key(write: Write) -> None:
    path = write(f"clusters: [{cluster(key=None, auth='none')}]")
    assert clusters_file.load(path).cluster("a").credentials() == credentials.Credentials("u", None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"auth": "none"},
            "exactly one of key, keyFile, keyring, auth is needed; found: key, auth",
        ),
        ({"auth": "cephx", "key": None}, "must be none, for a cluster without cephx"),
    ],
)
def test_a_cluster_with_and_without_keys_is_refused(
    write: Write, changes: dict[str, object], words: str
) -> None:
    assert any(words in line for line in mistakes(write(f"clusters: [{cluster(**changes)}]")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clusters: []", "clusters: is empty: list at least one cluster"),
        ("clusters:", "clusters: must be a list"),
        ("--- {}", "clusters: is missing: list at least one cluster"),
        ("", "the file: must be a mapping of keys to values"),
        ("clusters: {}", "clusters: must be a list"),
        ("clusters: [1]", "clusters[0]: must be a mapping of keys to values"),
        ("clusters:\n  - a: [", "line 2, column 9: this is not YAML; check indentation and quotes"),
        ("clusters:\n  - a: 1\n    a: 2", "line 2: 'a' is written twice here"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_words(write: Write, text: str, words: str) -> None:
    path = write(text)
    assert mistakes(path) == [f"{path}: {words}"]


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert mistakes(path) == [f"{path}: {path} cannot be read: No such file or directory"]


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "a/b", "a b", "é", "a" * 37, "a\n"]
)  # fmt: skip
def test_a_cluster_id_outside_its_grammar_is_refused(write: Write, name: str) -> None:
    found = mistakes(write(f"clusters: [{cluster(clusterID=name)}]"))
    assert len(found) == 1
    assert "clusters[0].clusterID: " in found[0]


@pytest.mark.parametrize(
    "text",
    [
        f"clusters:\n - key: {KEY[:-3]}\n",
        f"clusters:\n - key: &{KEY}\n   : : *{KEY}",
        f"clusters: [{{key: {KEY}, pool: [{KEY}]}}]",
        f"clusters: [{{keyring: {{a: {KEY}}}, keyFile: 1, key: 17}}]",
        f"clusters:\n - 'key: {KEY}",
        f"{KEY}: {KEY}: {KEY}",
    ],
)
def test_no_message_shows_a_key(write: Write, text: str) -> None:
    assert KEY[:20] not in "".join(mistakes(write(text)))


def test_neither_does_the_configuration_shown(write: Write) -> None:
    loaded = clusters_file.load(write(f"clusters: [{cluster()}]"))
    assert KEY not in f"{loaded!r} {loaded} {dataclasses.asdict(loaded)}"


def test_a_key_file_is_read_anew_so_a_rotated_key_is_seen(write: Write, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")
    east = clusters_file.load(
        write(f"clusters: [{cluster(key=None, keyFile=str(key_file))}]")
    ).clusters[0]
    key_file.write_text(OTHER_KEY)
    assert east.credentials().key == Secret(OTHER_KEY)
    key_file.unlink()
    with pytest.raises(errors.Unavailable, match=r"cluster a: .*key cannot be read"):
        east.credentials()


def test_a_ceph_conf_and_its_keyring_can_be_pointed_at(write: Write, tmp_path: Path) -> None:
    conf, keyring = tmp_path / "ceph.conf", tmp_path / "keyring"
    conf.write_text("[global]\nmon host = 10.0.0.1\n")
    keyring.write_text(
        f'[client.other]\n\tkey = {OTHER_KEY}\n[client.u]\n\tkey = {KEY}\n\tcaps mon = "allow r"\n'
    )
    text = cluster(monitors=None, confFile=str(conf), key=None, keyring=str(keyring))
    east = clusters_file.load(write(f"clusters: [{text}]")).clusters[0]
    assert (east.conf_file, east.monitors) == (conf, ())
    assert east.credentials().key == Secret(KEY)


def test_a_keyring_without_the_user_is_refused(write: Write, tmp_path: Path) -> None:
    keyring = tmp_path / "keyring"
    keyring.write_text(f"[client.other]\n\tkey = {KEY}\n")
    path = write(f"clusters: [{cluster(key=None, keyring=str(keyring))}]")
    assert mistakes(path) == [
        f"{path}: clusters[0].keyring: {keyring} has no key in a section [client.u]"
    ]


def test_what_is_no_keyring_is_refused_without_being_quoted(write: Write, tmp_path: Path) -> None:
    keyring = tmp_path / "keyring"
    keyring.write_text(KEY)
    path = write(f"clusters: [{cluster(key=None, keyring=str(keyring))}]")
    assert mistakes(path) == [f"{path}: clusters[0].keyring: {keyring} is not a Ceph keyring"]


def test_a_key_that_everybody_can_read_is_warned_of(write: Write) -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    path = write(f"clusters: [{cluster()}]")
    clusters_file.load(path)
    assert stream.getvalue() == ""
    path.chmod(0o644)
    clusters_file.load(path)
    assert json.loads(stream.getvalue())["file"] == str(path)


def test_an_unknown_cluster_is_refused_and_the_known_ones_named(write: Write) -> None:
    loaded = clusters_file.load(write(f"clusters: [{cluster()}, {cluster(clusterID='b')}]"))
    with pytest.raises(errors.InvalidRequest, match=r"'c' is not in .* which has: a, b"):
        loaded.cluster("c")
