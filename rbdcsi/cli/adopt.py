"""`rbdcsi volumes adopt`: an image of ceph-csi, or one made by hand, becomes a volume."""

from collections.abc import Iterator
from pathlib import Path

import click

from rbdcsi import errors
from rbdcsi.cli import persistent_volume, session
from rbdcsi.model import filesystems
from rbdcsi.model import storage_class as classes
from rbdcsi.model.node_options import NodeOptions
from rbdcsi.operator import adoption
from rbdcsi.operator.adoption import Adoption
from rbdcsi.operator.adoption_rules import Wish
from rbdcsi.volumes import spec

_FOR_NODES = ("mounter", "tryOtherMounters", "mapOptions", "unmapOptions")


@click.command()
@click.argument("image")
@click.option("--cluster-id", help="The image's cluster, if several are configured.")
@click.option(
    "--fs-type",
    type=click.Choice(tuple(filesystems.TABLE)),
    help="The filesystem that the image must hold. Default: the one that it holds.",
)
@click.option("--block", is_flag=True, help="The volume is for raw block use.")
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help=f"As in a StorageClass: {', '.join(_FOR_NODES)}.",
)
@click.option("--pv", help="The PersistentVolume's name. Default: the image's.")
@click.option("--claim", metavar="NAMESPACE/NAME", help="The only claim that may take it.")
@click.option("--storage-class", default="", help="Its storageClassName. Default: empty.")
@click.option(
    "--access-mode",
    "access_modes",
    multiple=True,
    type=click.Choice(persistent_volume.ACCESS_MODES),
    default=persistent_volume.ACCESS_MODES[:1],
    show_default=True,
    help="One of its access modes. ReadWriteMany needs --block.",
)
@click.option(
    "--reclaim-policy",
    type=click.Choice(persistent_volume.RECLAIM_POLICIES),
    default=persistent_volume.RECLAIM_POLICIES[0],
    show_default=True,
    help="Whether the image is kept or deleted with its claim.",
)
@click.option(
    "--node-stage-secret",
    metavar="NAMESPACE/NAME",
    help="The Secret with the user that nodes map it by. Default: the configured user.",
)
@session.with_yes
@session.with_config
def adopt(
    image: str,
    cluster_id: str | None,
    fs_type: str | None,
    block: bool,
    parameters: tuple[str, ...],
    pv: str | None,
    claim: str | None,
    storage_class: str,
    access_modes: tuple[str, ...],
    reclaim_policy: str,
    node_stage_secret: str | None,
    yes: bool,
    config: Path,
) -> None:
    """Make IMAGE, such as POOL/IMAGE, a volume of this driver, and print its PersistentVolume.

    The image is one that another program made, ceph-csi for one. Nothing may have it open. Its
    data is only read; metadata of this driver is added, and what ceph-csi keeps is left as it is.
    A repeat prints the same again.
    """
    with session.connections(config) as pooled:
        if block and fs_type:
            raise errors.InvalidRequest("--block and --fs-type exclude each other; give one")
        persistent_volume.require_possible(access_modes, block=block)
        image_name = adoption.parse(image, cluster_id)
        choices = persistent_volume.Choices(
            persistent_volume.checked_name(pv or image_name.name, "--pv"),
            storage_class,
            access_modes,
            reclaim_policy,
            persistent_volume.reference(claim, "--claim") if claim else None,
            persistent_volume.reference(node_stage_secret, "--node-stage-secret")
            if node_stage_secret
            else None,
        )
        wish = Wish(fs_type, block, _node_options(parameters))
        adopted = adoption.examine(pooled, image_name, wish)
        if not adopted.done:
            session.require_consent(_question(adopted), yes=yes)
        adoption.carry_out(pooled, image_name, adopted, _names(choices))
        for line in _next_steps(adopted, choices):
            click.echo(line, err=True)
        handle, use = str(adopted.handle), adopted.spec.fs_type
        click.echo(persistent_volume.manifest(handle, adopted.size, use, choices), nl=False)


def _node_options(parameters: tuple[str, ...]) -> NodeOptions:
    pairs = {}
    for parameter in parameters:
        name, separator, value = parameter.partition("=")
        if not separator or name not in _FOR_NODES:
            raise errors.InvalidRequest(
                f"--parameter {parameter}: write NAME=VALUE, NAME is one of "
                f"{', '.join(_FOR_NODES)}; the others say how an image is made, and this one exists"
            )
        pairs[name] = value
    return classes.parse(pairs).node


def _names(choices: persistent_volume.Choices) -> dict[str, str]:
    names = {spec.PV: choices.name}
    if choices.claim:
        names |= {spec.PVC: choices.claim.name, spec.PVC_NAMESPACE: choices.claim.namespace}
    return names


def _question(adopted: Adoption) -> str:
    use = adopted.spec.fs_type or "raw block use"
    return (
        f"this makes image {adopted.image} ({use}) a volume of this driver; no other driver may "
        "use it from then on"
    )


def _next_steps(adopted: Adoption, choices: persistent_volume.Choices) -> Iterator[str]:
    """Yield what remains to be done, a line for each step."""
    yield f"image {adopted.image} is volume {adopted.handle}"
    if old := adopted.volume_name:
        yield (
            f"1. ceph-csi: set PersistentVolume {old} to Retain, keep its YAML for the way back, "
            "and delete it with its claim; ceph-csi would delete the image with it otherwise"
        )
    yield f"{2 if old else 1}. apply the printed PersistentVolume (`kubectl apply -f`)"
    yield (
        f"{3 if old else 2}. make the claim with volumeName: {choices.name}, storageClassName: "
        f'"{choices.storage_class}", and at most '
        f"{persistent_volume.quantity(adopted.size)} of storage"
    )
    if adopted.parent:
        yield (
            f"note: the image is a clone of {adopted.parent}, which must stay: the volume reads "
            "from it (controllers flatten only an image with many ancestors)"
        )
    if adopted.snapshots:
        yield (
            f"note: the image has snapshots (`rbd snap ls {adopted.image}`); if the volume is "
            "deleted, its data stays until they are removed"
        )
