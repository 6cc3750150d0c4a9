"""Everything that touches this machine: commands, block devices, filesystems, mounts, mappers.

It knows neither CSI nor Ceph's libraries. It may import: `model`, `config`, `runtime` and below.
"""
