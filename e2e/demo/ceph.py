"""What Ceph itself says of the demo's volume, by Ceph's own commands; shown, and returned."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from e2e import errors
from e2e.clusters import Cluster
from e2e.demo.screen import Screen

_WATCHER = re.compile(r"watcher=(\S+)")


@dataclass(frozen=True)
class Ceph:
    """Asks the cluster about one pool."""

    cluster: Cluster
    pool: str
    screen: Screen

    def images(self) -> str:
        """Return what `rbd ls` says."""
        return self._rbd("ls", "-l", self.pool)

    def trash_is_empty(self) -> bool:
        """Tell whether all data of deleted images is gone; not shown, for it is asked often."""
        return not self.cluster.rbd("trash", "ls", self.pool)

    def watchers(self, image: str) -> set[str]:
        """Return the clients (ip:port/nonce) that have the image open."""
        return set(_WATCHER.findall(self._rbd("status", f"{self.pool}/{image}")))

    def metadata(self, image: str, key: str) -> str:
        """Return one value of the image's metadata."""
        return self._rbd("image-meta", "get", f"{self.pool}/{image}", key)

    def attachments(self, image_id: str) -> Mapping[str, Any]:
        """Return the volume's attachments by node, from the record beside the images."""
        words = ("-p", self.pool, "getomapval", self._shard(image_id), image_id, "/dev/stdout")
        record = json.loads(self.cluster.rados(*words))
        held: Mapping[str, Any] = record["attachments"]
        shown = [_readable(node, facts) for node, facts in held.items()] or ["no attachment"]
        self.screen.command(f"rados {' '.join(words)}", "\n".join(shown))
        return held

    def _rbd(self, *words: str) -> str:
        answer = self.cluster.rbd(*words)
        self.screen.command(f"rbd {' '.join(words)}", answer or "(nothing)")
        return answer

    def _shard(self, image_id: str) -> str:
        """Return the name of the object that has the record: one of several, by image id."""
        names = self.cluster.rados("-p", self.pool, "ls").split()
        for name in sorted(n for n in names if n.startswith("rbdcsi.attachments.")):
            if image_id in self.cluster.rados("-p", self.pool, "listomapkeys", name).split():
                return name
        raise errors.Failed(f"no object of pool {self.pool} has a record of image {image_id}")


def _readable(node: str, facts: Mapping[str, Any]) -> str:
    words = (
        f"{name} {facts[name] or 'none'}" for name in ("state", "mode", "generation", "client")
    )
    return f"{node}: {', '.join(words)}"
