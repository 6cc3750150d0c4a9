"""Fail-over, shown: a volume moves from a node that fails to another one, with all its data.

- `writer`: the program on the nodes that writes numbered records and reports each durable one;
- `log`: what is read of it, and the rules by which a run is judged, pure;
- `node`: the node that fails and the node that goes on, with their verbs: `here` (mapper fuse, on
  this machine), `machines` (krbd and nbd, in virtual machines);
- `by_hand`: the same move by Ceph's and the kernel's own tools, which is the floor;
- `story`: one run from the first record to the last check;
- `report`: the table and the picture of many runs. `python -m e2e.failover`.
"""
