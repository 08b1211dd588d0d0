"""``fornix set-shape``: other shapes for inputs, and what follows from them."""

from __future__ import annotations

import click

from fornix.errors import InvalidArgument


@click.command("set-shape")
@click.argument("model")
@click.argument("shapes", metavar="INPUT=EXTENTS…", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the model there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def set_shape_command(model: str, *, shapes: tuple[str, ...], output: str, as_json: bool) -> None:
    """Write MODEL with other shapes of its inputs: image=1,3,224,224 or image=N,3,H,W.

    An extent is a number or a name, which stands for any number. The shapes of all other values are
    inferred anew; shapes that MODEL cannot take are refused.
    """
    from fornix.cli.console import progress
    from fornix.cli.written import pairs, write
    from fornix.edit import set_shapes
    from fornix.ir.files import load

    given = {
        name: [_extent(text.strip(), name) for text in extents.split(",")]
        for name, extents in pairs(shapes, "set-shape: input=extents")
    }
    with progress("inferring"):
        changed = set_shapes(load(model), given)
    write(changed, output, as_json=as_json)


def _extent(text: str, name: str) -> int | str:
    if text.isdecimal():
        return int(text)
    if not text.isidentifier():
        raise InvalidArgument(f"{name}: numbers and names of extents are required, found '{text}'")
    return text
