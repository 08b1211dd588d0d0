"""How the command line fails: errors become one line on stderr and an exit code.

0    done; of `fornix check`: nothing found
1    the model is at fault: findings, or it cannot be read or run
2    the command line is: unknown options, missing files, inputs that do not fit the model
3    fornix is: an unexpected error
130  interrupted from the keyboard
141  the reader of the output went away
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import IO, Any, TextIO

import click

from fornix.errors import FornixError, FornixWarning, InvalidArgument, NoSuchFile

MODEL, USAGE, DEFECT, INTERRUPTED, CLOSED = 1, 2, 3, 130, 141

EPILOG = f"""Exit codes: 0 done, nothing found; {MODEL} the model has errors or cannot be read or
run; {USAGE} wrong usage, missing files, or inputs that do not fit; {DEFECT} a defect of fornix;
{INTERRUPTED} interrupted.

Plain output when stdout is not a terminal; NO_COLOR and FORCE_COLOR are respected."""


class Failure(click.ClickException):
    """An error that is told in one line: ``fornix: message``."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = exit_code  # click declares it for classes only

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it on stderr."""
        click.echo(f"fornix: {printable(self.message)}", file=file, err=file is None)


class Commands(click.Group):
    """The subcommands in their own order, with the exit codes of this module."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; raises `Failure` for what goes wrong in it."""
        for stream in (sys.stdout, sys.stderr):
            never_fail_to_encode(stream)
        try:
            with warnings.catch_warnings():
                warnings.showwarning = show_warning
                result = super().invoke(ctx)
                sys.stdout.flush()
                return result
        except (click.ClickException, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            leave_stdout()
            ctx.exit(CLOSED)
        except Exception as error:
            if ctx.params.get("traceback"):
                raise
            raise failure(error) from error


def failure(error: Exception) -> Failure:
    """What is told of ``error``."""
    if isinstance(error, NoSuchFile | InvalidArgument):
        return Failure(str(error), USAGE)
    if isinstance(error, FornixError):
        return Failure(str(error), MODEL)
    if isinstance(error, MemoryError):
        return Failure("the memory of this machine does not suffice", MODEL)
    if isinstance(error, OSError) and error.filename is not None:
        return Failure(f"{os.fspath(error.filename)}: {error.strerror}", USAGE)
    return Failure(
        f"unexpected {type(error).__name__}: {error}; this is a defect of fornix, "
        "`fornix --traceback …` shows where",
        DEFECT,
    )


def printable(text: str) -> str:
    """``text`` with control characters escaped: what a model says must not steer a terminal."""
    return "".join(x if x.isprintable() or x == "\n" else ascii(x)[1:-1] for x in text)


def never_fail_to_encode(stream: TextIO) -> None:
    """Let ``stream`` print "?" for what its encoding does not have."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def show_warning(
    message: Warning | str,
    category: type[Warning],
    *_place: object,
    **_more: object,
) -> None:
    """Print a warning of fornix; those of other packages are not for users of the command."""
    if issubclass(category, FornixWarning):
        click.echo(f"fornix: warning: {printable(str(message))}", err=True)


def leave_stdout() -> None:
    """Let the interpreter flush what is left into nothing: nobody reads it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
