"""The line that makes krbd map an image; pure."""

from collections.abc import Iterator

from rbdcsi import errors
from rbdcsi.config import monitors
from rbdcsi.host.mappers.interface import Access, Image
from rbdcsi.model import map_options

_PORTS = {"v1": "6789", "v2": "3300"}


def map_line(image: Image, access: Access, *, readonly: bool, options: str) -> str:
    """Return the line for /sys/bus/rbd/add: monitors, options, pool, image, no snapshot.

    The line names the key, by `key_name`, and does not contain the secret.

    Args:
        image: the image to map.
        access: monitors, user and key.
        readonly: the device refuses writes.
        options: map options, comma separated; empty for none.

    Raises:
        InvalidRequest: an option that is not allowed, a name with white space, or no monitor
            address of the protocol that `ms_mode` requires.
    """
    allowed = map_options.parse("krbd", options)
    _check_names(image)
    is_v2 = any(o.startswith("ms_mode=") and o != "ms_mode=legacy" for o in allowed)
    own = [f"name={access.user}", *([f"key={key_name(access)}"] if access.key else []), "noshare"]
    own += ["read_only"] if readonly else []
    own += [f"_pool_ns={image.namespace}"] if image.namespace else []
    addresses = _addresses(access.monitors, "v2" if is_v2 else "v1")
    return f"{addresses} {','.join((*own, *allowed))} {image.pool} {image.image_name} -"


def key_name(access: Access) -> str:
    """Return the name of the user's key in the kernel's keyring."""
    return f"client.{access.user}"


def _check_names(image: Image) -> None:
    for name in (image.pool, image.image_name, image.namespace or "-"):
        if len(name.split()) != 1 or "," in image.namespace:
            raise errors.InvalidRequest(
                f"{image}: krbd cannot map names with white space or a namespace with a comma; "
                "change the name, or use another mapper"
            )


def _addresses(text: str, version: str) -> str:
    try:
        entries = monitors.parse(text)
    except ValueError as error:
        raise errors.InvalidRequest(f"monitors {text!r}: {error}") from error
    addresses = [address for entry in entries for address in _addresses_of(entry, version)]
    if not addresses:
        raise errors.InvalidRequest(
            f"monitors {text}: none has an address of protocol {version}, which krbd needs; "
            "add v1 addresses, or set the map option ms_mode=prefer-crc for v2"
        )
    return ",".join(addresses)


def _addresses_of(entry: str, version: str) -> Iterator[str]:
    """Yield one monitor's addresses of that protocol, in the form that the kernel takes."""
    for alternative in monitors.addresses(entry):
        protocol, _, address = alternative.partition(":")
        if protocol not in _PORTS:  # an address without a protocol: its port may show it
            address = alternative
            protocol = "v2" if address.endswith(f":{_PORTS['v2']}") else version
        if protocol == version:
            address = address.partition("/")[0]  # the nonce, always 0 for a monitor
            has_port = ":" in address.rpartition("]")[2]
            yield address if has_port else f"{address}:{_PORTS[version]}"
