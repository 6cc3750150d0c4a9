"""Snapshots of volumes: take, delete, list, and the records that make them idempotent.

It may import: `attachments`, `nodes`, `ceph` and below.
"""
