"""States that do not mend themselves, made on a real Ceph for the doctor to find."""

import contextlib
import dataclasses
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import rados
import rbd

from e2e import snapshots, volume
from e2e.clusters import commands
from e2e.driver import CLUSTER_ID, Driver, Installation
from e2e.volume import Volume
from rbdcsi.attachments import rules, store
from rbdcsi.attachments.fences import OBJECT, Fence, Fences
from rbdcsi.attachments.records import Client
from rbdcsi.ceph import omap
from rbdcsi.ceph.locations import MARKER, Registry
from rbdcsi.model import format_mark
from rbdcsi.model.ids import LocationId
from rbdcsi.nodes import registry
from rbdcsi.runtime import clock
from rbdcsi.snapshots import store as snapshot_store
from rbdcsi.volumes import spec
from tests.integration.clones.lost_parent import lose
from tests.integration.controller import half_made
from tests.integration.controller.view import View
from tests.integration.operator.conftest import Hold
from tests.integration.operator.shell import Shell

A = "node-a"
NO_CLIENT = "127.0.0.1:0/4242"  # an address that no client has
ELSEWHERE = "another machine"  # so the node leaves its clients and fences alone
DAY = 24 * 3600.0


@dataclass(frozen=True)
class Bench:
    """What the states are made with."""

    installation: Installation
    controller: Driver
    view: View
    shell: Shell
    hold: Hold

    @contextlib.contextmanager
    def volume(self, name: str, source: str = "", **parameters: str) -> Iterator[Volume]:
        """Give a volume, or a copy of one; after the body it is detached and deleted."""
        made = volume.create(
            self.controller,
            name,
            size=16 * volume.MIB,
            parameters=parameters or None,
            source=source,
        )
        try:
            yield made
        finally:
            if self.controller.process is None:
                self.controller.start()
            volume.detach(self.controller, made, "")
            volume.delete(self.controller, made)

    @contextlib.contextmanager
    def staged(self, name: str) -> Iterator[Volume]:
        """Give a volume that is recorded as staged at node A, by a client that does not exist."""
        with self.volume(name) as made:
            volume.attach(self.controller, made, A)
            client, image_id = (
                Client(NO_CLIENT, ELSEWHERE, "its boot", "fuse"),
                self.view.image_id(made),
            )
            store.Records(self.view.ioctx).change(
                image_id,
                lambda record: rules.stage(record, made.id, A, 1, client, clock.now()),
            )
            yield made

    def put(self, name: str, key: str, value: str | None) -> None:
        """Write or remove (None) a key of an object behind the driver's back."""
        omap.Omap(self.view.ioctx, name).put(key, value)

    def fence(self, **facts: str) -> Fence:
        """Write the note of a fence of a client that does not exist."""
        now = clock.now()
        fence = Fence(
            NO_CLIENT, "v1:local:1::a", A, ELSEWHERE, "its boot", now, clock.after(DAY), 1
        )
        fence = dataclasses.replace(fence, **facts)  # type: ignore[arg-type]
        Fences(self.view.ioctx).put(fence)
        return fence


@dataclass(frozen=True)
class State:
    """What the doctor should find: its kind, and what it is about."""

    kind: str
    about: str
    by_hand: Callable[[], None] = field(default=lambda: None)  # where no command is certain
    wake: Callable[[], None] = field(default=lambda: None)  # what spares a wait for the driver


Make = Callable[[Bench], contextlib.AbstractContextManager[State]]


@contextlib.contextmanager
def foreign_watcher(bench: Bench) -> Iterator[State]:
    with bench.volume("watched") as made, bench.hold(made):
        yield State("foreign-watcher", made.id)


@contextlib.contextmanager
def no_living_node(bench: Bench) -> Iterator[State]:
    lost = bench.installation.node("node-lost").start()
    commands.wait_until(
        lambda: registry.Nodes(bench.view.ioctx).text("node-lost") is not None, "it is registered"
    )
    lost.stop()
    with bench.volume("lost") as made:
        volume.attach(bench.controller, made, "node-lost")
        yield State("no-living-node", "node-lost")


@contextlib.contextmanager
def staged_without_watcher(bench: Bench) -> Iterator[State]:
    with bench.staged("unwatched") as made:
        yield State("staged-without-watcher", made.id)


@contextlib.contextmanager
def blocklisted_client(bench: Bench) -> Iterator[State]:
    with bench.staged("shut-out"):
        bench.shell.cluster.ceph("osd", "blocklist", "add", NO_CLIENT, "3600")
        yield State("blocklisted-client", NO_CLIENT)


