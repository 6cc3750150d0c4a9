"""The clusters the driver knows, from one YAML file.

Everything is checked before the driver serves: a `ConfigError` lists all mistakes of the file, each
with its place and what to do. No message holds a value that could be a key.
"""

import difflib
import re
import stat
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog
import yaml

from rbdcsi import errors
from rbdcsi.config import keys, monitors
from rbdcsi.config.credentials import Credentials
from rbdcsi.config.secret import Secret

_log = structlog.get_logger()

_T = TypeVar("_T")

_KEYS = (
    "clusterID", "monitors", "confFile", "pool", "radosNamespace", "user", "key", "keyFile",
    "keyring",
)  # fmt: skip
_REQUIRED = {
    "clusterID": "give the cluster the name that StorageClasses use",
    "pool": "name the pool of StorageClasses without one; node records live there, too",
    "user": "name the Ceph user, such as `rbdcsi` for client.rbdcsi",
}


@dataclass(frozen=True)
class Cluster:
    """One Ceph cluster: how to reach it, as whom, and where volumes go by default."""

    cluster_id: str
    monitors: tuple[str, ...]
    conf_file: Path | None
    pool: str
    rados_namespace: str
    user: str
    key: Secret | None
    key_file: Path | None
    keyring: Path | None

    def credentials(self) -> Credentials:
        """Return user and key; a key file or keyring is read anew, so a rotated key is seen.

        Raises:
            errors.ConfigError: the file cannot be read or holds no key any more.
        """
        try:
            return Credentials(self.user, self._current_key())
        except ValueError as error:
            raise errors.ConfigError(f"cluster {self.cluster_id}: {error}") from None

    def _current_key(self) -> Secret:
        if self.key_file is not None:
            return keys.from_file(self.key_file)
        if self.keyring is not None:
            return keys.from_keyring(self.keyring, self.user)
        if self.key is not None:
            return self.key
        raise ValueError("no key, keyFile or keyring is given")


@dataclass(frozen=True)
class Config:
    """The configuration file."""

    clusters: tuple[Cluster, ...]

    def cluster(self, cluster_id: str) -> Cluster:
        """Return the cluster of that clusterID.

        Raises:
            InvalidRequest: the file lists no such cluster.
        """
        for cluster in self.clusters:
            if cluster.cluster_id == cluster_id:
                return cluster
        known = ", ".join(cluster.cluster_id for cluster in self.clusters)
        raise errors.InvalidRequest(
            f"clusterID {cluster_id!r} is not in the driver's configuration, which knows: {known}"
        )


def load(path: Path) -> Config:
    """Read and check the configuration file.

    Raises:
        errors.ConfigError: a line for every mistake: file, key, what is wrong, what to do.
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
            _log.warning("everybody on this machine can read a key: chmod 600", file=str(file))
    return config


class _Loader(yaml.SafeLoader):
    """A key that is written twice is a mistake; plain YAML lets the last one win in silence."""

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
        # Only the place: the error's own text quotes the line, and with it perhaps a key.
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}this is not YAML; check indentation and quotes") from None


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
    above: set[str] = set()
    read = [_cluster(f"clusters[{at}]", each, above, mistakes) for at, each in enumerate(listed)]
    mistakes += _unknown("", document, ("clusters",))
    return Config(tuple(cluster for cluster in read if cluster))


def _cluster(place: str, found: object, above: set[str], mistakes: list[str]) -> Cluster | None:
    if not isinstance(found, dict):
        mistakes.append(f"{place}: must be a mapping of keys to values")
        return None
    section = _Section(place, found, mistakes)
    cluster = Cluster(
        cluster_id=section.read("clusterID", lambda given: _new_name(given, above), ""),
        monitors=section.read("monitors", _monitors, ()),
        conf_file=section.read("confFile", section.conf_file, None),
        pool=section.read("pool", _text, ""),
        rados_namespace=section.read("radosNamespace", _namespace, ""),
        user=(user := section.read("user", _user, "")),
        key=section.read("key", _key, None),
        key_file=section.read("keyFile", _key_file, None),
        keyring=section.read("keyring", lambda given: section.keyring(given, user), None),
    )
    mistakes += _unknown(f"{place}.", found, _KEYS)
    return cluster


@dataclass(frozen=True)
class _Section:
    """One cluster's mapping: gives its values, and collects every mistake with its place."""

    place: str
    found: Mapping[str, object]
    mistakes: list[str]

    def read(self, key: str, check: Callable[[object], _T], otherwise: _T) -> _T:
        """Return what `check` makes of the value (None: not given), `otherwise` if it is wrong."""
        given = self.found.get(key)
        if key in _REQUIRED and given in (None, ""):
            self.mistakes.append(f"{self.place}.{key}: is missing: {_REQUIRED[key]}")
            return otherwise
        try:
            return check(given)
        except ValueError as error:
            self.mistakes.append(f"{self.place}.{key}: {error}")
            return otherwise

    def conf_file(self, given: object) -> Path | None:
        self._require_one("monitors", "confFile")
        path = _path(given)
        if path is not None:
            keys.read(path)
        return path

    def keyring(self, given: object, user: str) -> Path | None:
        self._require_one("key", "keyFile", "keyring")
        path = _path(given)
        if path is not None and user:
            keys.from_keyring(path, user)
        return path

    def _require_one(self, *names: str) -> None:
        """Refuse none and several of the keys that exclude each other."""
        present = [name for name in names if self.found.get(name)]
        if len(present) != 1:
            found = ", ".join(present) or "none"
            raise ValueError(f"exactly one of {', '.join(names)} is needed; found: {found}")


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError("must be text; put it in quotes")  # noqa: TRY004
    return given


def _path(given: object) -> Path | None:
    if given is None:
        return None
    if not isinstance(given, str):
        raise ValueError("must be a path")  # noqa: TRY004
    return Path(given)


def _new_name(given: object, above: set[str]) -> str:
    name = _text(given)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}", name):
        raise ValueError(
            f"{name!r} must be 1 to 36 of A-Z a-z 0-9 . _ - and begin with a letter or digit"
        )
    if name in above:
        raise ValueError(f"{name!r} is the clusterID of a cluster above; choose another")
    above.add(name)
    return name


def _monitors(given: object) -> tuple[str, ...]:
    return () if given is None else monitors.parse(given)


def _namespace(given: object) -> str:
    namespace = "" if given is None else _text(given)
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,48}", namespace):
        raise ValueError(f"{namespace!r} must be at most 48 of A-Z a-z 0-9 . _ -")
    return namespace


def _user(given: object) -> str:
    user = _text(given)
    name = user.removeprefix("client.")
    if not re.fullmatch(r"[^\s=,\[\]]+", name):
        raise ValueError(f"{user!r} is not a Ceph user; give a name such as `rbdcsi`")
    return name


def _key(given: object) -> Secret | None:
    return None if given is None else keys.parse(_text(given))


def _key_file(given: object) -> Path | None:
    path = _path(given)
    if path is not None:
        keys.from_file(path)
    return path


def _unknown(place: str, found: Mapping[object, object], known: tuple[str, ...]) -> Iterator[str]:
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            yield f"{place}{key}: is not a known key; {hint}"


def _files_with_keys(path: Path, config: Config) -> Iterator[Path]:
    for cluster in config.clusters:
        yield cluster.key_file or cluster.keyring or path
