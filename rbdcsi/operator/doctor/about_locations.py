"""Rules about clusters, locations, and the rights of the Ceph user. Pure."""

from collections.abc import Iterable, Iterator

from rbdcsi.ceph.locations import MARKER, PREFIX, REGISTRY, registry_key
from rbdcsi.model import image_names
from rbdcsi.model.storage_class import Parameters
from rbdcsi.operator.doctor.findings import Finding, command, rados
from rbdcsi.operator.facts import Cluster, Volume

_RIGHTS = {  # what the user lacks, and what that hinders
    "fence": (
        "may not put clients on the blocklist",
        "a volume of a lost node cannot be moved: its client cannot be fenced",
    ),
    "capacity": (
        "may not read the statistics of pools",
        "Kubernetes does not know the free space of pools",
    ),
}


def unreadable(cluster: Cluster) -> Iterator[Finding]:
    """Find a cluster or a location that cannot be read."""
    failures = {
        str(location): location.failure for location in cluster.locations if location.failure
    }
    if cluster.failure:
        failures = {cluster.cluster_id: cluster.failure}
    for name, failure in failures.items():
        yield Finding(
            "unreadable",
            cluster.cluster_id,
            name,
            f"it cannot be read: {failure}",
            "its volumes cannot be used, and this examination says nothing about them",
            "mend the cluster or the pool; `ceph health detail` names the cause",
            (command("ceph", "health", "detail"),),
        )


def unknown_location(cluster: Cluster) -> Iterator[Finding]:
    """Find a location with volumes or attachments that the driver does not look at."""
    for location in cluster.locations:
        volumes = [
            volume
            for volume in cluster.volumes
            if volume.location == location and (volume.spec or volume.record.deleting)
        ]
        if location.prefixes or not volumes:
            continue
        yield Finding(
            "unknown-location",
            cluster.cluster_id,
            str(location),
            f"it holds volumes ({len(volumes)}, such as {volumes[0].handle}), and no object "
            f"{MARKER} that says so",
            "they are not listed, and their data is not removed when they are deleted",
            "make the object; its key ends with the prefix of the images (volumeNamePrefix)",
            (rados(location, "setomapval", MARKER, PREFIX + _prefix(volumes), "1"),),
        )


def unregistered_location(cluster: Cluster) -> Iterator[Finding]:
    """Find a location with volumes or attachments that the object of known locations lacks."""
    for location in cluster.locations:
        attached = any(
            volume.record.attachments for volume in cluster.volumes if volume.location == location
        )
        if location.registered or location.failure or not (location.prefixes or attached):
            continue
        namespace = ("--namespace", cluster.home_namespace) if cluster.home_namespace else ()
        key = registry_key(location.id)
        yield Finding(
            "unknown-location",
            cluster.cluster_id,
            str(location),
            f"it holds volumes, and object {REGISTRY} in pool {cluster.home_pool} has no key {key} "
            "that says so",
            "they are not listed, and their data is not removed when they are deleted, until a "
            "call creates, attaches or deletes a volume there",
            "write the key",
            (
                command(
                    *("rados", "--pool", cluster.home_pool, *namespace),
                    *("setomapval", REGISTRY, key, "1"),
                ),
            ),
        )


def _prefix(volumes: Iterable[Volume]) -> str:
    """Return the prefix of the volumes' names; the default one if their names do not say it."""
    for volume in volumes:
        if volume.spec and volume.image.endswith(volume.spec.name):
            prefix = volume.image.removesuffix(volume.spec.name)
            return prefix or image_names.listed_prefix(volume.image)
    return Parameters.name_prefix


def missing_right(cluster: Cluster) -> Iterator[Finding]:
    """Find rights that the configured user lacks."""
    for name, wrong, hinders in _lacks(cluster):
        yield Finding(
            "missing-right",
            cluster.cluster_id,
            name,
            f"the user client.{cluster.user} {wrong}",
            hinders,
            "give the user the rights of a controller. The command replaces those that it has, so "
            f"add the others that it needs (`ceph auth get client.{cluster.user}`)",
            (_caps(cluster),),
        )


def _lacks(cluster: Cluster) -> Iterator[tuple[str, str, str]]:
    """Yield name, description and consequence of each right that is missing."""
    for name, (wrong, hinders) in _RIGHTS.items():
        if name in cluster.lacks:
            yield name, wrong, hinders
    for location in cluster.locations:
        if not location.may_read:
            yield (
                str(location),
                f"may not read {location}, which holds volumes",
                "volumes there are neither created nor attached, and data of deleted ones stays",
            )
        elif not location.may_change and location.pool in _places(cluster):
            yield (
                str(location),
                f"may not write in {location}",
                "volumes there are neither created, attached nor deleted",
            )
    readable = {location.pool for each in _of_user(cluster) for location in each.locations}
    if not cluster.failure and cluster.home_pool not in readable:
        yield (
            cluster.home_pool,
            f"may not read {cluster.home_pool}, the configured pool",
            "the driver cannot work at all",
        )


def _places(cluster: Cluster) -> dict[str, set[str]]:
    """Return the pools that the driver uses for volumes or their data, with the namespaces."""
    places = dict[str, set[str]]()
    for each in _of_user(cluster):
        names = {location.id.pool_id: location.pool for location in each.locations}
        pairs = [
            (each.home_pool, each.home_namespace),
            *(
                (used.pool, used.id.namespace)
                for used in each.locations
                if used.prefixes or not used.may_read
            ),
            *(
                (names[volume.header.data_pool_id], volume.location.id.namespace)
                for volume in each.volumes
                if volume.header and volume.header.data_pool_id in names
            ),
        ]
        for pool, namespace in pairs:
            places.setdefault(pool, set()).add(namespace)
    return places


def _of_user(cluster: Cluster) -> list[Cluster]:
    """Return the facts of the clusterIDs of this Ceph that have the same user."""
    return [each for each in cluster.of_ceph if each.user == cluster.user]


def _caps(cluster: Cluster) -> str:
    """Return the command that gives the user what a controller needs: see ceph-permissions.md."""
    limits = {each.home_namespace for each in _of_user(cluster)} - {""}
    osd = ", ".join(
        grant
        for pool, namespaces in _places(cluster).items()
        for grant in _grants(pool, namespaces, limits)
    )
    mon = 'profile rbd, allow command "osd blocklist" with blocklistop=rm'
    return command("ceph", "auth", "caps", f"client.{cluster.user}", "mon", mon, "osd", osd)


def _grants(pool: str, namespaces: set[str], limits: set[str]) -> list[str]:
    """Return the rights in a pool: in its configured namespaces only, if no other one is used."""
    grant = f"profile rbd pool={pool}"
    if namespaces <= limits:
        return [f"{grant} namespace={namespace}" for namespace in sorted(namespaces)]
    return [grant]


RULES = (unreadable, missing_right, unknown_location, unregistered_location)
