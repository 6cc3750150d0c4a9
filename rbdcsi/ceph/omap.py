"""The omap (keys and values) of one RADOS object, changed by compare-and-swap.

librados: `omap_cmp` treats a missing key as an empty value, and returns ECANCELED on a difference.
"""

import contextlib
import errno
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import rados

from rbdcsi.ceph import ceph_errors
from rbdcsi.runtime.futures import Future

_EQUAL = 1  # LIBRADOS_CMPXATTR_OP_EQ
_PAGE = 1000  # OSDs return at most osd_max_omap_entries_per_request (1024) at once
_NONE: Mapping[str, str | None] = MappingProxyType({})


class _Reading:
    """A running read of one key.

    librados writes the answer into memory that `_values` owns, so this object waits for the answer
    before it is freed.
    """

    def __init__(self, ioctx: rados.Ioctx, name: str, key: str) -> None:
        self._on = f"{name}, key {key!r}"
        with ceph_errors.translated("sending a read to object", self._on), rados.ReadOpCtx() as op:
            self._values, _ = ioctx.get_omap_vals_by_keys(op, (key,))
            self._completion = ioctx.operate_aio_read_op(op, name)

    def result(self) -> bytes | None:
        """Wait and return the value, None if the key is absent."""
        with ceph_errors.measured("reading object"):
            self._completion.wait_for_complete()
            code = self._completion.get_return_value()
            if code == -errno.ENOENT:
                return None
            if code < 0:
                raise ceph_errors.from_errno(code, "", f"reading object {self._on}")
        # the bindings return None for an empty value
        return next((value or b"" for _, value in self._values), None)

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
    return Future(_Reading(ioctx, name, key).result)


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

    def items(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Yield keys with this prefix and their values, in the keys' order; read page by page."""
        after = ""
        while True:
            page = self._page(after, prefix)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def _page(self, after: str, prefix: str) -> list[tuple[str, str]]:
        with ceph_errors.translated("reading a page of object", self._name):
            try:
                with rados.ReadOpCtx() as op:
                    values, _ = self._ioctx.get_omap_vals(op, after, prefix, _PAGE)
                    self._ioctx.operate_read_op(op, self._name)
                    return [(key, _text(value)) for key, value in values]
            except rados.ObjectNotFound:
                return []

    def swap(
        self, key: str, old: str | None, new: str | None, beside: Mapping[str, str | None] = _NONE
    ) -> bool:
        """Set the key to `new` if its value is still `old`; otherwise change nothing.

        Values are ASCII and not empty.

        Args:
            key: the key to compare and change.
            old: the expected value; None expects that the key does not exist.
            new: the new value; None removes the key.
            beside: other keys, which the same operation sets or removes (None).

        Returns:
            Whether the value was `old` and the keys have changed.
        """
        with ceph_errors.translated("changing object", f"{self._name}, key {key!r}"):
            try:
                with rados.WriteOpCtx() as op:
                    op.new(0)
                    op.omap_cmp(key, old or "", _EQUAL)
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
        on = f"{self._name}, key {key!r}"
        with ceph_errors.translated("writing object", on), rados.WriteOpCtx() as op:
            op.new(0)
            self._write(op, key, value)
            self._ioctx.operate_write_op(op, self._name)

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


def _text(value: bytes | None) -> str:
    """Decode a value. None is an empty value; damaged UTF-8 becomes a text that is no JSON."""
    return (value or b"").decode(errors="backslashreplace")
