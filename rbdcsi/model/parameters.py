"""Parameters of Kubernetes' classes: one row of their tables, and how wrong ones are refused."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rbdcsi import errors

RESERVED = "csi.storage.k8s.io/"  # of Kubernetes' sidecars, which use most of them themselves

_TRUE = frozenset(("1", "t", "T", "true", "True", "TRUE"))
_FALSE = frozenset(("0", "f", "F", "false", "False", "FALSE"))


class Parameter(NamedTuple):
    """A parameter; a table in docs/reference is generated from these."""

    name: str
    kind: str
    default: str
    example: str
    checked: str  # the calls that refuse a wrong value
    meaning: str


def matching(parameters: Mapping[str, str], name: str, grammar: re.Pattern[str]) -> str | None:
    """Return the value of a parameter, None if there is none or it is empty.

    Args:
        parameters: of the class.
        name: the parameter.
        grammar: that the whole value must match.

    Raises:
        InvalidRequest: it does not.
    """
    value = parameters.get(name)
    if value and not grammar.fullmatch(value):
        raise errors.InvalidRequest(f"{name}: {value!r} does not match {grammar.pattern}")
    return value or None


def flag(parameters: Mapping[str, str], name: str) -> bool:
    """Return whether a parameter is true; it is false if there is none, or it is empty.

    It has one of the spellings that ceph-csi takes, which are those of Go's strconv.ParseBool.

    Raises:
        InvalidRequest: it is neither.
    """
    text = parameters.get(name) or "false"
    if text not in _TRUE and text not in _FALSE:
        raise errors.InvalidRequest(f"{name}: {text!r}; write true or false")
    return text in _TRUE


def unknown(name: str, known: Sequence[str]) -> errors.InvalidRequest:
    """Return the error for an unknown parameter; it names the nearest known one."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return errors.InvalidRequest(f"unknown parameter {name!r}; {hint}known are {', '.join(known)}")
