"""`check_model` and `check`: every part of the checker, in order, on one model.

What is checked stands in the modules of this room, one part each. Here stands that no model that
can be loaded makes the checker fail: a part that cannot go on becomes a finding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from fornix.check.besides import check_besides
from fornix.check.finding import Finding, Findings, Severity
from fornix.check.functions import check_functions
from fornix.check.header import check_header
from fornix.check.names import check_names
from fornix.check.nodes import check_nodes
from fornix.check.tensors import check_tensors
from fornix.check.types import check_types
from fornix.check.versions import check_versions
from fornix.errors import ValidationError
from fornix.format.limits import DEFAULT, Limits
from fornix.format.messages import ModelProto
from fornix.ir.files import load
from fornix.ir.graph import Model
from fornix.ir.load import from_message

Source = Model | ModelProto | str | os.PathLike[str]
"""What can be checked; also a model message of the `onnx` package."""

Part = Callable[[Model, Findings, Limits], None]

PARTS: tuple[Part, ...] = (
    check_header,
    check_functions,
    check_names,
    check_nodes,
    check_tensors,
    check_besides,
    check_versions,
    check_types,
)


def check_model(
    model: Model, *, limits: Limits = DEFAULT, parts: Sequence[Part] = PARTS
) -> list[Finding]:
    """Everything that is wrong with ``model``, and what is right but should be known."""
    findings = Findings()
    for part in parts:
        try:
            part(model, findings, limits)
        except Exception as error:  # noqa: BLE001 - whatever a model provokes is a finding
            told = f"{part.__name__} could not be completed: {type(error).__name__}: {error}"
            findings.error("fornix", told)
    return findings.all


def check(
    model: Source, *, limits: Limits = DEFAULT, parts: Sequence[Part] = PARTS
) -> list[Finding]:
    """The warnings about a model, given as a path, a message or as IR.

    Raises ValidationError with every error, a line each, if the model breaks the standard as far as
    ``parts`` look.
    """
    label = "model"
    if isinstance(model, str | os.PathLike):
        label = os.fspath(model)
        model = load(model, limits=limits)
    elif not isinstance(model, Model):
        model = from_message(model, limits=limits)
    findings = check_model(model, limits=limits, parts=parts)
    errors = [str(finding) for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise ValidationError("\n  ".join([f"{label}: {count} found", *errors]))
    return findings
