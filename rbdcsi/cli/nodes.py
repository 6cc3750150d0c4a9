"""`rbdcsi nodes`: which nodes there are and live; the end of lost ones."""

from collections.abc import Iterable
from pathlib import Path

import click

from rbdcsi import errors
from rbdcsi.ceph.connections import Connections
from rbdcsi.cli import output, rows, session
from rbdcsi.model.ids import VolumeHandle
from rbdcsi.operator import reading, release
from rbdcsi.operator.facts import Cluster, Depth


@click.group()
def nodes() -> None:
    """Show nodes, fence lost ones, and retire those that are gone for good."""


@nodes.command("ls")
@session.reads
def list_nodes(config: Path, json_wanted: bool) -> None:
    """List the nodes, and whether their plugins answer."""
    with session.connections(config) as pooled:
        clusters = reading.clusters(pooled, Depth.RECORDS)
        columns = ("node", "cluster", "plugin", "attached", "mappers", "version", "last_seen")
        output.table(_rows(clusters), columns, json_wanted=json_wanted)
        session.require_complete(clusters)


@nodes.command()
@click.argument("node")
@session.reads
def show(node: str, config: Path, json_wanted: bool) -> None:
    """Show all that is kept of NODE, in each cluster."""
    with session.connections(config) as pooled:
        clusters = reading.clusters(pooled, Depth.RECORDS)
        node_rows = [row for row in _rows(clusters) if row["node"] == node]
        if not node_rows:
            session.require_complete(clusters)
            raise _unknown(node)
        if json_wanted:
            output.as_json(node_rows)
            return
        for row in node_rows:
            output.details(row, json_wanted=False)


@nodes.command()
@click.argument("node")
@session.with_yes
@session.with_config
def fence(node: str, yes: bool, config: Path) -> None:
    """End all attachments of NODE, as `attachments release` ends one."""
    with session.connections(config) as pooled:
        handles, failures = _attached(pooled, node)
        if handles:
            _fence(pooled, node, handles, yes=yes)
        elif not failures:
            click.echo(f"node {node} has no volumes attached")
        _require_all(node, failures)


@nodes.command()
@click.argument("node")
@session.with_yes
@session.with_config
def retire(node: str, yes: bool, config: Path) -> None:
    """Remove NODE, whose machine is gone for good; its volumes are fenced first.

    Its fences are not renewed any more: they end after a day. A machine that may come back must
    not be retired.
    """
    with session.connections(config) as pooled:
        for cluster in pooled.configured.clusters:
            with pooled.use(cluster.cluster_id) as connection:
                release.require_gone(connection, node)
        session.require_consent(
            f"this retires node {node}: its fences are not renewed any more, so its machine must "
            "never come back",
            yes=yes,
        )
        handles, failures = _attached(pooled, node)
        if handles:
            _fence(pooled, node, handles, yes=yes)
        _require_all(node, failures)
        cluster_ids = [each.cluster_id for each in pooled.configured.clusters]
        retired = [release.retire(pooled, each, node) for each in cluster_ids]
        if not any(retired) and not handles:
            raise _unknown(node)
        click.echo(f"node {node} is retired")


def _rows(clusters: Iterable[Cluster]) -> list[output.Row]:
    return [rows.node(node, cluster) for cluster in clusters for node in cluster.nodes.values()]


def _attached(pooled: Connections, node_id: str) -> tuple[list[VolumeHandle], list[str]]:
    """Return the node's volumes in all clusters, and the reasons why the list may lack some.

    Two clusterIDs of one Ceph see the same volumes: each is returned once.
    """
    handles: dict[tuple[object, ...], VolumeHandle] = {}
    failures: list[str] = []
    for cluster in pooled.configured.clusters:
        try:
            in_cluster, unread = reading.attached_to(pooled, cluster.cluster_id, node_id)
        except errors.RbdCsiError as error:
            failures.append(f"cluster {cluster.cluster_id} cannot be read: {error}")
            continue
        fsid = pooled.fsid(cluster.cluster_id)
        for handle in in_cluster:
            location = handle.location
            identity = (fsid, location.pool_id, location.namespace, handle.image_id)
            handles.setdefault(identity, handle)
        failures += unread
    return list(handles.values()), failures


def _require_all(node_id: str, failures: list[str]) -> None:
    if failures:
        raise errors.Unavailable(
            "\n".join([*failures, f"node {node_id!r} may have volumes there: repeat it later"])
        )


def _fence(pooled: Connections, node_id: str, handles: list[VolumeHandle], *, yes: bool) -> None:
    session.require_consent(
        f"this ends the use of all volumes at node {node_id} ({len(handles)}); what the node has "
        "not written yet is lost",
        yes=yes,
    )

    def report(handle: VolumeHandle, error: errors.RbdCsiError | None) -> None:
        if error:
            session.report(error)
        else:
            click.echo(f"volume {handle} is no longer attached to node {node_id}")

    if not release.end_all(session.detacher(pooled), node_id, handles, report):
        raise errors.Refused(f"node {node_id!r} still has volumes; see the messages above")


def _unknown(node_id: str) -> errors.NotFound:
    return errors.NotFound(f"there is no node {node_id!r}; `rbdcsi nodes ls` lists them")
