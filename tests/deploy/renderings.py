"""The chart's objects as tests read them."""

from typing import Any

import yaml

from e2e.release import manifests

MINIMAL = ("--set", "existingSecret=rbdcsi-config")
EVERYTHING = ("--values", str(manifests.EVERYTHING))

Object = dict[str, Any]


def rendered(*flags: str) -> dict[str, list[Object]]:
    """Return the chart's objects by kind."""
    return by_kind(manifests.template(*flags))


def by_kind(text: str) -> dict[str, list[Object]]:
    """Return the objects of a text of YAML by kind."""
    objects: dict[str, list[Object]] = {}
    for each in filter(None, yaml.safe_load_all(text)):
        objects.setdefault(each["kind"], []).append(each)
    return objects


def sidecars(*flags: str) -> set[str]:
    """Return the names of the controller's containers."""
    (workload,) = rendered(*MINIMAL, *flags)["StatefulSet"]
    return {each["name"] for each in workload["spec"]["template"]["spec"]["containers"]}
