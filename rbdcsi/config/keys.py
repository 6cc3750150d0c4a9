"""Ceph keys in text, key files and keyrings. No error quotes the content: it may be a key."""

import base64
import configparser
import functools
from pathlib import Path

from rbdcsi.config.secret import Secret

_AES, _AES256K = 1, 2  # CEPH_CRYPTO_AES, CEPH_CRYPTO_AES256KRB5


def parse(text: str) -> Secret:
    """Return the key in a text: base64 of type, time, length and secret (src/auth/Crypto.cc).

    Raises:
        ValueError: the text is not a Ceph key.
    """
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError:
        decoded = b""
    # u16 type (see `remark`), two u32 of time, u16 length, then that many bytes
    if len(decoded) <= 12 or int.from_bytes(decoded[10:12], "little") != len(decoded) - 12:
        raise ValueError(
            "this is not a Ceph key; use the output of `ceph auth get-key client.USER`"
        )
    return Secret(text)


def remark(key: Secret | None) -> str | None:
    """Return a sentence for errors that may come from the key's type; None for the common type.

    librados and the kernel refuse a key of a type that they do not know without naming it.
    """
    if key is None:
        return None
    kind = int.from_bytes(base64.b64decode(key.reveal())[:2], "little")
    if kind == _AES:
        return None
    name = "aes256k, " if kind == _AES256K else ""
    return (
        f"the key is of type {kind} ({name}not type {_AES}, aes): librados knows aes256k since "
        "Ceph 19.2.6 and 20.2.4, and krbd since Linux 7.0; give the driver a newer librados, or "
        "the user a key of type aes"
    )


def from_file(path: Path) -> Secret:
    """Return the key in a file that holds one key.

    Raises:
        ValueError: the file cannot be read, or does not hold a key.
    """
    try:
        return parse(read(path).strip())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def from_keyring(path: Path, user: str) -> Secret:
    """Return the key of `[client.USER]` in a keyring, the file that `ceph auth get` prints.

    Every call to the driver reads the key, so the file is parsed only if it has changed.

    Raises:
        ValueError: the file cannot be read, or has no such section or key.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return _from_keyring(path, user, (status.st_mtime_ns, status.st_size, status.st_ino))


@functools.lru_cache(maxsize=64)
def _from_keyring(path: Path, user: str, _version: tuple[int, int, int]) -> Secret:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    try:
        parser.read_string(read(path))
    except configparser.Error:
        raise ValueError(f"{path} is not a Ceph keyring") from None
    text = parser.get(f"client.{user}", "key", fallback=None)
    if text is None:
        raise ValueError(f"{path} has no key in a section [client.{user}]")
    return parse(text)


def read(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ValueError: the file cannot be read, or is not text.
    """
    try:
        return path.read_text()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file") from None
