"""The node registry in Ceph: each node plugin registers itself there and keeps its record fresh.

It may import: `ceph` and below.
"""
