"""The capabilities of the driver's two Ceph users: the smallest with which every test passes.

docs/reference/ceph-permissions.md shows them for one pool; a test compares.
"""

from collections.abc import Mapping

# What a node writes beside data: images that exist, and the driver's records.
_NODE_WRITES = ("rbd_header.", "rbd_object_map.", "journal", "rbdcsi.")


def controller_caps(*pools: str) -> Mapping[str, str]:
    """Return the capabilities of the user of controllers, by service.

    Args:
        pools: those that volumes and their data may be in; the home pool among them. See `within`.
    """
    return {
        "mon": 'profile rbd, allow command "osd blocklist" with blocklistop=rm',
        "osd": ", ".join(f"profile rbd pool={pool}" for pool in pools),
    }


def node_caps(*pools: str) -> Mapping[str, str]:
    """Return the capabilities of the user of node plugins, by service; see `controller_caps`."""
    return {"mon": "profile rbd", "osd": ", ".join(map(_node_osd_caps, pools))}


def within(pool: str, namespace: str) -> str:
    """Return one RADOS namespace of a pool as these functions take it; empty: the whole pool."""
    return f"{pool} namespace={namespace}" if namespace else pool


def node_data_caps(pool: str) -> str:
    """Return what a node's user needs of a pool that holds data of images and nothing else."""
    return ", ".join((f"profile rbd-read-only pool={pool}", _writing(pool, "rbd_data.")))


def _node_osd_caps(pool: str) -> str:
    writes = (_writing(pool, prefix) for prefix in _NODE_WRITES)
    return ", ".join((node_data_caps(pool), *writes))


def _writing(pool: str, prefix: str) -> str:
    return f"allow rwx pool={pool} object_prefix {prefix}"
