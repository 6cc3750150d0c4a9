"""Pure: the PersistentVolume of a volume that exists, as YAML for `kubectl apply`."""

import re
from collections.abc import Collection
from dataclasses import dataclass

import yaml

import rbdcsi
from rbdcsi import errors

_MANY_WRITERS, _ONE_POD = "ReadWriteMany", "ReadWriteOncePod"
ACCESS_MODES = ("ReadWriteOnce", _ONE_POD, "ReadOnlyMany", _MANY_WRITERS)
RECLAIM_POLICIES = ("Retain", "Delete")

# Kubernetes: a DNS subdomain (names of PersistentVolumes, claims and Secrets), a DNS label.
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_UNITS = (("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))


@dataclass(frozen=True)
class Reference:
    """A claim or Secret: its namespace and name."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Choices:
    """The fields that the volume itself does not determine."""

    name: str
    storage_class: str
    access_modes: tuple[str, ...]
    reclaim_policy: str
    claim: Reference | None
    node_stage_secret: Reference | None


def checked_name(text: str, option: str) -> str:
    """Return the name of a PersistentVolume.

    Args:
        text: the name.
        option: where it can be given, for the message.

    Raises:
        InvalidRequest: Kubernetes would refuse it.
    """
    if not _NAME.fullmatch(text):
        raise errors.InvalidRequest(
            f"{text!r} is no name that Kubernetes takes (a-z 0-9 - and dots); give one by {option}"
        )
    return text


def require_possible(access_modes: Collection[str], *, block: bool) -> None:
    """Check that a PersistentVolume with these access modes can be attached.

    Args:
        access_modes: of `ACCESS_MODES`.
        block: the volume is for raw block use.

    Raises:
        InvalidRequest: no node could use it.
    """
    modes = set(access_modes)
    if _MANY_WRITERS in modes and not block:
        raise errors.InvalidRequest(
            f"--access-mode {_MANY_WRITERS}: a filesystem takes one node at a time, so the volume "
            "could not be attached; leave it out, or give --block if it is for raw block use"
        )
    # Kubernetes' API refuses ReadWriteOncePod beside others, its external-attacher ReadOnlyMany
    # beside ReadWriteOnce (csi-lib-utils, accessmodes); ReadWriteMany stands for all of them.
    if len(modes) > 1 and (_MANY_WRITERS not in modes or _ONE_POD in modes):
        raise errors.InvalidRequest(
            f"--access-mode {' and '.join(sorted(modes))}: Kubernetes attaches no volume that has "
            "them together; give one of them"
        )


def reference(text: str, option: str) -> Reference:
    """Return the claim or Secret of `NAMESPACE/NAME`.

    Args:
        text: the text.
        option: where it was given, for the message.

    Raises:
        InvalidRequest: it has another form.
    """
    namespace, _, name = text.partition("/")
    if not _NAMESPACE.fullmatch(namespace) or not _NAME.fullmatch(name):
        raise errors.InvalidRequest(f"{option}: {text!r} must be NAMESPACE/NAME")
    return Reference(namespace, name)


def manifest(handle: str, size: int, fs_type: str | None, choices: Choices) -> str:
    """Return the PersistentVolume as YAML.

    Args:
        handle: the volume's.
        size: of the image, in bytes.
        fs_type: the volume's filesystem; None for raw block use.
        choices: the other fields.
    """
    source: dict[str, object] = {"driver": rbdcsi.DRIVER_NAME, "volumeHandle": handle}
    if fs_type:
        source["fsType"] = fs_type
    if secret := choices.node_stage_secret:
        source["nodeStageSecretRef"] = {"name": secret.name, "namespace": secret.namespace}
    volume_spec: dict[str, object] = {
        "storageClassName": choices.storage_class,
        "persistentVolumeReclaimPolicy": choices.reclaim_policy,
        "accessModes": list(choices.access_modes),
        "volumeMode": "Filesystem" if fs_type else "Block",
        "capacity": {"storage": quantity(size)},
        "csi": source,
    }
    if fs_type == "xfs":
        # A clone has the UUID of its source, and the kernel mounts each UUID once.
        volume_spec["mountOptions"] = ["nouuid"]
    if claim := choices.claim:
        volume_spec["claimRef"] = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace,
            "name": claim.name,
        }
    document = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": choices.name,
            # external-provisioner deletes only volumes that name it (reclaim policy Delete)
            "annotations": {"pv.kubernetes.io/provisioned-by": rbdcsi.DRIVER_NAME},
        },
        "spec": volume_spec,
    }
    return yaml.safe_dump(document, sort_keys=False)


def quantity(size: int) -> str:
    """Return a number of bytes in the largest unit that expresses it exactly."""
    for unit, factor in _UNITS:
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
