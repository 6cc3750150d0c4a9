"""The controller's side of volumes: create, delete, list, capacity, purging deleted data.

It may import: `snapshots`, `attachments`, `nodes`, `ceph` and below.
"""
