"""A file with the monitors of a cluster, such as a ConfigMap that another program keeps up to date.

It holds the monitors as `monitors` takes them, or one of the forms that Rook writes:

- `a=10.0.0.1:6789,b=10.0.0.2:6789`: key `data` of the ConfigMap `rook-ceph-mon-endpoints`;
- `[{"clusterID": "rook-ceph", "monitors": ["10.0.0.1:6789"]}]`: key `csi-cluster-config-json` of
  the ConfigMap `rook-ceph-csi-config`, or `config.json` of ceph-csi's own.
"""

import json
from pathlib import Path
from typing import Any

from rbdcsi.config import keys, monitors


def read(path: Path, cluster_id: str) -> tuple[str, ...]:
    """Return the monitors of a cluster in that file.

    Args:
        path: the file.
        cluster_id: the cluster, if the file lists several.

    Raises:
        ValueError: the file cannot be read, or does not list the cluster's monitors.
    """
    text = keys.read(path).strip()
    try:
        clusters = json.loads(text)
    except ValueError:
        clusters = None
    if isinstance(clusters, list):
        return monitors.parse(_listed(clusters, cluster_id, path))
    return monitors.parse([_without_name(entry) for entry in monitors.split(text)])


def _without_name(entry: str) -> str:
    name, equals, address = entry.partition("=")
    return address if equals else name


def _listed(clusters: list[Any], cluster_id: str, path: Path) -> object:
    sections = [each for each in clusters if isinstance(each, dict)]
    for section in sections:
        if section.get("clusterID") == cluster_id:
            return section.get("monitors")
    cluster_ids = ", ".join(str(each.get("clusterID")) for each in sections) or "no cluster"
    raise ValueError(
        f"{path} lists {cluster_ids}, not {cluster_id!r}; give the cluster one of these clusterIDs"
    )
