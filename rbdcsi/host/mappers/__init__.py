"""Mappers turn an RBD image into a block device of this host: `krbd`, `nbd` and `fuse`.

`interface` says what every mapper can do, `select` chooses one. A mapper finds its devices again
from the kernel and from its own state directory, by the image's id.
"""
