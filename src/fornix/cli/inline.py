"""``fornix inline``: functions replaced by what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fornix.errors import InvalidArgument

if TYPE_CHECKING:
    from fornix.ir.graph import Model, Node


@click.command("inline")
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the model there.")
@click.option(
    "--only",
    "names",
    metavar="NAME",
    multiple=True,
    help="A function or operator to replace: Gelu, my.domain.Block1.",
)
@click.option("--operators", is_flag=True, help="Replace operators that others define, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inline_command(
    model: str, output: str, *, names: tuple[str, ...], operators: bool, as_json: bool
) -> None:
    """Write MODEL with the bodies of its functions in the place of their calls.

    All of them, or those that --only names. An operator that the standard defines by others, such
    as Gelu, is replaced if --only names it, or with --operators. Bodies of another opset are
    converted where that is possible; other calls stay.
    """
    from fornix.cli.console import progress
    from fornix.cli.written import write
    from fornix.ir.files import load
    from fornix.passes.bodies import bodies_of
    from fornix.passes.inline import inline_functions
    from fornix.version import convert_function

    with progress("inlining"):
        changed = load(model)
        require_known(changed, names)

        def is_chosen(node: Node) -> bool:
            return not names or bool({node.op_type, f"{node.domain}.{node.op_type}"} & {*names})

        find = bodies_of(changed, is_chosen, convert_function, operators=operators or bool(names))
        inline_functions(changed, body_of=find)
    write(changed, output, as_json=as_json)


def require_known(model: Model, names: tuple[str, ...]) -> None:
    """Raise InvalidArgument for a name that no node has as its operator."""
    from fornix.ir.walk import nodes

    used = {name for x in nodes(model) for name in (x.op_type, f"{x.domain}.{x.op_type}")}
    for name in names:
        if name not in used:
            raise InvalidArgument(
                f"inline: a function or operator that the model uses is required, found {name!r}"
            )
