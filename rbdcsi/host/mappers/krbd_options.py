"""The line that makes krbd map an image; pure."""

from collections.abc import Collection, Mapping

from rbdcsi import errors
from rbdcsi.config import monitors
from rbdcsi.host.mappers.interface import Access, Image
from rbdcsi.model import map_options

_PORTS = {"v1": "6789", "v2": "3300"}
_VERSIONS = {port: version for version, port in _PORTS.items()}
_V2 = "ms_mode=prefer-crc"  # Linux 5.11 and later


def map_line(image: Image, access: Access, *, readonly: bool, options: str) -> str:
    """Return the line for /sys/bus/rbd/add: monitors, options, pool, image, no snapshot.

    The line names the key, by `key_name`, and does not contain the secret. Without `ms_mode` among
    the options the kernel speaks version 1 of Ceph's protocol; if no monitor has an address of that
    version, the line asks for version 2.

    Args:
        image: the image to map.
        access: monitors, user and key.
        readonly: the device refuses writes.
        options: map options, comma separated; empty for none.

    Raises:
        InvalidRequest: an option that is not allowed, a name with white space, or no monitor
            address of the version that `ms_mode` requires.
    """
    allowed = map_options.parse("krbd", options)
    _check_names(image)
    of_version = _by_version(access.monitors)
    mode = next((each for each in reversed(allowed) if each.startswith("ms_mode=")), None)
    if mode is None and not of_version["v1"]:
        mode = _V2
        allowed = (*allowed, mode)
    version = "v1" if mode in {None, "ms_mode=legacy"} else "v2"
    _require_addresses(access.monitors, mode, version, of_version)
    own = [f"name={access.user}", *([f"key={key_name(access)}"] if access.key else []), "noshare"]
    own += ["read_only"] if readonly else []
    own += [f"_pool_ns={image.namespace}"] if image.namespace else []
    addresses = ",".join(of_version[version])
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


def _by_version(text: str) -> dict[str, list[str]]:
    """Return the monitors' addresses by version, in the form that the kernel takes."""
    try:
        entries = monitors.parse(text)
    except ValueError as error:
        raise errors.InvalidRequest(f"monitors {text!r}: {error}") from error
    alternatives = [each for entry in entries for each in monitors.addresses(entry)]
    return {
        version: [
            address if port else f"{address}:{_PORTS[version]}"
            for address, port, versions in map(_address, alternatives)
            if version in versions
        ]
        for version in _PORTS
    }


def _address(text: str) -> tuple[str, str, Collection[str]]:
    """Return a monitor's address, its port (empty for none), and the versions that it may speak."""
    version, _, address = text.partition(":")
    if version not in _PORTS:
        version, address = "", text
    address = address.partition("/")[0]  # the nonce, always 0 for a monitor
    _, colon, port = address.rpartition("]")[2].partition(":")
    version = version or _VERSIONS.get(port, "")
    return address, port if colon else "", (version,) if version else tuple(_PORTS)


def _require_addresses(
    text: str, mode: str | None, version: str, of_version: Mapping[str, Collection[str]]
) -> None:
    if of_version[version]:
        return
    other = "v1" if version == "v2" else "v2"
    raise errors.InvalidRequest(
        f"monitors {text}: none has an address of version {version}, which the map option {mode} "
        f"asks for; leave {mode} out of the StorageClass, or give the monitors' addresses with "
        f"port {_PORTS[version]} instead of {_PORTS[other]}"
    )
