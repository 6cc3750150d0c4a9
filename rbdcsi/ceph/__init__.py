"""All access to Ceph: only modules of this package import `rados` and `rbd`.

Nothing here depends on CSI or on the host. It may import: `model`, `config`, `runtime` and below.
"""
