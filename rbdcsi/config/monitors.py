"""The monitors of a cluster, as `mon_host` takes them. Ceph finds monitors that are not listed.

An entry is a host with or without port (10.0.0.1, mon-a:6789, [fd00::1]:3300), with or without the
messenger's version (v2:10.0.0.1:3300), or several addresses of one monitor in square brackets
([v2:10.0.0.1:3300,v1:10.0.0.1:6789]). See entity_addr_t::parse and entity_addrvec_t::parse.
"""

import re
from collections.abc import Iterator

_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)"
_ADDRESS = rf"{_HOST}(?::(?P<port>[0-9]{{1,5}}))?(?:/[0-9]+)?"
_ONE = re.compile(rf"(?:v[12]:)?{_ADDRESS}")
_OF_VECTOR = re.compile(rf"v[12]:{_ADDRESS}")


def parse(monitors: object) -> tuple[str, ...]:
    """Return the entries of a list, or of one text with commas between entries.

    Raises:
        ValueError: there is no entry, or an entry is not an address.
    """
    listed = [monitors] if isinstance(monitors, str) else monitors
    if not isinstance(listed, list | tuple):
        raise ValueError("must be a list of addresses, or text with commas between them")  # noqa: TRY004
    entries = tuple(entry for text in listed for entry in _split(str(text)))
    if not entries:
        raise ValueError("must name at least one monitor, such as 10.0.0.1:6789")
    for entry in entries:
        _check(entry)
    return entries


def _split(text: str) -> Iterator[str]:
    """Split at the commas that are outside of square brackets."""
    depth, entry = 0, ""
    for char in text:
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            yield entry.strip()
            entry = ""
        else:
            entry += char
    if entry.strip():
        yield entry.strip()


def _check(entry: str) -> None:
    if entry.startswith("[v"):
        matches = [_OF_VECTOR.fullmatch(one.strip()) for one in _split(entry[1:-1])]
        whole = entry.endswith("]")
    else:
        matches, whole = [_ONE.fullmatch(entry)], True
    ports = [int(match["port"] or 1) for match in matches if match]
    if not whole or len(ports) < len(matches) or not all(0 < port < 65536 for port in ports):
        raise ValueError(
            f"{entry!r} is not a monitor's address; give one such as 10.0.0.1, mon-a:6789, "
            "[fd00::1]:6789 or [v2:10.0.0.1:3300,v1:10.0.0.1:6789]"
        )