@contextlib.contextmanager
def cut_off_rollback(bench: Bench) -> Iterator[State]:
    with bench.volume("halfway") as made:
        taken = snapshots.create(bench.controller, "before", made.id).snapshot_id
        words = ("volumes", "rollback", made.id, taken, "--yes", "--confirm", "csi-halfway")
        argv = [*bench.shell.program, *words, "--config", str(bench.shell.config)]
        environment = {**os.environ, "RBDCSI_TEST_KILL_AFTER": "rollback.data"}
        subprocess.run(argv, env=environment, capture_output=True, check=False)
        # Its client counts as alive while Ceph waits for a sign of life of it.
        commands.wait_until(lambda: not bench.view.watchers(made), "its watch ends")
        yield State("cut-off-rollback", made.id)
        snapshots.delete(bench.controller, taken)


@contextlib.contextmanager
def stuck_deletion(bench: Bench) -> Iterator[State]:
    made = volume.create(bench.controller, "stuck", size=16 * volume.MIB)
    with bench.hold(made):
        volume.delete(bench.controller, made)
        long_ago = clock.after(-DAY)
        store.Records(bench.view.ioctx).change(
            bench.view.image_id(made),
            lambda record: dataclasses.replace(record, deleting=long_ago),
        )
        yield State("stuck-deletion", made.id)
    bench.view.wait_until_gone(bench.view.image_id(made))


@contextlib.contextmanager
def deletion_with_snapshots(bench: Bench) -> Iterator[State]:
    made = volume.create(bench.controller, "snapped", size=16 * volume.MIB)
    with bench.view.image(made, readonly=False) as image:
        image.create_snap("by-hand")
    volume.delete(bench.controller, made)

    def wake() -> None:  # a controller looks after a deletion, otherwise once in a minute or more
        with bench.volume("wakes"):
            pass

    yield State("stuck-deletion", made.id, wake=wake)
    bench.view.wait_until_gone(bench.view.image_id(made))


@contextlib.contextmanager
def without_metadata(bench: Bench) -> Iterator[State]:
    rbd.RBD().create(bench.view.ioctx, "csi-half", 1 << 24)
    with rbd.Image(bench.view.ioctx, "csi-half", read_only=True) as image:
        image_id = image.id()
    yield State("half-made-image", f":{image_id}")


def _rest(name: str) -> Make:
    """Return the maker of what librbd leaves when it dies in a creation."""

    @contextlib.contextmanager
    def rest(bench: Bench) -> Iterator[State]:
        image_id = half_made.leave(bench.view, "csi-rest", 1 << 24, half_made.RESTS[name])
        yield State("half-made-image", f":{image_id}")
        assert bench.view.objects_of(image_id) == []

    rest.__name__ = f"without_{name.replace(' ', '_')}"
    return rest


@contextlib.contextmanager
def fence_not_in_force(bench: Bench) -> Iterator[State]:
    bench.controller.stop()  # it would make the entry again
    bench.fence()
    yield State("fence-not-in-force", NO_CLIENT)
    bench.controller.start()


@contextlib.contextmanager
def fence_of_retired_node(bench: Bench) -> Iterator[State]:
    bench.fence(node_id="node-retired")
    bench.shell.cluster.ceph("osd", "blocklist", "add", NO_CLIENT, "3600")
    yield State("fence-of-retired-node", NO_CLIENT)


@contextlib.contextmanager
def fence_of_former_machine(bench: Bench) -> Iterator[State]:
    bench.fence(since="2026-01-01T00:00:00+00:00")
    bench.shell.cluster.ceph("osd", "blocklist", "add", NO_CLIENT, "3600")
    yield State("fence-of-former-machine", NO_CLIENT)


@contextlib.contextmanager
def fence_past_its_time(bench: Bench) -> Iterator[State]:
    bench.controller.stop()  # it would lift the fence
    bench.fence(gone=clock.now())
    bench.shell.cluster.ceph("osd", "blocklist", "add", NO_CLIENT, "3600")
    yield State("fence-past-its-time", NO_CLIENT)
    bench.controller.start()


