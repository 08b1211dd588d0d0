"""Runs with options of their own: what they are called, who may end them, where they log."""

from __future__ import annotations

import logging

from fornix.errors import InvalidArgument
from fornix.runtime.logs import logger
from fornix.runtime.options import RunOptions
from fornix.runtime.providers import Run


class Watched:
    """A run with options of its own."""

    def __init__(self, options: RunOptions, label: str, log: logging.Logger) -> None:
        if not isinstance(options, RunOptions):
            raise InvalidArgument(
                "InferenceSession.run: run_options must be fornix.RunOptions, "
                f"found {type(options).__module__}.{type(options).__name__}"
            )
        self.options = options
        self.label = f"{options.logid}: {label}" if options.logid else label
        self.log = logger(options.log_severity_level, log)

    def is_ended(self) -> bool:
        """Whether somebody wants the run to end."""
        return self.options.terminate

    def observe(self, *_: object) -> None:
        """Called after each node that runs its NumPy kernel."""
        Run({}, (), self.is_ended).check()
