"""Detach: the steps of ControllerUnpublishVolume.

After it answers, nothing that the node does can change what the next holder reads: each of the
node's clients was released, ended with its boot, or is fenced. The record says `detaching` before
anything else and the attachment is removed last, so a call that is cut off anywhere is finished by
its repeat.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog

from rbdcsi import errors
from rbdcsi.attachments import fencing, rules, store
from rbdcsi.attachments.records import Attachment, Client, State, VolumeRecord
from rbdcsi.ceph import connections
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.images import Images
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids
from rbdcsi.nodes import presence
from rbdcsi.nodes.registry import Nodes
from rbdcsi.runtime import clock, deadlines
from rbdcsi.telemetry import metrics, steps

_log = structlog.get_logger()

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Policy:
    """How a node's clients are dealt with that are not proved gone.

    `fence` is whether they may be fenced. `grace` is how many seconds a living node plugin has to
    release a volume that no workload uses, before it is fenced.
    """

    fence: bool
    grace: float


class Detacher:
    """Detaches volumes of every configured cluster from nodes."""

    def __init__(self, pooled: connections.Connections, policy: Policy) -> None:
        self._connections = pooled
        self._policy = policy

    def detach(
        self,
        handle: ids.VolumeHandle,
        node_id: str,
        *,
        credentials: Credentials | None = None,
    ) -> None:
        """Make sure that the node cannot use the volume any more.

        A volume or node that does not exist is detached already.

        Args:
            handle: the volume.
            node_id: the node; empty for every node.
            credentials: the call's own; None takes the configured ones.

        Raises:
            Refused: the node still has the volume, and the policy forbids to fence it.
            Others: the first node's error. All nodes are tried; the message names every failure.
        """
        location_id = handle.location
        with (
            self._connections.use(location_id.cluster_id) as own_connection,
            self._connections.use(location_id.cluster_id, credentials) as connection,
        ):
            try:
                ioctx = connection.ioctx(location_id.pool_id, location_id.namespace)
            except errors.NotFound:  # the pool is gone, with the record
                return
            detachment = _Detachment(
                own_connection, self._policy, store.Records(ioctx), Images(ioctx), handle
            )
            stored = detachment.records.read(handle.image_id)
            nodes = [node_id] if node_id else sorted(stored.record.attachments)
            failures: list[errors.RbdCsiError] = []
            for node in nodes:
                try:
                    stored = detachment.end(node, stored)
                except errors.RbdCsiError as error:
                    failures.append(error)
                    stored = detachment.records.read(handle.image_id)
            if failures:
                raise _together(failures)


@dataclass(frozen=True)
class _Detachment:
    """One call's view of a volume.

    `connection` is that of the configured user, who may read the registry of nodes and fence.
    """

    connection: Connection
    policy: Policy
    records: store.Records
    images: Images
    handle: ids.VolumeHandle

    def end(self, node_id: str, stored: store.StoredRecord) -> store.StoredRecord:
        """Detach from one node and return the record as it is stored then."""
        begun = stored.record.attachments.get(node_id)
        if begun is None:
            return stored
        image_id, volume, generation = self.handle.image_id, str(self.handle), begun.generation
        since = _begin(begun)
        stored = self.records.change(
            image_id,
            lambda record: rules.begin_detach(record, node_id, generation, clock.now()),
            stored,
        )
        steps.done("detach.begin", volume=volume, node=node_id)
        attachment = _of_generation(stored.record, node_id, generation)
        if attachment is None:
            return stored
        gone, fenced = self._ended(node_id, attachment), set[str]()
        if len(gone) < len(attachment.clients):
            # One in the trash may be restored, and its client may live.
            if not self.images.exists(image_id):
                gone = {client.address for client in attachment.clients}
            else:
                fenced = self._end_clients(node_id, attachment, gone)
        stored = self.records.change(
            image_id,
            lambda record: rules.finish_detach(
                record, node_id, generation, lambda client: client.address in gone | fenced
            ),
        )
        steps.done("detach.record", volume=volume, node=node_id)
        if _of_generation(stored.record, node_id, generation):
            raise errors.Busy(
                f"volume {volume}: the clients at node {node_id!r} changed while it was being "
                "detached; repeat the call"
            )
        if fenced:
            seconds = time.time() - since
            metrics.FAIL_OVER_SECONDS.labels(self.connection.cluster_id).observe(seconds)
        return stored

    def _ended(self, node_id: str, attachment: Attachment) -> set[str]:
        """Return the addresses of the clients that ended with an earlier boot of their machine."""
        try:
            node = Nodes(self.connection.home()).get(node_id)
        except (errors.NotFound, errors.Failed):  # the node was removed, or its record is damaged
            return set()
        return {
            client.address
            for client in attachment.clients
            if node.has_ended(client.machine_id, client.boot_id)
        }

    def _end_clients(self, node_id: str, attachment: Attachment, gone: set[str]) -> set[str]:
        """Have the node release the volume, or fence its clients; return those that it fenced."""
        self._let_release(node_id, attachment)
        current = self._attachment(node_id, attachment.generation)
        clients = current.clients if current else ()
        left = [client for client in clients if client.address not in gone]
        if left and not self.policy.fence:
            raise errors.Refused(_refusal(self.handle, node_id, attachment, left))
        for client in left:
            fencing.fence(
                self.connection,
                self.images,
                str(self.handle),
                self.handle.image_id,
                node_id,
                client,
            )
            _log.warning(
                "client fenced, because its node did not release the volume",
                volume=str(self.handle),
                node=node_id,
                client=client.address,
            )
        return {client.address for client in left}

    def _let_release(self, node_id: str, attachment: Attachment) -> None:
        """Ask the node's plugin to release the volume, and wait if it begins to."""
        if self.policy.grace <= 0:
            return
        question = presence.Question(release=str(self.handle))
        answers = presence.ask(self.connection.home(), node_id, question).answers
        machines = {client.machine_id for client in attachment.clients}
        if not any(each.will_release and each.machine_id in machines for each in answers):
            return
        ends_at = time.monotonic() + self.policy.grace
        while time.monotonic() < ends_at:
            current = self._attachment(node_id, attachment.generation)
            if current is None or not current.clients:
                return
            time.sleep(deadlines.remaining(_POLL_SECONDS))

    def _attachment(self, node_id: str, generation: int) -> Attachment | None:
        return _of_generation(self.records.get(self.handle.image_id), node_id, generation)


