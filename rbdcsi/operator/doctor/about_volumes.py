"""Rules about volumes. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from ipaddress import ip_network

from rbdcsi.attachments import store
from rbdcsi.attachments.records import State
from rbdcsi.ceph import objects
from rbdcsi.model import format_mark
from rbdcsi.model.ids import SnapshotHandle
from rbdcsi.operator.doctor.findings import Finding, command, rados
from rbdcsi.operator.facts import Cluster, Volume
from rbdcsi.staging import other_clients
from rbdcsi.volumes import clone_notes, dependants, spec

_DELETION = timedelta(hours=1)  # much longer than it takes to remove a volume's data
_DAY = "86400"
_LOOK_AT_LOG = "see that a controller runs; its log names the cause (`data not removed`)"


def foreign_watcher(cluster: Cluster) -> Iterator[Finding]:
    """Find clients that have an image open and are in no record."""
    drivers = {
        address for node in cluster.all_nodes() if node.record for address in node.record.addresses
    }
    for volume in cluster.volumes:
        if volume.record.deleting or "record" in volume.damage:
            continue
        recorded = {client.address for _, _, client in volume.clients()}
        explained = recorded | volume.mirror_daemons | cluster.blocklist | drivers
        if volume.record.rollback:
            explained |= {volume.record.rollback.client}
        foreign = [
            address
            for address in sorted(volume.watchers - explained)
            if not _is_allowed(cluster, address)
        ]
        if volume.flattened and len(foreign) == 1:
            continue  # the controller that flattens it, as staging takes it, too
        for address in foreign:
            yield Finding(
                "foreign-watcher",
                cluster.cluster_id,
                str(volume.handle),
                f"client {address} has image {_image(volume)} open, and no attachment accounts "
                "for it",
                "it may change the data beside the workload; the volume is not staged for a single "
                "writer while it is there, and its data stays if it is deleted",
                f"end it at the machine {address.rpartition(':')[0]} (a person's `rbd map`, a "
                "backup, a copy); if that cannot be done, shut it out",
                (command("ceph", "osd", "blocklist", "add", address, _DAY),),
            )


def _is_allowed(cluster: Cluster, address: str) -> bool:
    """Return whether all node plugins that live allow it (`--allow-foreign-watchers`)."""
    living = [node.record for node in cluster.all_nodes() if node.lives and node.record]
    return bool(living) and all(
        other_clients.is_allowed(address, tuple(map(ip_network, record.allowed_watchers)))
        for record in living
    )


def staged_without_watcher(cluster: Cluster) -> Iterator[Finding]:
    """Find volumes that a living node has staged for writing by a client that is not there.

    A client that only reads need not watch. Of nodes that do not live there is another rule.
    """
    for volume in cluster.volumes:
        for node_id, attachment in volume.record.attachments.items():
            node = cluster.node(node_id)
            addresses = {client.address for client in attachment.clients}
            if (
                attachment.state is not State.STAGED
                or attachment.readonly
                or not (node and node.lives)
                or not addresses
                or addresses & (volume.watchers | cluster.blocklist)
            ):
                continue
            yield Finding(
                "staged-without-watcher",
                cluster.cluster_id,
                str(volume.handle),
                f"node {node_id!r} has the volume staged since {attachment.since} by client "
                f"{', '.join(sorted(addresses))}, which does not have image {_image(volume)} open "
                "any more",
                "the workload there gets I/O errors or hangs",
                "end the attachment; the volume can then be attached again (delete the Pod)",
                (command("rbdcsi", "attachments", "release", volume.handle, node_id),),
            )


def cut_off_rollback(cluster: Cluster) -> Iterator[Finding]:
    """Find volumes whose rollback to a snapshot has not ended, though its client is gone."""
    for volume in cluster.volumes:
        rollback = volume.record.rollback
        if rollback is None or rollback.client in volume.watchers - cluster.blocklist:
            continue
        snapshot = SnapshotHandle(volume.handle, rollback.snap_id)
        confirm = ("--confirm", volume.image) if volume.image else ()
        yield Finding(
            "cut-off-rollback",
            cluster.cluster_id,
            str(volume.handle),
            f"image {_image(volume)} was being rolled back to snapshot {rollback.snapshot!r} since "
            f"{rollback.since}, and client {rollback.client}, which did that, is gone",
            "it may hold a mix of old and new data, so the volume is neither attached nor copied, "
            "grown or deleted",
            "roll it back again, to that snapshot or to another one (`rbdcsi snapshots ls`)",
            (command("rbdcsi", "volumes", "rollback", volume.handle, snapshot, *confirm),),
        )


def stuck_deletion(cluster: Cluster) -> Iterator[Finding]:
    """Find deleted volumes whose data is not removed."""
    for volume in cluster.volumes:
        since = volume.record.deleting
        if not since:
            continue
        watchers = sorted(volume.watchers - cluster.blocklist)
        too_long = cluster.now - datetime.fromisoformat(since) > _DELETION
        cause, remedy, commands = "the cause is logged", _LOOK_AT_LOG, list[str]()
        if watchers and too_long:
            cause = f"client {', '.join(watchers)} has it open"
            remedy = (
                "end that client, unless it is a controller that removes the data; if its process "
                "is gone or cannot be found, shut it out"
            )
            commands = [command("ceph", "osd", "blocklist", "add", each, _DAY) for each in watchers]
        elif foreign := _foreign_snapshots(volume, cluster):
            cause = "it has snapshots that the driver did not take: " + ", ".join(foreign.values())
            remedy = (
                "look at them (`rbd snap ls`); if neither another program nor another installation "
                "of the driver needs them, remove them"
            )
            commands = [_remove_snapshot(volume, snap_id) for snap_id in foreign]
        elif volume.header and dependants.of_header(volume.header):
            continue  # it goes when its snapshots and clones are deleted
        elif not too_long:
            continue
        elif forgotten := sorted(volume.watchers & cluster.blocklist):
            clients = f"client {', '.join(forgotten)}, which is on the blocklist"
            cause = f"Ceph still lists {clients}, among those that have it open"
            remedy = (
                "Ceph has forgotten to end that watch: let the placement group that the command "
                "shows peer again (`ceph pg repeer`, see troubleshooting)"
            )
            commands = [_placement_group(volume)]
        yield Finding(
            "stuck-deletion",
            cluster.cluster_id,
            str(volume.handle),
            f"image {_image(volume)} is being deleted since {since}, and {cause}",
            "its data takes space in the pool",
            remedy,
            tuple(commands),
        )


def _placement_group(volume: Volume) -> str:
    """Return the command that shows where the image's header is."""
    location, header = volume.location, objects.HEADER + volume.handle.image_id
    return command(
        "ceph", "osd", "map", location.pool, header, *filter(None, [location.id.namespace])
    )


