"""Keys and values of one RADOS object, changed by compare-and-swap.

librados: `omap_cmp` takes a missing key for an empty value and answers ECANCELED on a difference.
"""

import errno
from collections.abc import Callable, Iterable, Iterator

import rados

from rbdcsi.ceph import translate

_EQUAL = 1  # LIBRADOS_CMPXATTR_OP_EQ
_PAGE = 1000  # OSDs give at most osd_max_omap_entries_per_request (1024) at once


class Omap:
    """The omap of one object; the object is made by the first write."""

    def __init__(self, ioctx: rados.Ioctx, name: str) -> None:
        self._ioctx = ioctx
        self._name = name

    def get(self, key: str) -> str | None:
        """Return a key's value, None if there is none."""
        return self.begin_get(key)()

    def begin_get(self, key: str) -> Callable[[], str | None]:
        """Begin to read a key; what is returned waits for the value, and is called once."""
        on = f"{self._name}, key {key!r}"
        with translate.translated("sending a read to object", on), rados.ReadOpCtx() as op:
            values, _ = self._ioctx.get_omap_vals_by_keys(op, (key,))
            completion = self._ioctx.operate_aio_read_op(op, self._name)

        def finish() -> str | None:
            with translate.measured("reading object"):
                completion.wait_for_complete()
                code = completion.get_return_value()
                if code == -errno.ENOENT:
                    return None
                if code < 0:
                    raise translate.of_errno(code, "", f"reading object {on}")
            return next((_text(value) for _, value in values), None)

        return finish

    def items(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Yield keys and values in the keys' order, read page by page."""
        after = ""
        while True:
            page = self._page(after, prefix)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def _page(self, after: str, prefix: str) -> list[tuple[str, str]]:
        with translate.translated("reading a page of object", self._name):
            try:
                with rados.ReadOpCtx() as op:
                    values, _ = self._ioctx.get_omap_vals(op, after, prefix, _PAGE)
                    self._ioctx.operate_read_op(op, self._name)
                    return [(key, _text(value)) for key, value in values]
            except rados.ObjectNotFound:
                return []

    def swap(self, key: str, old: str | None, new: str | None) -> bool:
        """Set the key to `new` (None removes it) if it still is `old` (None: absent).

        Values are ASCII and not empty. Returns False, with nothing changed, if it is not `old`.
        """
        with translate.translated("changing object", f"{self._name}, key {key!r}"):
            try:
                with rados.WriteOpCtx() as op:
                    op.new(0)
                    op.omap_cmp(key, old or "", _EQUAL)
                    self._write(op, key, new)
                    self._ioctx.operate_write_op(op, self._name)
            except rados.OSError as error:
                if abs(translate.errno_of(error)) == errno.ECANCELED:
                    return False
                raise
        return True

    def put(self, key: str, value: str | None) -> None:
        """Set the key, or remove it (None), whatever it was."""
        self.begin_put(key, value)()

    def begin_put(self, key: str, value: str | None) -> Callable[[], None]:
        """Begin to set or remove the key; what is returned waits for the end, and may be repeated.

        The caller does something else meanwhile: two writes to different objects take the time of
        one.
        """
        on = f"{self._name}, key {key!r}"
        with translate.translated("sending a write to object", on), rados.WriteOpCtx() as op:
            op.new(0)
            self._write(op, key, value)
            completion = self._ioctx.operate_aio_write_op(op, self._name)

        def finish() -> None:
            with translate.measured("writing object"):
                completion.wait_for_complete()
                code = completion.get_return_value()
                if code < 0:
                    raise translate.of_errno(code, "", f"writing object {on}")

        return finish

    def _write(self, op: rados.WriteOp, key: str, value: str | None) -> None:
        if value is None:
            self._ioctx.remove_omap_keys(op, (key,))
        else:
            self._ioctx.set_omap(op, (key,), (value.encode(),))


def touch(ioctx: rados.Ioctx, names: Iterable[str]) -> None:
    """Make the objects exist, empty if they are new."""
    for name in names:
        with translate.translated("creating object", name), rados.WriteOpCtx() as op:
            op.new(0)
            ioctx.operate_write_op(op, name)


def _text(value: bytes | None) -> str:
    """Decode a value: None is an empty one, and what is damaged becomes what no JSON can hold."""
    return (value or b"").decode(errors="backslashreplace")
