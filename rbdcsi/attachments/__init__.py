"""Which node may use a volume: attach, detach, the record in Ceph, and fences that enforce it.

It may import: `nodes`, `ceph` and below.
"""
