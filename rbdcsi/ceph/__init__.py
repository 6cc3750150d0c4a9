"""Everything that touches Ceph: only modules of this package import `rados` and `rbd`.

It knows neither CSI nor the host. It may import: `model`, `config`, `runtime` and below.
"""
