"""rbdcsi: a Container Storage Interface driver for Ceph RBD with a real attach stage."""

__version__ = "0.1.0"

DRIVER_NAME = "rbd.rbdcsi.io"
