"""The chart's objects as tests read them, and classes as the driver reads them."""

from collections.abc import Callable, Mapping
from typing import Any

import yaml

import rbdcsi
from e2e.release import manifests
from tools.reference import sources

MINIMAL = ("--set", "existingSecret=rbdcsi-config")
EVERYTHING = ("--values", str(manifests.EVERYTHING))

Object = dict[str, Any]

# By the kind of a class: the field with the driver's name, and the parser of the parameters.
_CLASSES: Mapping[str, tuple[str, Callable[[Mapping[str, str]], object]]] = {
    "StorageClass": ("provisioner", sources.PARAMETERS.parse),
    "VolumeSnapshotClass": ("driver", sources.SNAPSHOT_PARAMETERS.parse),
    "VolumeGroupSnapshotClass": ("driver", sources.SNAPSHOT_PARAMETERS.parse),
}


def rendered(*flags: str) -> dict[str, list[Object]]:
    """Return the chart's objects by kind."""
    return by_kind(manifests.template(*flags))


def by_kind(text: str) -> dict[str, list[Object]]:
    """Return the objects of a text of YAML by kind."""
    objects: dict[str, list[Object]] = {}
    for each in filter(None, yaml.safe_load_all(text)):
        objects.setdefault(each["kind"], []).append(each)
    return objects


def class_that_the_driver_takes(each: Object) -> str:
    """Return the kind of an object that is a class, after the driver has read it; otherwise ""."""
    if each["kind"] not in _CLASSES:
        return ""
    field, parse = _CLASSES[each["kind"]]
    assert each[field] == rbdcsi.DRIVER_NAME
    parse(each.get("parameters", {}))
    return str(each["kind"])


def sidecars(*flags: str) -> set[str]:
    """Return the names of the controller's containers."""
    (workload,) = rendered(*MINIMAL, *flags)["StatefulSet"]
    return {each["name"] for each in workload["spec"]["template"]["spec"]["containers"]}
