"""The clusters the driver knows, from one YAML file.

Everything is checked before the driver serves: a `ConfigError` lists all mistakes of the file, each
with its place and what to do. No message holds a value that could be a key.
"""

import difflib
import re
import stat
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import structlog
import yaml
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from rbdcsi import errors, keys, monitors
from rbdcsi.secret import Secret

_log = structlog.get_logger()

_TYPE_MISTAKES = {
    "string_type": "must be text; put it in quotes",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping of keys to values",
}


class ConfigError(errors.Refused):
    """The configuration cannot be used; each line of the message is one mistake and its fix."""


@dataclass(frozen=True)
class Credentials:
    """A Ceph user (without the leading `client.`) and its key."""

    user: str
    key: Secret


class Cluster(pydantic.BaseModel):
    """One Ceph cluster: how to reach it, as whom, and where volumes go by default."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True,
        alias_generator=to_camel, validate_by_name=True,
    )  # fmt: skip

    # A description ends the sentence "is missing: …".
    cluster_id: str = pydantic.Field(
        alias="clusterID", description="give the cluster the name that StorageClasses use"
    )
    monitors: tuple[str, ...] = ()
    conf_file: Path | None = pydantic.Field(default=None, validate_default=True)
    pool: str = pydantic.Field(
        min_length=1,
        description="name the pool of StorageClasses without one; node records live there, too",
    )
    rados_namespace: str = ""
    user: str = pydantic.Field(description="name the Ceph user, such as `rbdcsi` for client.rbdcsi")
    key: Secret | None = None
    key_file: Path | None = None
    keyring: Path | None = pydantic.Field(default=None, validate_default=True)

    @pydantic.field_validator("cluster_id")
    @classmethod
    def _is_a_new_name(cls, cluster_id: str, info: pydantic.ValidationInfo) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}", cluster_id):
            raise ValueError(
                f"{cluster_id!r} must be 1 to 36 of A-Z a-z 0-9 . _ - and begin with a letter "
                "or digit"
            )
        above: set[str] = set() if info.context is None else info.context  # load() passes it
        if cluster_id in above:
            raise ValueError(f"{cluster_id!r} is the clusterID of a cluster above; choose another")
        above.add(cluster_id)
        return cluster_id

    @pydantic.field_validator("monitors", mode="before")
    @classmethod
    def _are_addresses(cls, given: object) -> tuple[str, ...]:
        return monitors.parse(given)

    @pydantic.field_validator("conf_file")
    @classmethod
    def _is_the_only_way_in(cls, path: Path | None, info: pydantic.ValidationInfo) -> Path | None:
        # What is wrong itself is not in info.data; it was given all the same.
        _require_one({"monitors": info.data.get("monitors", "wrong"), "confFile": path})
        if path is not None:
            keys.read(path)
        return path

    @pydantic.field_validator("rados_namespace")
    @classmethod
    def _is_a_namespace(cls, namespace: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]{0,48}", namespace):
            raise ValueError(f"{namespace!r} must be at most 48 of A-Z a-z 0-9 . _ -")
        return namespace

    @pydantic.field_validator("user")
    @classmethod
    def _without_its_type(cls, user: str) -> str:
        name = user.removeprefix("client.")
        if not re.fullmatch(r"[^\s=,\[\]]+", name):
            raise ValueError(f"{user!r} is not a Ceph user; give a name such as `rbdcsi`")
        return name

    @pydantic.field_validator("key", mode="before")
    @classmethod
    def _is_a_key(cls, key: object) -> object:
        return keys.parse(key) if isinstance(key, str) else key

    @pydantic.field_validator("key_file")
    @classmethod
    def _holds_a_key(cls, path: Path | None) -> Path | None:
        if path is not None:
            keys.from_file(path)
        return path

    @pydantic.field_validator("keyring")
    @classmethod
    def _is_the_only_key(cls, path: Path | None, info: pydantic.ValidationInfo) -> Path | None:
        key, key_file = info.data.get("key", "wrong"), info.data.get("key_file", "wrong")
        _require_one({"key": key, "keyFile": key_file, "keyring": path})
        if path is not None and "user" in info.data:
            keys.from_keyring(path, info.data["user"])
        return path

    def credentials(self) -> Credentials:
        """Return user and key; a key file or keyring is read anew, so a rotated key is seen.

        Raises:
            ConfigError: the file cannot be read or holds no key any more.
        """
        try:
            return Credentials(self.user, self._current_key())
        except ValueError as error:
            raise ConfigError(f"cluster {self.cluster_id}: {error}") from None

    def _current_key(self) -> Secret:
        if self.key_file is not None:
            return keys.from_file(self.key_file)
        if self.keyring is not None:
            return keys.from_keyring(self.keyring, self.user)
        if self.key is not None:
            return self.key
        raise ValueError("no key, keyFile or keyring is given")


class Config(pydantic.BaseModel):
    """The configuration file."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    clusters: tuple[Cluster, ...] = pydantic.Field(description="list at least one cluster")

    @pydantic.field_validator("clusters")
    @classmethod
    def _are_some(cls, clusters: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
        if not clusters:
            raise ValueError("is empty: list at least one cluster")
        return clusters

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
        ConfigError: a line for every mistake: file, key, what is wrong, what to do.
    """
    try:
        config = Config.model_validate(_document(path), context=set())
    except pydantic.ValidationError as error:
        mistakes = [_sentence(mistake) for mistake in error.errors(include_input=False)]
        raise ConfigError("\n".join(f"{path}: {mistake}" for mistake in mistakes)) from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
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


def _sentence(mistake: ErrorDetails) -> str:
    """Say where and what the mistake is, and what to do."""
    place, kind = _place(mistake["loc"]), mistake["type"]
    match kind:
        case "value_error":
            words = str(mistake["ctx"]["error"])
        case "extra_forbidden":
            words = f"is not a known key; {_nearest(mistake['loc'])}"
        case "missing" | "string_too_short":
            words = f"is missing: {_fields(mistake['loc'])[str(mistake['loc'][-1])].description}"
        case _:
            words = _TYPE_MISTAKES.get(kind, mistake["msg"])
    return f"{place}: {words}"


def _place(loc: tuple[int | str, ...]) -> str:
    """Write a path of keys as people do: clusters[1].monitors."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return "".join(parts).lstrip(".") or "the file"


def _fields(loc: tuple[int | str, ...]) -> Mapping[str, FieldInfo]:
    model: type[pydantic.BaseModel] = Cluster if len(loc) > 1 else Config
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _nearest(loc: tuple[int | str, ...]) -> str:
    known = _fields(loc)
    near = difflib.get_close_matches(str(loc[-1]), known, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _require_one(given: Mapping[str, object]) -> None:
    """Refuse none and several of the keys that exclude each other."""
    present = [name for name, value in given.items() if value]
    if len(present) != 1:
        raise ValueError(
            f"exactly one of {', '.join(given)} is needed; found: {', '.join(present) or 'none'}"
        )


def _files_with_keys(path: Path, config: Config) -> Iterator[Path]:
    for cluster in config.clusters:
        yield cluster.key_file or cluster.keyring or path
