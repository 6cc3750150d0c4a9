"""M4: ControllerPublishVolume, granted and refused, and its undoing."""

import contextlib

import grpc
import rados

from bench.lab import Lab, timed
from bench.metric import Call, Comparison, Goal, Result, alternate
from e2e import volume

_OBJECT, _KEY = "floor", "volume"
_EQUAL = 1  # LIBRADOS_CMPXATTR_OP_EQ


def measure(lab: Lab) -> list[Result]:
    """Compare with one compare-and-swap of an omap value, the least that excludes a second one."""
    with lab.pool() as (pool, ioctx):
        made = volume.create(lab.controller, "attach", parameters={"pool": pool})
        node, other = (node.name for node in lab.nodes)

        def granted(_number: int) -> float:
            volume.detach(lab.controller, made, node)
            return timed(lambda: volume.attach(lab.controller, made, node))

        def undone(_number: int) -> float:
            volume.attach(lab.controller, made, node)
            return timed(lambda: volume.detach(lab.controller, made, node))

        def refused(_number: int) -> float:
            return timed(lambda: _expect_refusal(lab, made, other))

        rounds, warmups = lab.rounds(200), lab.rounds(20)
        swap, fail = _swap(ioctx), _swap_that_fails(ioctx)
        attach = alternate(granted, swap, rounds, warmups)
        detach = alternate(undone, swap, rounds, warmups)
        volume.attach(lab.controller, made, node)
        refusal = alternate(refused, fail, rounds, warmups)
        volume.detach(lab.controller, made, node)
    floor = "one compare-and-swap"
    return [
        Comparison("M4", "ControllerPublishVolume", floor, attach, Goal(3)),
        Comparison("M4", "the same, refused", f"{floor} that fails", refusal, Goal(3)),
        Comparison("M4", "ControllerUnpublishVolume", floor, detach, Goal(4)),
    ]


def _expect_refusal(lab: Lab, made: volume.Volume, node: str) -> None:
    try:
        volume.attach(lab.controller, made, node)
    except grpc.RpcError:
        return
    raise AssertionError(f"{node} got the volume of another node")


def _swap(ioctx: rados.Ioctx) -> Call:
    state = {"old": "x" * 200}
    _put(ioctx, state["old"])

    def swap(number: int) -> float:
        new = f"{number:0200}"
        seconds = timed(lambda: _compare_and_set(ioctx, state["old"], new))
        state["old"] = new
        return seconds

    return swap


def _swap_that_fails(ioctx: rados.Ioctx) -> Call:
    def swap(_number: int) -> None:
        with contextlib.suppress(rados.Error):
            _compare_and_set(ioctx, "never", "x" * 200)
            raise AssertionError("the floor's comparison passed")

    return lambda number: timed(lambda: swap(number))


def _put(ioctx: rados.Ioctx, value: str) -> None:
    with rados.WriteOpCtx() as operation:
        ioctx.set_omap(operation, (_KEY,), (value.encode(),))
        ioctx.operate_write_op(operation, _OBJECT)


def _compare_and_set(ioctx: rados.Ioctx, old: str, new: str) -> None:
    with rados.WriteOpCtx() as operation:
        operation.omap_cmp(_KEY, old, _EQUAL)
        ioctx.set_omap(operation, (_KEY,), (new.encode(),))
        ioctx.operate_write_op(operation, _OBJECT)
