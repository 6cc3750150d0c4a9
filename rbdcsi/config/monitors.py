"""The monitors of a cluster, as `mon_host` takes them. Ceph finds monitors that are not listed.

Entries are parted by commas, semicolons or white space (MonMap::init_with_hosts).

An entry is a host with or without port (10.0.0.1, mon-a:6789, [fd00::1]:3300), with or without the
messenger's version (v2:10.0.0.1:3300), or several addresses of one monitor in square brackets
([v2:10.0.0.1:3300,v1:10.0.0.1:6789]). See entity_addr_t::parse and entity_addrvec_t::parse.
"""

import ipaddress
import re
from collections.abc import Iterator

_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)"
_ADDRESS = rf"(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?(?:/[0-9]+)?"
_ONE = re.compile(rf"(?:v[12]:)?{_ADDRESS}")
_OF_VECTOR = re.compile(rf"v[12]:{_ADDRESS}")
_SEPARATORS = ",; \t\n"


def parse(monitors: object) -> tuple[str, ...]:
    """Return the entries of a list, or of one text with separators between entries.

    Raises:
        ValueError: there is no entry, or an entry is not text, or not an address.
    """
    listed = [monitors] if isinstance(monitors, str) else monitors
    if not isinstance(listed, list | tuple):
        raise ValueError("must be a list of addresses, or text with commas between them")  # noqa: TRY004
    if not all(isinstance(text, str) for text in listed):
        raise ValueError("each address must be text; put it in quotes")
    entries = tuple(entry for text in listed for entry in split(text))
    if not entries:
        raise ValueError("must name at least one monitor, such as 10.0.0.1:6789")
    for entry in entries:
        _check(entry)
    return entries


def addresses(entry: str) -> tuple[str, ...]:
    """Return the addresses of one monitor: those of a vector, otherwise the entry itself."""
    return tuple(split(entry[1:-1])) if entry.startswith("[v") else (entry,)


def without_names(monitors: str) -> bool:
    """Return whether every monitor is given by an IP address, none by a name.

    Raises:
        ValueError: see `parse`.
    """
    hosts = [_host(address) for entry in parse(monitors) for address in addresses(entry)]
    return all(_is_ip(host) for host in hosts)


def _host(address: str) -> str:
    match = _ONE.fullmatch(address)
    return match["host"].strip("[]") if match else address


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def split(text: str) -> Iterator[str]:
    """Split at the separators that are outside of square brackets."""
    depth, entry = 0, ""
    for char in text:
        depth += (char == "[") - (char == "]")
        if char in _SEPARATORS and depth == 0:
            if entry:
                yield entry
            entry = ""
        else:
            entry += char
    if entry:
        yield entry


def _check(entry: str) -> None:
    if entry.startswith("[v"):
        matches = [_OF_VECTOR.fullmatch(one) for one in addresses(entry)]
        whole = entry.endswith("]")
    else:
        matches, whole = [_ONE.fullmatch(entry)], True
    ports = [int(match["port"] or 1) for match in matches if match]
    if not whole or len(ports) < len(matches) or not all(0 < port < 65536 for port in ports):
        raise ValueError(
            f"{entry!r} is not a monitor's address; give one such as 10.0.0.1, mon-a:6789, "
            "[fd00::1]:6789 or [v2:10.0.0.1:3300,v1:10.0.0.1:6789]"
        )