@contextlib.contextmanager
def node_id_twice(bench: Bench) -> Iterator[State]:
    nodes = registry.Nodes(bench.view.ioctx)
    twin = bench.installation.node("twin", "--node-id", A).start()  # the last flag counts
    commands.wait_until(lambda: nodes.get(A).refused is not None, "it is refused")

    def stop_and_forget() -> None:
        twin.stop()
        text = nodes.text(A)
        nodes.swap(text, dataclasses.replace(registry.decode(A, text), refused=None))

    yield State("node-id-twice", A, stop_and_forget)


@contextlib.contextmanager
def damaged_attachments(bench: Bench) -> Iterator[State]:
    with bench.volume("damaged") as made:
        volume.attach(bench.controller, made, A)
        image_id = bench.view.image_id(made)
        bench.put(store.object_name(image_id), image_id, "{")
        yield State("damaged-record", f"record of {made.id}")
        assert bench.view.attached_to(A) == frozenset()


@contextlib.contextmanager
def damaged_node(bench: Bench) -> Iterator[State]:
    bench.put("rbdcsi.nodes", "node-damaged", "{")
    yield State("damaged-record", "node node-damaged")


@contextlib.contextmanager
def damaged_fence(bench: Bench) -> Iterator[State]:
    bench.put(OBJECT, NO_CLIENT, "{")
    yield State("damaged-record", f"fence {NO_CLIENT}")


@contextlib.contextmanager
def damaged_snapshot(bench: Bench) -> Iterator[State]:
    bench.put(snapshot_store.OBJECT, snapshot_store.name_key("odd name"), "{")
    yield State("damaged-record", "snapshot odd name")


@contextlib.contextmanager
def damaged_mark(bench: Bench) -> Iterator[State]:
    with bench.volume("marked") as made:
        with bench.view.image(made, readonly=False) as image:
            image.metadata_set(format_mark.KEY, "{")
        yield State("damaged-record", f"mark of {made.id}")


@contextlib.contextmanager
def damaged_spec(bench: Bench) -> Iterator[State]:
    def write(text: str) -> None:
        with bench.view.image(made, readonly=False) as image:
            image.metadata_set(spec.KEY, text)

    with bench.volume("described") as made:
        text = bench.view.metadata(made)[spec.KEY]
        write("{")
        yield State("damaged-record", f"spec of {made.id}", lambda: write(text))


@contextlib.contextmanager
def unknown_location(bench: Bench) -> Iterator[State]:
    ioctx, pool = bench.view.ioctx, bench.view.ioctx.get_pool_name()
    rbd.RBD().namespace_create(ioctx, "apart")
    with bench.volume("apart", radosNamespace="apart"):
        bench.shell.cluster.rados("--pool", pool, "--namespace", "apart", "rm", MARKER)
        yield State("unknown-location", f"{pool}/apart")
    commands.wait_until(lambda: _removed(ioctx, "apart"), "the namespace is empty", timeout=120)


@contextlib.contextmanager
def unregistered_location(bench: Bench) -> Iterator[State]:
    ioctx, pool = bench.view.ioctx, bench.view.ioctx.get_pool_name()
    locations, here = Registry(ioctx, CLUSTER_ID), LocationId(CLUSTER_ID, ioctx.get_pool_id(), "")
    commands.wait_until(lambda: locations.searched() is not None, "all pools were searched")
    with bench.volume("unlisted"):
        locations.remove(here)
        yield State("unknown-location", pool)
    locations.add(here)


@contextlib.contextmanager
def lost_parent(bench: Bench) -> Iterator[State]:
    with bench.volume("parent") as parent, bench.volume("clone", source=parent.id) as made:
        lose(bench.view.ioctx, bench.view.image_id(made))
        yield State("lost-parent", made.id)


def _removed(ioctx: rados.Ioctx, namespace: str) -> bool:
    try:
        rbd.RBD().namespace_remove(ioctx, namespace)
    except rbd.Error:  # the volume's data is still being removed
        return False
    return True


MAKERS: tuple[Make, ...] = (
    foreign_watcher,
    no_living_node,
    staged_without_watcher,
    cut_off_rollback,
    blocklisted_client,
    stuck_deletion,
    deletion_with_snapshots,
    without_metadata,
    *map(_rest, ("name object", "header", "stripes", "object map")),
    fence_not_in_force,
    fence_of_retired_node,
    fence_of_former_machine,
    fence_past_its_time,
    node_id_twice,
    damaged_attachments,
    damaged_node,
    damaged_fence,
    damaged_snapshot,
    damaged_mark,
    damaged_spec,
    unknown_location,
    unregistered_location,
    lost_parent,
)
