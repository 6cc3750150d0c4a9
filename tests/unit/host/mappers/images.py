"""An image and an access for the mappers' tests."""

from rbdcsi.config.secret import Secret
from rbdcsi.host.mappers import interface

KEY = "AQDxyzCANARYKEYxyz=="
IMAGE = interface.Image(
    fsid="4f1cb3f0-0c8a-4b2c-8c1e-6a4a3e1f0a11",
    pool_id=7,
    pool="volumes",
    namespace="",
    image_id="10226b8b4567",
    image_name="csi-pvc-1",
)
ACCESS = interface.Access("10.0.0.1:6789,10.0.0.2", "node", Secret(KEY))
