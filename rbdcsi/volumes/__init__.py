"""The controller's side of volumes: create, delete, list, capacity, purging deleted data.

It may import: `attachments`, `nodes`, `ceph` and below.
"""
