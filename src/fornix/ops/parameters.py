"""Parameters of Python functions, and what a signature has to do with them.

Rules take inputs by position and attributes by keyword. `signature_of` reads a signature off a
function, `check_parameters` holds a function to one, so that a mistake shows where it is made.
"""

from __future__ import annotations

import inspect
import json
from inspect import Parameter

from fornix.errors import SchemaError
from fornix.ops.op import Rule
from fornix.ops.schema import UNBOUNDED, Schema

KINDS = {
    "int": "int", "bool": "int", "float": "float", "str": "string",
    "list[int]": "ints", "list[float]": "floats", "list[str]": "strings",
    "ndarray": "tensor", "np.ndarray": "tensor",
}  # fmt: skip
"""Kinds of attributes by the annotation of a parameter."""


def signature_of(name: str, function: Rule) -> str:
    """The signature of an operator whose inputs, attributes and output are those of ``function``.

    Positional parameters are inputs, each of a type variable of its own; keyword-only ones are
    attributes; the output is of the first input's type. Raises SchemaError for a parameter that
    says too little.
    """
    parameters = parameters_of(function)
    if parameters is None:
        raise SchemaError(f"{name}: a signature with inputs and outputs is required, found none")
    inputs: list[str] = []
    attributes: list[str] = []
    for parameter in parameters:
        if parameter.kind is Parameter.KEYWORD_ONLY:
            attributes.append(_attribute(parameter, name))
        elif parameter.kind is Parameter.VAR_KEYWORD:
            raise SchemaError(f"{name}: attributes need names, found **{parameter.name}")
        else:
            suffix = "" if parameter.default is Parameter.empty else "?"
            suffix = "*" if parameter.kind is Parameter.VAR_POSITIONAL else suffix
            inputs.append(f"{parameter.name}: T{len(inputs) + 1}{suffix}")
    middle = f" <{', '.join(attributes)}>" if attributes else ""
    return f"{name}{middle} ({', '.join(inputs)}) => (output: T1)"


def _attribute(parameter: Parameter, name: str) -> str:
    note, default = parameter.annotation, parameter.default
    has_default = default not in (Parameter.empty, None)
    if note is Parameter.empty:
        note = type(default) if has_default else ""
    text = note if isinstance(note, str) else getattr(note, "__name__", "")
    text = str(note) if str(note).startswith("list[") else text
    kind = KINDS.get(text.removesuffix("| None").strip())
    if kind is None:
        raise SchemaError(
            f"{name}: attribute {parameter.name} needs an annotation, one of {', '.join(KINDS)}, "
            f"found {text or 'none'}"
        )
    if not has_default:
        return f"{parameter.name}: {kind}{'?' if default is None else ''}"
    value = json.dumps(int(default) if isinstance(default, bool) else default)
    return f"{parameter.name}: {kind} = {value}"


def check_parameters(function: Rule, schema: Schema, kind: str) -> None:
    """Raise SchemaError unless ``function`` can be called as the rules of ``schema`` are."""
    if parameters_of(function) is None:
        return
    attributes = schema.attributes.values()
    always = {x.name: None for x in attributes if x.is_required or x.default is not None}
    counts = {schema.min_input, min(schema.max_input, len(schema.inputs) + 2 * _varies(schema))}
    node = {"node": None} if "node" in inspect.signature(function).parameters else {}
    for count in counts:
        for given in (always, dict.fromkeys(schema.attributes)):
            try:
                inspect.signature(function).bind(*[None] * count, **given, **node)
            except TypeError as error:
                raise SchemaError(_told(function, schema, kind, error)) from None


def _told(function: Rule, schema: Schema, kind: str, error: TypeError) -> str:
    inputs = ", ".join(formal.name for formal in schema.inputs) or "none"
    attributes = ", ".join(schema.attributes) or "none"
    return (
        f"{schema.domain}::{schema.name}-{schema.since_version}: its {kind} rule must take the "
        f"inputs ({inputs}) by position and the attributes ({attributes}) by keyword, those that "
        f"may be left out with a default, found {getattr(function, '__name__', 'a function')}"
        f"{inspect.signature(function)}: {error}"
    )


def _varies(schema: Schema) -> bool:
    return schema.max_input == UNBOUNDED


def parameters_of(function: Rule) -> list[Parameter] | None:
    """The parameters of ``function`` but ``node``; None if Python does not know them."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [parameter for parameter in found if parameter.name != "node"]
