"""The omap (keys and values) of one RADOS object, changed by compare-and-swap.

librados: `omap_cmp` treats a missing key as an empty value, and returns ECANCELED on a difference.
"""

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import rados

from rbdcsi.ceph import ceph_errors
from rbdcsi.runtime.futures import Future

_EQUAL = 1  # LIBRADOS_CMPXATTR_OP_EQ
PAGE = 1000  # OSDs return at most osd_max_omap_entries_per_request (1024) at once
_Values: TypeAlias = Iterator[tuple[str, bytes | None]]
_NONE: Mapping[str, str | None] = MappingProxyType({})


Pairs: TypeAlias = list[tuple[str, bytes]]


class _Reading:
    """A running read of keys of one object.

    librados writes the answer into memory that `_values` owns, so this object waits for the answer
    before it is freed.
    """

    def __init__(
        self, ioctx: rados.Ioctx, name: str, on: str, ask: Callable[[rados.ReadOp], _Values]
    ) -> None:
        self._on = f"{name}{on}"
        with ceph_errors.translated("sending a read to object", self._on), rados.ReadOpCtx() as op:
            self._values = ask(op)
            self._completion = ioctx.operate_aio_read_op(op, name)

    def result(self) -> Pairs:
        """Wait and return keys and values, none if there is no such object."""
        with ceph_errors.measured("reading object"):
            self._completion.wait_for_complete()
            code = self._completion.get_return_value()
            if code == -errno.ENOENT:
                return []
            if code < 0:
                raise ceph_errors.from_errno(code, "", f"reading object {self._on}")
        # the bindings return None for an empty value
        return [(key, value or b"") for key, value in self._values]

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # the read was never sent
            self._completion.wait_for_complete()


def begin_read(ioctx: rados.Ioctx, name: str, key: str) -> Future[bytes | None]:
    """Begin to read a key of an object.

    Args:
        ioctx: the location of the object.
        name: the name of the object.
        key: a key of its omap.

    Returns:
        The future of the value, which is None if the object or the key does not exist.
    """
    reading = _Reading(
        ioctx, name, f", key {key!r}", lambda op: ioctx.get_omap_vals_by_keys(op, (key,))[0]
    )
    return Future(reading.result).then(lambda pairs: next((value for _, value in pairs), None))


def begin_page(
    ioctx: rados.Ioctx, name: str, prefix: str, after: str = "", most: int = PAGE
) -> Future[Pairs]:
    """Begin to read the next keys of an object with their values, in the keys' order.

    Args:
        ioctx: the location of the object.
        name: the name of the object; it need not exist.
        prefix: of the keys.
        after: only keys after this one; empty: from the first.
        most: the most keys, at most `PAGE`.
    """
    reading = _Reading(ioctx, name, "", lambda op: ioctx.get_omap_vals(op, after, prefix, most)[0])
    return Future(reading.result)


