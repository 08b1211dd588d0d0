"""An example of each operator: a small model, what goes in, what comes out.

`examples.txt` holds nodes, inputs and stored values; types of outputs are inferred. A line with the
operator's name is followed by indented ones: ``where`` gives stored values in ONNX text, ``random``
says that results are, ``=>`` gives a result that needs no oracle, ``oracle`` says whom
`tools.op_pages` asks first; ``x: float[2] = [1, 2]`` is an input, everything else a node.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fornix.cli.feeds import from_json
from fornix.errors import FornixError
from fornix.format.files import TEXT, encode
from fornix.format.text import parse_model
from fornix.infer import infer_model
from fornix.ir.graph import Model
from fornix.ir.load import from_message, to_message
from fornix.ops import standard
from fornix.ops.op import Operator
from fornix.reference import ReferenceEvaluator

FILE = Path(__file__).with_name("examples.txt")
OPSETS = {"": 28, "ai.onnx.ml": 5, "ai.onnx.preview": 1, "ai.onnx.preview.training": 1}
"""Versions that the models of examples import."""
IR_VERSION = 13
INPUT = re.compile(r"  (\w+): (.+?) = (.+)")
RANDOM, STORED, KNOWN, ORACLE = "  random", "  where ", "  => ", "  oracle "
DIGITS = 5
"""Significant digits of numbers that are told."""
NOTHING = 1e-9
"""Magnitude below which a number is what rounding leaves of 0."""


@dataclass
class Example:
    """Nodes in ONNX text, and values of the inputs, as JSON, with their types."""

    nodes: list[str] = field(default_factory=list)
    inputs: dict[str, tuple[str, str]] = field(default_factory=dict)
    stored: str = ""
    """Initializers, in ONNX text."""
    known: list[str] = field(default_factory=list)
    """Results that need no oracle."""
    oracle: str = ""
    """Who is asked first."""
    is_random: bool = False
    """Whether only types of results are told."""


@cache
def examples() -> dict[str, Example]:
    """The examples by operator."""
    return read_examples(FILE.read_text(encoding="utf-8"))


def read_examples(text: str) -> dict[str, Example]:
    """The examples in ``text``."""
    found: dict[str, Example] = {}
    current = Example()
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            read_line(line, current)
        else:
            found[line] = current = Example()
    return found


def read_line(line: str, example: Example) -> None:
    """Add what ``line`` says to ``example``."""
    matched = INPUT.fullmatch(line)
    if line == RANDOM:
        example.is_random = True
    elif line.startswith(STORED):
        example.stored = line.removeprefix(STORED)
    elif line.startswith(KNOWN):
        example.known.append(line.removeprefix(KNOWN))
    elif line.startswith(ORACLE):
        example.oracle = line.removeprefix(ORACLE)
    elif matched:
        name, type_, value = matched.groups()
        example.inputs[name] = type_, value
    else:
        example.nodes.append(line.strip())


def model_of(operator: Operator, example: Example) -> Model:
    """The model of an example; an operator that is deprecated is used as it was last."""
    imports = dict(OPSETS)
    newest = operator.schemas[-1]
    if newest.is_deprecated:
        imports[operator.domain] = newest.since_version - 1
    used = {"", operator.domain}
    told = ", ".join(f"{json.dumps(name)}: {imports[name]}" for name in OPSETS if name in used)
    inputs = ", ".join(f"{type_} {name}" for name, (type_, _) in example.inputs.items())
    body = "\n".join(example.nodes)
    head = f"<ir_version: {IR_VERSION}, opset_import: [{told}]>"
    stored = f"<{example.stored}>" if example.stored else ""
    model = from_message(parse_model(f"{head} example ({inputs}) => () {stored} {{ {body} }}"))
    inference = infer_model(model)
    graph = model.graph
    graph.outputs = [v for n in graph.nodes for v in n.outputs if v.name and not v.users]
    for value in graph.outputs:
        value.type = inference.fact(value).type
    return model


def text_of(model: Model) -> str:
    """``model`` in ONNX text."""
    return encode(to_message(model), TEXT).decode().rstrip()


def inputs_text(example: Example) -> str:
    """A line for each input."""
    return "\n".join(f"{name} = {value}" for name, (_, value) in example.inputs.items())


def feeds_of(model: Model, example: Example) -> dict[str, Any]:
    """The values of the inputs."""
    values = {value.name: value for value in model.graph.inputs}
    return {
        name: from_json(json.loads(text), values[name].type)
        for name, (_, text) in example.inputs.items()
    }


def results_text(model: Model, results: list[Any]) -> str:
    """A line for each output."""
    pairs = zip(model.graph.outputs, results, strict=True)
    return "\n".join(f"{value.name} = {json.dumps(plain(result))}" for value, result in pairs)


def types_text(model: Model) -> str:
    """A line for each output, which is random."""
    return "\n".join(f"{value.name}: {value.type}" for value in model.graph.outputs)


def plain(value: Any) -> Any:
    """A result as JSON has it, numbers with few digits."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "biufSUO":
        value = value.astype(np.float64)  # a dtype that NumPy does not have
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and np.isfinite(value):
        value = value if abs(value) > NOTHING else 0.0
        short = float(f"{value:.{DIGITS}g}")
        return int(short) if short == int(short) and abs(short) < 1e6 else short
    return value


def told(operator: Operator) -> dict[str, str]:
    """The example of ``operator``, run now; its parts are empty if there is none."""
    is_standard = standard().get((operator.domain, operator.name)) is operator
    example = examples().get(operator.name) if is_standard else None
    if example is None:
        return {"model": "", "inputs": "", "outputs": ""}
    model = model_of(operator, example)
    return {
        "model": text_of(model),
        "inputs": inputs_text(example),
        "outputs": types_text(model) if example.is_random else run(model, example),
    }


def run(model: Model, example: Example) -> str:
    """What the NumPy kernels give, or what they lack to do so."""
    try:
        results = ReferenceEvaluator(model).run(None, feeds_of(model, example))
    except FornixError as error:
        return str(error)
    return results_text(model, results)