def _of_generation(record: VolumeRecord, node_id: str, generation: int) -> Attachment | None:
    """Return the node's attachment; None if it has ended, and the node may have another one."""
    attachment = record.attachments.get(node_id)
    return attachment if attachment and attachment.generation == generation else None


def _begin(attachment: Attachment) -> float:
    """Return when the volume began to be detached: now, unless an earlier call was cut off."""
    if attachment.state is not State.DETACHING:
        return time.time()
    return datetime.fromisoformat(attachment.since).timestamp()


def _refusal(
    handle: ids.VolumeHandle, node_id: str, attachment: Attachment, clients: Iterable[Client]
) -> str:
    addresses = ", ".join(client.address for client in clients)
    return (
        f"volume {handle} cannot be detached from node {node_id!r}: since {attachment.since} it "
        f"has not been released there by client {addresses}, and --fence=never forbids to fence "
        "it; unstage it there (end the Pod; bring the node back), or fence the node by hand: "
        f"`rbdcsi attachments release {handle} {node_id}`"
    )


def _together(failures: list[errors.RbdCsiError]) -> errors.RbdCsiError:
    """Return one error of the first failure's class, whose message has all failures."""
    if len(failures) == 1:
        return failures[0]
    return type(failures[0])("; ".join(str(failure) for failure in failures))