class Omap:
    """The omap of one object; the first write creates the object."""

    def __init__(self, ioctx: rados.Ioctx, name: str) -> None:
        self._ioctx = ioctx
        self._name = name

    def get(self, key: str) -> str | None:
        """Return a key's value, None if the key does not exist."""
        return self.begin_get(key).result()

    def begin_get(self, key: str) -> Future[str | None]:
        """Begin to read a key's value, which is None if the key does not exist."""
        reading = begin_read(self._ioctx, self._name, key)
        return reading.then(lambda value: None if value is None else _text(value))

    def begin_get_several(self, keys: Sequence[str]) -> Future[dict[str, str]]:
        """Begin to read the values of those keys that exist."""
        reading = _Reading(
            self._ioctx,
            self._name,
            "",
            lambda op: self._ioctx.get_omap_vals_by_keys(op, tuple(keys))[0],
        )
        return Future(reading.result).then(_texts)

    def items(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Yield keys with this prefix and their values, in the keys' order; read page by page."""
        return self.begin_items(prefix).result()

    def begin_items(self, prefix: str = "") -> Future[Iterator[tuple[str, str]]]:
        """Begin to read the first page of `items`; further ones are read when they are needed."""
        reading = begin_page(self._ioctx, self._name, prefix)
        return reading.then(lambda pairs: self._pages(pairs, prefix))

    def _pages(self, pairs: Pairs, prefix: str) -> Iterator[tuple[str, str]]:
        while True:
            yield from _texts(pairs).items()
            if len(pairs) < PAGE:
                return
            pairs = begin_page(self._ioctx, self._name, prefix, pairs[-1][0]).result()

    def swap(
        self,
        key: str,
        old: str | None,
        new: str | None,
        beside: Mapping[str, str | None] = _NONE,
        absent: Iterable[str] = (),
    ) -> bool:
        """Set the key to `new` if its value is still `old`; otherwise change nothing.

        Values are ASCII and not empty.

        Args:
            key: the key to compare and change.
            old: the expected value; None expects that the key does not exist.
            new: the new value; None removes the key.
            beside: other keys, which the same operation sets or removes (None).
            absent: keys that must not exist either.

        Returns:
            Whether the value was `old`, and the keys have changed.
        """
        with ceph_errors.translated("changing object", f"{self._name}, key {key!r}"):
            try:
                with rados.WriteOpCtx() as op:
                    op.new(0)
                    op.omap_cmp(key, old or "", _EQUAL)
                    for each in absent:
                        op.omap_cmp(each, "", _EQUAL)
                    for each, value in {**beside, key: new}.items():
                        self._write(op, each, value)
                    self._ioctx.operate_write_op(op, self._name)
            except rados.OSError as error:
                if ceph_errors.compared_unequal(error):
                    return False
                raise
        return True

    def put(self, key: str, value: str | None) -> None:
        """Set the key, or remove it (None), whatever its value was."""
        self.begin_put(key, value).result()

    def begin_put(self, key: str, value: str | None) -> Future[None]:
        """Begin to set the key, or to remove it (None), whatever its value was."""
        on = f"{self._name}, key {key!r}"
        with (
            ceph_errors.translated("sending a write to object", on),
            rados.WriteOpCtx() as op,
        ):
            op.new(0)
            self._write(op, key, value)
            completion = self._ioctx.operate_aio_write_op(op, self._name)

        def ended() -> None:
            with ceph_errors.measured("writing object"):
                completion.wait_for_complete()
                if (code := completion.get_return_value()) < 0:
                    raise ceph_errors.from_errno(code, "", f"writing object {on}")

        return Future(ended)

    def _write(self, op: rados.WriteOp, key: str, value: str | None) -> None:
        if value is None:
            self._ioctx.remove_omap_keys(op, (key,))
        else:
            self._ioctx.set_omap(op, (key,), (value.encode(),))


def touch(ioctx: rados.Ioctx, names: Iterable[str]) -> None:
    """Create the objects that do not exist, empty.

    Raises:
        NoOmap: the pool keeps no omap; nothing is created.
    """
    for name in names:
        with ceph_errors.translated("creating object", name), rados.WriteOpCtx() as op:
            op.new(0)
            ioctx.remove_omap_keys(op, ())  # changes nothing, but is refused where there is no omap
            ioctx.operate_write_op(op, name)


def remove(ioctx: rados.Ioctx, name: str) -> None:
    """Remove an object; do nothing if it does not exist."""
    doing = ceph_errors.translated("removing object", name)
    with doing, contextlib.suppress(rados.ObjectNotFound):
        ioctx.remove_object(name)


def _texts(pairs: Pairs) -> dict[str, str]:
    return {key: _text(value) for key, value in pairs}


def _text(value: bytes) -> str:
    """Decode a value; damaged UTF-8 becomes a text that is no JSON."""
    return value.decode(errors="backslashreplace")
