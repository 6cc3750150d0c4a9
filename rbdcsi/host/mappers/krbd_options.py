"""Pure: the line that asks krbd to map an image."""

from collections.abc import Iterator

from rbdcsi import errors
from rbdcsi.config import monitors
from rbdcsi.host.mappers.interface import Access, Image

# Set by the mapper itself, or would undo what it relies on (a client of its own for each device).
_RESERVED = frozenset(("name", "secret", "key", "noshare", "share", "ro", "read_only", "rw",
                       "read_write", "exclusive", "_pool_ns", "crush_location_file"))  # fmt: skip
_PORTS = {"v1": "6789", "v2": "3300"}


def map_line(image: Image, access: Access, *, readonly: bool, options: str) -> str:
    """Return what is written to /sys/bus/rbd/add: monitors, options, pool, image, no snapshot.

    The key is told by its name, `key_name`; the secret is not in it.

    Raises:
        InvalidRequest: an option that is the mapper's to set, a name with white space, or no
            monitor that speaks the protocol that `ms_mode` asks for.
    """
    chosen = list(filter(None, options.split(",")))
    _check(chosen, image)
    is_v2 = any(o.startswith("ms_mode=") and o != "ms_mode=legacy" for o in chosen)
    own = [f"name={access.user}", f"key={key_name(access)}", "noshare"]
    own += ["read_only"] if readonly else []
    own += [f"_pool_ns={image.namespace}"] if image.namespace else []
    addresses = _addresses(access.monitors, "v2" if is_v2 else "v1")
    return f"{addresses} {','.join((*own, *chosen))} {image.pool} {image.image_name} -"


def key_name(access: Access) -> str:
    """Return the name that the key of that user has in the kernel's keyring."""
    return f"client.{access.user}"


def _check(options: list[str], image: Image) -> None:
    for option in options:
        if option.partition("=")[0] in _RESERVED or len(option.split()) != 1:
            raise errors.InvalidRequest(f"map option {option!r}: not to be set for krbd")
    for name in (image.pool, image.image_name, image.namespace or "-"):
        if len(name.split()) != 1 or "," in image.namespace:
            raise errors.InvalidRequest(f"{image}: krbd cannot map a name with white space")


def _addresses(text: str, version: str) -> str:
    entries = monitors.parse(text)
    found = [address for entry in entries for address in _spoken(entry, version)]
    if not found:
        raise errors.InvalidRequest(
            f"monitors {text}: none speaks {version}, which krbd needs; "
            "name v1 addresses, or set the map option ms_mode=prefer-crc for v2"
        )
    return ",".join(found)


def _spoken(entry: str, version: str) -> Iterator[str]:
    """Yield the addresses of one monitor in that version, as the kernel takes them."""
    alternatives = entry[1:-1].split(",") if entry.startswith("[v") else [entry]
    for alternative in alternatives:
        given, _, address = alternative.strip().partition(":")
        if given not in _PORTS:  # an address that does not say what it speaks: its port may
            address = alternative.strip()
            given = "v2" if address.endswith(f":{_PORTS['v2']}") else version
        if given == version:
            address = address.partition("/")[0]  # the nonce, always 0 for a monitor
            has_port = ":" in address.rpartition("]")[2]
            yield address if has_port else f"{address}:{_PORTS[version]}"
