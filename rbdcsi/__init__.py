"""rbdcsi: a Container Storage Interface driver for Ceph RBD with a real attach stage."""

from importlib.metadata import version

__version__ = version("rbdcsi")

DRIVER_NAME = "rbd.rbdcsi.io"
