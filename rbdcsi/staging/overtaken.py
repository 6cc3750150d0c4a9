"""The cause of a failed step of NodeStageVolume, if the volume was taken from the node before it.

A detach that fences the device's client, or the removal of the image, makes whichever step comes
next fail: a read of the device, mkfs, mount. Its error does not name the cause; Ceph does.
"""

import contextlib
from collections.abc import Iterator

from rbdcsi import errors
from rbdcsi.ceph import blocklist
from rbdcsi.staging.stage_call import StageCall


@contextlib.contextmanager
def explained(call: StageCall, client: str | None = None) -> Iterator[None]:
    """Raise the cause instead of the body's error, if the volume was taken from the call.

    Args:
        call: the call.
        client: of the device; None if it has none, or not yet.

    Raises:
        NotFound: the image is gone.
        NotAttached: the attachment of the call has ended.
        Busy: the device's client is on the blocklist.
    """
    try:
        yield
    except (errors.Failed, errors.Refused, errors.NotFound) as error:
        try:
            _require_there(call, client)
        except (errors.NotFound, errors.NotAttached, errors.Busy) as cause:
            raise type(cause)(f"{cause}; noticed by: {error}") from error
        except errors.RbdCsiError as unknown:
            error.add_note(f"whether the volume was taken from this node is not known: {unknown}")
        raise


def _require_there(call: StageCall, client: str | None) -> None:
    image = call.volume.image
    if call.volume.images.name_of(image.image_id) is None:
        raise errors.NotFound(
            f"image {image}, id {image.image_id}, does not exist any more; it was removed while "
            f"volume {call.handle} was being staged"
        )
    call.require_attached()
    if client and client in blocklist.addresses(call.connection):
        raise errors.Busy(
            f"volume {call.handle} is not staged: its client {client} was put on Ceph's blocklist "
            "while it was being staged; the repeated call maps the image with a new client"
        )
