"""Mappers turn an RBD image into a block device of this host: `krbd`, `nbd` and `fuse`.

`interface` has the verbs of every mapper, `select` chooses a mapper. A mapper finds its devices by
the image's ids, which it reads from the kernel and from its own state directory.

A new mapper is a module here, and its name in `select`, `config/options.py`,
`model/storage_class.py`, the chart's `values.schema.json`, the Dockerfile (its programs) and
docs/explanation/architecture.md.
"""