def _foreign_snapshots(volume: Volume, cluster: Cluster) -> dict[int, str]:
    """Return ids and names of the snapshots that other programs took of a volume."""
    recorded = cluster.recorded_snapshots()
    taking = cluster.snapshots_being_taken(volume.handle)
    return {
        each.snap_id: each.name
        for each in (volume.header.user_snapshots() if volume.header else ())
        for handle in (SnapshotHandle(volume.handle, each.snap_id),)
        if handle not in recorded
        and not cluster.has_damaged_record(handle)
        and each.name not in taking
        and not each.name.startswith(clone_notes.PREFIX)
    }


def _remove_snapshot(volume: Volume, snap_id: int) -> str:
    namespace = volume.location.id.namespace
    return command(
        *("rbd", "snap", "rm", "--pool", volume.location.pool),
        *(("--namespace", namespace) if namespace else ()),
        *("--image-id", volume.handle.image_id, "--snap-id", snap_id),
    )


def half_made(cluster: Cluster) -> Iterator[Finding]:
    """Find images that a creation left behind when it was cut off."""
    for volume in cluster.volumes:
        listed = volume.image and not volume.trashed and not volume.record.attachments
        if not listed or volume.damage or volume.record.deleting or volume.spec:
            continue
        if volume.header is None:
            wrong = "has no header"
        elif volume.empty and not volume.watchers:
            wrong = f"has no metadata {spec.KEY} and holds no data"
        else:
            continue
        yield Finding(
            "half-made-image",
            cluster.cluster_id,
            str(volume.handle),
            f"image {_image(volume)} {wrong}: its creation was cut off",
            "it takes its name, and a little space",
            "CreateVolume of the same name completes it or creates it again; if no claim waits for "
            "it, remove it",
            (command("rbd", "remove", _image(volume)),),
        )


def damaged_values(cluster: Cluster) -> Iterator[Finding]:
    """Find records, specs and marks that cannot be decoded."""
    for volume in cluster.volumes:
        for kind, message in volume.damage.items():
            hinders, remedy, commands = _repairs(volume)[kind]
            yield Finding(
                "damaged-record",
                cluster.cluster_id,
                f"{kind} of {volume.handle}",
                message,
                hinders,
                remedy,
                commands,
            )


def _repairs(volume: Volume) -> Mapping[str, tuple[str, str, tuple[str, ...]]]:
    """Return by kind of value: what its damage hinders, what mends it, and the commands."""
    image, image_id = _image(volume), volume.handle.image_id
    record_object = store.object_name(image_id)
    look = command("rbd", "info", image)
    formatted = format_mark.Mark(format_mark.Phase.FORMATTED, "ext4")
    mark = format_mark.MARK.encode(formatted)
    return {
        "record": (
            "it is not known which nodes use the volume, so it is neither attached nor detached",
            "make sure that no node has the image open (`rbd status`), then remove the record with "
            "the keys of its nodes: the volume is attached nowhere then",
            (
                command("rbd", "status", image),
                *(
                    rados(volume.location, "rmomapkey", record_object, key)
                    for key in (image_id, *volume.node_keys)
                ),
            ),
        ),
        "spec": (
            "the volume cannot be staged or deleted",
            "read the metadata of another volume of the same StorageClass (`rbd image-meta get`), "
            "put in this volume's name, and write it",
            (command("rbd", "image-meta", "get", image, spec.KEY),),
        ),
        "mark": (
            "it is not known whether there is data, so the volume is not mounted",
            "look at the image (`rbd map --read-only`, `blkid`); if it holds ext4, set the mark",
            (command("rbd", "image-meta", "set", image, format_mark.KEY, mark),),
        ),
        "header": (
            "the volume cannot be used",
            "look at the image; restore it from a backup if it cannot be opened",
            (look,),
        ),
        "trash": (
            "the volume's deletion cannot be finished",
            "look at the trash, and remove the image by its id",
            (command("rbd", "trash", "list", "--all", "--pool", volume.location.pool),),
        ),
    }


def _image(volume: Volume) -> str:
    return f"{volume.location}/{volume.image or volume.handle.image_id}"


RULES = (
    foreign_watcher,
    staged_without_watcher,
    cut_off_rollback,
    stuck_deletion,
    half_made,
    damaged_values,
)
