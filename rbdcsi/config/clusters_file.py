"""The Ceph clusters that the driver serves, read from one YAML file.

The driver checks the whole file before it serves. A `ConfigError` lists all mistakes of the file,
each with its key in the file and the way to mend it. No message holds a value that could be a key.
"""

import difflib
import re
import stat
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import structlog
import yaml

from rbdcsi import errors
from rbdcsi.config import credentials, keys, monitors, monitors_file
from rbdcsi.config.clusters import Cluster, Config
from rbdcsi.config.secret import Secret

_log = structlog.get_logger()

_T = TypeVar("_T")


class Key(NamedTuple):
    """A key of a cluster; the table in docs/reference/configuration.md is generated from these."""

    name: str
    kind: str
    example: str
    meaning: str
    missing: str = ""  # the next step where the key is needed and missing


# fmt: off
TABLE = (
    Key("clusterID", "name", "main", "The cluster's name in StorageClasses and volume handles.",
        "give the cluster the name that StorageClasses use"),
    Key("monitors", "list", "[10.0.0.1, 10.0.0.2]",
        "Addresses of the monitors; or `monitorsFile` or `confFile`."),
    Key("monitorsFile", "path", "/etc/rbdcsi/main.monitors",
        "A file with these addresses, or with those that Rook writes."),
    Key("confFile", "path", "/etc/ceph/ceph.conf", "A ceph.conf, which has the monitors."),
    Key("pool", "pool", "kubernetes", "Where volumes go by default, and node records always.",
        "name the pool of StorageClasses without one; node records live there, too"),
    Key("radosNamespace", "name", "tenant-a", "The RADOS namespace in that pool; default: none."),
    Key("user", "name", "rbdcsi", "The Ceph user, without `client.`.",
        "name the Ceph user, such as `rbdcsi` for client.rbdcsi"),
    Key("key", "key", "AQ...==", "The user's key; or `keyFile` or `keyring`."),
    Key("keyFile", "path", "/etc/rbdcsi/key", "A file that holds the key and nothing else."),
    Key("keyring", "path", "/etc/ceph/rbdcsi.keyring", "A keyring with a section for the user."),
    Key("auth", "choice", "none", "`none`, instead of a key: the cluster has no cephx."),
)
# fmt: on
_KEYS = tuple(key.name for key in TABLE)
_REQUIRED = {key.name: key.missing for key in TABLE if key.missing}


def load(path: Path) -> Config:
    """Read and check the configuration file.

    Raises:
        errors.ConfigError: the file has mistakes. The message has one line for each: the file,
            the key, the mistake and the way to mend it.
    """
    mistakes: list[str] = []
    try:
        config = _config(_document(path), mistakes)
    except ValueError as error:
        mistakes.append(str(error))
    if mistakes:
        raise errors.ConfigError("\n".join(f"{path}: {mistake}" for mistake in mistakes))
    for file in sorted(set(_files_with_keys(path, config))):
        if file.stat().st_mode & stat.S_IROTH:
            _log.warning(
                "every user of this machine can read this file, which holds a Ceph key: run "
                "chmod 600 on it",
                file=str(file),
            )
    return config


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice; plain YAML silently takes the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"line {node.start_mark.line + 1}: {twice!r} is written twice here")
        return super().construct_mapping(node, deep)


def _document(path: Path) -> object:
    try:
        return yaml.load(keys.read(path), _Loader)  # noqa: S506  it is a SafeLoader
    except yaml.YAMLError as error:
        # Only the position: the error's own text quotes the line, which may hold a key.
        mark = getattr(error, "problem_mark", None)
        position = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{position}this is not YAML; check indentation and quotes") from None


def _config(document: object, mistakes: list[str]) -> Config:
    if not isinstance(document, dict):
        raise ValueError("the file: must be a mapping of keys to values")  # noqa: TRY004
    clusters = document.get("clusters")
    if "clusters" not in document or clusters == []:
        state = "is empty" if "clusters" in document else "is missing"
        mistakes.append(f"clusters: {state}: list at least one cluster")
    elif not isinstance(clusters, list):
        mistakes.append("clusters: must be a list")
    listed = clusters if isinstance(clusters, list) else []
    cluster_ids: set[str] = set()
    parsed = [
        _cluster(f"clusters[{index}]", section, cluster_ids, mistakes)
        for index, section in enumerate(listed)
    ]
    mistakes += _unknown_keys("", document, ("clusters",))
    return Config(tuple(cluster for cluster in parsed if cluster))


