"""The command ``fornix``: one module per subcommand.

Nothing but click is imported until a subcommand runs, so that ``fornix --help`` answers at once.
How errors become messages and exit codes is decided in `command`.
"""

from __future__ import annotations

import click

from fornix import __version__
from fornix.cli.bench import bench_command
from fornix.cli.check import check_command
from fornix.cli.command import EPILOG, Commands
from fornix.cli.compare import compare_command
from fornix.cli.compile import compile_command
from fornix.cli.demo import demo_command
from fornix.cli.explain import explain_command
from fornix.cli.extract import extract_command
from fornix.cli.info import info_command
from fornix.cli.inline import inline_command
from fornix.cli.merge import merge_command
from fornix.cli.operators import load_operators
from fornix.cli.ops import ops_command
from fornix.cli.optimize import optimize_command
from fornix.cli.outline import outline_command
from fornix.cli.rename import rename_command
from fornix.cli.run import run_command
from fornix.cli.set_shape import set_shape_command
from fornix.cli.split import join_command, split_command
from fornix.cli.text import text_command

__all__ = ["main"]


@click.group(
    "fornix",
    cls=Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="fornix %(version)s")
@click.option(
    "--traceback",
    is_flag=True,
    envvar="FORNIX_TRACEBACK",
    help="Show Python's traceback of errors; so does FORNIX_TRACEBACK=1.",
)
@click.option(
    "--import",
    "imported",
    metavar="FILE",
    multiple=True,
    help="Run this Python file, or import this module, which registers operators of your own.",
)
def main(*, traceback: bool, imported: tuple[str, ...]) -> None:  # noqa: ARG001 - see `command`
    """Read, check, explain, optimize and run ONNX models.

    MODEL is a file in any format of ONNX: protobuf (.onnx, .pb), text (.onnxtxt), textproto
    (.txtpb, .textproto …) or JSON (.json, .onnxjson); or a compiled model (.fnx). Every command
    takes --json, which prints one JSON document whose keys stay the same between releases.
    """
    for name in imported:
        load_operators(name)


for command in (
    run_command,
    bench_command,
    check_command,
    info_command,
    ops_command,
    optimize_command,
    compile_command,
    explain_command,
    compare_command,
    demo_command,
    text_command,
    extract_command,
    merge_command,
    rename_command,
    set_shape_command,
    outline_command,
    inline_command,
    split_command,
    join_command,
):
    main.add_command(command)
