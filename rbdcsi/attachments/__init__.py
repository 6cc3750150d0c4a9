"""Which node may use a volume: attach, detach, and the record in Ceph that enforces it.

It may import: `nodes`, `ceph` and below.
"""