def _cluster(
    key_path: str, document: object, cluster_ids: set[str], mistakes: list[str]
) -> Cluster | None:
    if not isinstance(document, dict):
        mistakes.append(f"{key_path}: must be a mapping of keys to values")
        return None
    section = _Section(key_path, document, mistakes)
    cluster = Cluster(
        cluster_id=section.read("clusterID", lambda value: _new_cluster_id(value, cluster_ids), ""),
        monitors=section.read("monitors", _monitors, ()),
        monitors_file=section.read("monitorsFile", section.monitors_file, None),
        conf_file=section.read("confFile", section.conf_file, None),
        pool=section.read("pool", _text, ""),
        rados_namespace=section.read("radosNamespace", _namespace, ""),
        user=(user := section.read("user", _user, "")),
        key=section.read("key", _key, None),
        key_file=section.read("keyFile", _key_file, None),
        keyring=section.read("keyring", lambda value: section.keyring(value, user), None),
        without_keys=section.read("auth", _is_none, False),
    )
    mistakes += _unknown_keys(f"{key_path}.", document, _KEYS)
    return cluster


@dataclass(frozen=True)
class _Section:
    """The mapping of one cluster: reads its values, and adds every mistake to `mistakes`."""

    key_path: str  # such as clusters[0]
    values: Mapping[str, object]
    mistakes: list[str]

    def read(self, key: str, check: Callable[[object], _T], otherwise: _T) -> _T:
        """Return the result of `check`, which gets the value, or None if the key is missing.

        If the value is wrong, add the mistake and return `otherwise`.
        """
        value = self.values.get(key)
        if key in _REQUIRED and value in (None, ""):
            self.mistakes.append(f"{self.key_path}.{key}: is missing: {_REQUIRED[key]}")
            return otherwise
        try:
            return check(value)
        except ValueError as error:
            self.mistakes.append(f"{self.key_path}.{key}: {error}")
            return otherwise

    def monitors_file(self, value: object) -> Path | None:
        path = _path(value)
        if path is not None:
            monitors_file.read(path, str(self.values.get("clusterID")))
        return path

    def conf_file(self, value: object) -> Path | None:
        self._require_one("monitors", "monitorsFile", "confFile")
        path = _path(value)
        if path is not None:
            keys.read(path)
        return path

    def keyring(self, value: object, user: str) -> Path | None:
        self._require_one("key", "keyFile", "keyring", "auth")
        path = _path(value)
        if path is not None and user:
            keys.from_keyring(path, user)
        return path

    def _require_one(self, *names: str) -> None:
        """Raise ValueError unless the section has exactly one of these keys."""
        present = [name for name in names if self.values.get(name)]
        if len(present) != 1:
            raise ValueError(
                f"exactly one of {', '.join(names)} is needed; found: "
                f"{', '.join(present) or 'none'}"
            )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes")  # noqa: TRY004
    return value


def _path(value: object) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be a path")  # noqa: TRY004
    return Path(value)


def _new_cluster_id(value: object, cluster_ids: set[str]) -> str:
    name = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}", name):
        raise ValueError(
            f"{name!r} must be 1 to 36 of A-Z a-z 0-9 . _ - and begin with a letter or digit"
        )
    if name in cluster_ids:
        raise ValueError(f"{name!r} is the clusterID of a cluster above; choose another")
    cluster_ids.add(name)
    return name


def _monitors(value: object) -> tuple[str, ...]:
    return () if value is None else monitors.parse(value)


def _namespace(value: object) -> str:
    namespace = "" if value is None else _text(value)
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,48}", namespace):
        raise ValueError(f"{namespace!r} must be at most 48 of A-Z a-z 0-9 . _ -")
    return namespace


def _user(value: object) -> str:
    return credentials.user(_text(value))


def _key(value: object) -> Secret | None:
    return None if value is None else keys.parse(_text(value))


def _is_none(value: object) -> bool:
    if value not in (None, "none"):
        raise ValueError("must be none, for a cluster without cephx; otherwise leave it out")
    return value == "none"


def _key_file(value: object) -> Path | None:
    path = _path(value)
    if path is not None:
        keys.from_file(path)
    return path


def _unknown_keys(
    prefix: str, section: Mapping[object, object], allowed: tuple[str, ...]
) -> Iterator[str]:
    for key in section:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(allowed)}"
            yield f"{prefix}{key}: is not a known key; {hint}"


def _files_with_keys(path: Path, config: Config) -> Iterator[Path]:
    for cluster in config.clusters:
        yield cluster.key_file or cluster.keyring or path
