"""The node's side: stage, unstage, publish, unpublish a volume, and its statistics.

It never formats a device that is not provably blank. It may import: `volumes`, `attachments`,
`nodes`, `ceph`, `host` and below.
"""
