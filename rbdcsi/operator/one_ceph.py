"""Several clusterIDs of one Ceph: each location, record and fence counts once. Pure.

Every clusterID reads every pool that its user may read, so each of them sees the volumes of all.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rbdcsi.operator.facts import Cluster, LocationFacts

_Key: TypeAlias = tuple[str | None, int, str]  # fsid, pool number, RADOS namespace
_Home: TypeAlias = tuple[str | None, str, str]  # fsid, pool, RADOS namespace


def divide(clusters: Sequence[Cluster]) -> list[Cluster]:
    """Return the clusters, each with its own locations and, in `same_ceph`, all of its Ceph.

    A location belongs to the first clusterID that has registered it and may write there. If there
    is none, it belongs to the first one that can read it. If several clusterIDs share a home
    location, the records there belong to the first one.
    """
    owners: dict[_Key, tuple[tuple[bool, ...], str]] = {}
    homes: dict[_Home, str] = {}
    for cluster in clusters:
        homes.setdefault(_home(cluster), cluster.cluster_id)
        for location in cluster.locations:
            faults = (bool(location.failure), not location.registered, not location.may_change)
            key = _key(cluster, location)
            if key not in owners or faults < owners[key][0]:
                owners[key] = faults, cluster.cluster_id
    owner_ids = {key: cluster_id for key, (_, cluster_id) in owners.items()}
    return [
        _divided(cluster, clusters, owner_ids, has_home=homes[_home(cluster)] == cluster.cluster_id)
        if cluster.fsid
        else cluster
        for cluster in clusters
    ]


def _divided(
    cluster: Cluster, clusters: Sequence[Cluster], owner_ids: Mapping[_Key, str], *, has_home: bool
) -> Cluster:
    locations = [
        each for each in cluster.locations if owner_ids[_key(cluster, each)] == cluster.cluster_id
    ]
    volumes = [each for each in cluster.volumes if each.location in locations]
    attached = {node_id for each in volumes for node_id in each.record.attachments}
    return dataclasses.replace(
        cluster,
        locations=tuple(locations),
        volumes=tuple(volumes),
        nodes={k: v for k, v in cluster.nodes.items() if has_home or k in attached},
        fences=cluster.fences if has_home else (),
        snapshots=cluster.snapshots if has_home else (),
        same_ceph=tuple(each for each in clusters if each.fsid == cluster.fsid),
    )


def _key(cluster: Cluster, location: LocationFacts) -> _Key:
    return cluster.fsid, location.id.pool_id, location.id.namespace


def _home(cluster: Cluster) -> _Home:
    return cluster.fsid, cluster.home_pool, cluster.home_namespace
