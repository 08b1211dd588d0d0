from __future__ import annotations

import random
import re
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

import fornix
from fornix.check import Finding, Severity, check_model
from fornix.errors import ValidationError
from fornix.format.limits import Limits
from fornix.format.messages import ModelProto, TensorProto
from fornix.format.text import parse_model
from fornix.ir.calls import expanded_nodes
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.load import from_message
from fornix.ir.message_tensor import MessageTensor
from fornix.ir.tensor import ArrayTensor, SparseTensor
from fornix.ir.types import TensorType

DIGITS = Path(fornix.__file__).parent / "demo" / "digits.onnx"


def findings(text: str) -> list[str]:
    return [str(finding) for finding in check_model(from_message(parse_model(text)))]


def main(body: str, *, ir: int = 10, imports: str = '"": 21', ends: str = "") -> str:
    ends = ends or "(float[N, 3] x) => (float[N, 3] y)"
    return f"<ir_version: {ir}, opset_import: [{imports}]> main {ends} {{ {body} }}"


BROKEN = {
    "unknown operator": (
        main("[n] y = Rellu(x)"),
        [
            (
                "node 'n' (Rellu, opset 21): an operator of domain 'ai.onnx' is required, "
                "found 'Rellu'; did you mean 'Relu'?"
            )
        ],
    ),
    "operator of another domain": (
        main("[n] y = Scaler<scale = [1.0]>(x)", imports='"": 21, "ai.onnx.ml": 3'),
        [
            (
                "node 'n' (Scaler, opset 21): domain 'ai.onnx' has no such operator, "
                "domain 'ai.onnx.ml' has"
            )
        ],
    ),
    "operator newer than the opset": (
        main("[n] y = Gelu(x)", imports='"": 19'),
        ["node 'n' (Gelu, opset 19): Gelu: needs ai.onnx opset 20 or newer, the model imports 19"],
    ),
    "too many inputs": (
        main("[n] y = Relu(x, x)"),
        ["node 'n' (Relu, opset 21): Relu-14 takes 1 inputs, found 2"],
    ),
    "several unknown attributes": (
        main("[n] y = Softmax<axiss = 1, foo = 2>(x)"),
        [
            (
                "node 'n' (Softmax, opset 21): Softmax-13 has the attributes axis, found 'axiss'; "
                "did you mean 'axis'?"
            ),
            "node 'n' (Softmax, opset 21): Softmax-13 has the attributes axis, found 'foo'",
        ],
    ),
    "wrong kind of attribute": (
        main("[n] y = Softmax<axis = 1.5>(x)"),
        ["node 'n' (Softmax, opset 21): Softmax-13: attribute axis is int, found float"],
    ),
    "attribute of the wrong kind that a rule stumbles over": (
        main(
            "[c] y = If<then_branch = 1, else_branch = e () => (z) { z = Relu(x) }>(b)",
            ends="(float[2] x, bool b) => (float[2] y)",
        ),
        ["node 'c' (If, opset 21): If-21: attribute then_branch is graph, found int"],
    ),
    "sequence of nothing in particular": (
        main("[n] y = Relu(x)").replace("float[N, 3] x", "seq(float) x"),
        ["node 'n' (Relu, opset 21): X is seq("],
    ),
    "missing attribute": (
        main("[n] y = Cast(x)"),
        ["node 'n' (Cast, opset 21): Cast-21: attribute to is required, found none"],
    ),
    "undefined value": (
        main("[n] y = Relu(xx)"),
        [
            (
                "node 'n' (Relu): input 0 'xx' has to be defined, found nothing of that name; "
                "did you mean 'x'?"
            )
        ],
    ),
    "value defined twice": (
        main("[a] z = Relu(x) [b] z = Abs(x) [c] y = Neg(z)"),
        [
            (
                "node 'b' (Abs): 'z' has to be the only value of that name, found another in "
                "node 'a' (Relu)"
            )
        ],
    ),
    "use ahead of definition": (
        main("[b] y = Relu(z) [a] z = Abs(x)"),
        [
            (
                "node 'b' (Relu): input 0 'z' has to be defined ahead of its use, found behind it "
                "node 'a' (Abs); use fornix.ir.order.sort"
            )
        ],
    ),
    "cycle": (
        main("[a] z = Add(x, w) [b] w = Relu(z) [c] y = Abs(w)"),
        ["found the cycle node 'a' (Add) ← node 'b' (Relu) ← node 'a' (Add)"],
    ),
    "output that nothing makes": (
        main("[a] z = Relu(x)"),
        ["graph 'main': output 'y' has to be defined, found nothing of that name"],
    ),
    "contradicting shapes": (
        main("[n] y = MatMul(x, x)", ends="(float[2, 3] x) => (float[2, 3] y)"),
        ["node 'n' (MatMul, opset 21): "],
    ),
    "contradicting types": (
        main("[n] y = Add(x, i)", ends="(float[2] x, int64[2] i) => (float[2] y)"),
        [
            (
                "node 'n' (Add, opset 21): B is int64[2], but another input of the same type T is "
                "float32[2]; they must agree"
            )
        ],
    ),
    "type that the schema lacks": (
        main("[n] y = Gelu(x)", ends="(int64[2] x) => (int64[2] y)"),
        ["node 'n' (Gelu, opset 21): X is int64[2], but Gelu-20 allows tensor(bfloat16)"],
    ),
    "declared otherwise than inferred": (
        main("[n] y = Relu(x)", ends="(float[2] x) => (float[3] y)"),
        ["node 'n' (Relu, opset 21): 'y' is declared float32[3], but inferred float32[2]"],
    ),
    "no opset import for the domain": (
        main("[n] y = ai.onnx.ml.Scaler<offset = [1.0], scale = [1.0]>(x)"),
        [
            (
                "node 'n' (ai.onnx.ml.Scaler): an opset import for domain 'ai.onnx.ml' is "
                "required, found none"
            )
        ],
    ),
    "opset of the future": (
        main("[n] y = Relu(x)", imports='"": 1000'),
        ["model: an opset of ai.onnx from 1 to 28 is required, found 1000"],
    ),
    "IR version of the future": (
        main("[n] y = Relu(x)", ir=99),
        ["model: an IR version from 1 to 14 is required, found 99"],
    ),
    "no opset import at all": (
        main("[n] y = Relu(x)", imports=""),
        [
            "model: an opset import is required, found none",
            "node 'n' (Relu): an opset import for domain 'ai.onnx' is required, found none",
        ],
    ),
    "short payload": (
        main(
            "[n] y = Add(x, w)", ends="(float[3] x) => (float[3] y) <float[3] w = {1, 2, 3}>"
        ).replace("{1, 2, 3}", "{1, 2}"),
        ["initializer 'w'"],
    ),
    "reference outside of a function": (
        main("[n] y = Softmax<axis: int = @axis>(x)"),
        [
            (
                "node 'n' (Softmax, opset 21): attribute axis refers to 'axis' of a function, "
                "but stands in none"
            )
        ],
    ),
    "inside a branch": (
        main(
            "[c] y = If<then_branch = t () => (z) { [n] z = Rellu(x) }, "
            "else_branch = e () => (z) { z = Relu(q) }>(b)",
            ends="(float[2] x, bool b) => (float[2] y)",
        ),
        [
            "node 'c' (If), else_branch, node for 'z' (Relu): input 0 'q' has to be defined",
            "node 'c' (If), then_branch, node 'n' (Rellu, opset 21): an operator of domain",
        ],
    ),
}


@pytest.mark.parametrize(("text", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_each_breach_of_the_standard_is_told_with_its_place(text: str, expected: list[str]) -> None:
    found = findings(text)
    for start in expected:
        assert any(line.startswith(start) or start in line for line in found), found
    errors = [x for x in check_model(from_message(parse_model(text))) if x.severity == "error"]
    assert errors


# What onnx's checker lets pass.
LENIENT = {"opset of the future", "reference outside of a function"}


@pytest.mark.parametrize("name", [name for name in BROKEN if name not in LENIENT])
def test_onnx_rejects_the_same_models(name: str) -> None:
    message = onnx.ModelProto.FromString(parse_model(BROKEN[name][0]).SerializeToString())
    with pytest.raises(Exception):  # noqa: B017 - it has many kinds of them
        onnx.checker.check_model(message, full_check=True)


FUNCTION = """
<ir_version: 10, opset_import: ["": 21, "my": 1]>
main (float[N] x) => (float[N] y) { %s }
<opset_import: ["": 21, "my": 1], domain: "my">
F <alpha> (a) => (b) { [inner] b = LeakyRelu<alpha: float = @%s>(%s) }
"""


def test_a_function_that_is_called_as_declared_has_no_findings() -> None:
    assert findings(FUNCTION % ("y = my.F<alpha = 0.5>(x)", "alpha", "a")) == []


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            ("[c] y = my.F(x)", "alpha", "a"),
            "node 'c' (my.F, opset 1): function 'my.F': attribute alpha is required, found none",
        ),
        (
            ("[c] y = my.F<alpha = 1.0, alhpa = 2>(x)", "alpha", "a"),
            (
                "node 'c' (my.F, opset 1): function 'my.F' has the attributes alpha, "
                "found 'alhpa'; did you mean 'alpha'?"
            ),
        ),
        (
            ("[c] y = my.F<alpha = 1.0>(x, x)", "alpha", "a"),
            "node 'c' (my.F, opset 1): function 'my.F' has 1 inputs, found 2",
        ),
        (
            ("[c] y, z = my.F<alpha = 1.0>(x)", "alpha", "a"),
            "node 'c' (my.F, opset 1): function 'my.F' has 1 outputs, found 2",
        ),
        (
            ("[c] y = my.F<alpha = 1.0>(x)", "beta", "a"),
            (
                "function 'my.F', node 'inner' (LeakyRelu, opset 21): attribute alpha refers to "
                "'beta', which function 'my.F' does not have"
            ),
        ),
        (
            ("[c] y = my.F<alpha = 1.0>(x)", "alpha", "q"),
            (
                "function 'my.F', node 'inner' (LeakyRelu): input 0 'q' has to be defined, found "
                "nothing of that name"
            ),
        ),
    ],
)
def test_calls_are_held_to_the_function(parts: tuple[str, str, str], expected: str) -> None:
    assert any(line.startswith(expected) for line in findings(FUNCTION % parts))


def test_functions_that_call_each_other_are_told_with_the_chain() -> None:
    text = """
    <ir_version: 10, opset_import: ["": 21, "my": 1]>
    main (float[N] x) => (float[N] y) { y = my.F(x) }
    <opset_import: ["my": 1], domain: "my"> F (a) => (b) { b = my.G(a) }
    <opset_import: ["my": 1], domain: "my"> G (a) => (b) { b = my.F(a) }
    """
    assert findings(text) == ["function 'my.F': a function must not call itself, found F → G → F"]


def test_two_functions_of_one_name_are_told() -> None:
    text = FUNCTION % ("y = my.F<alpha = 0.5>(x)", "alpha", "a")
    text += '<opset_import: ["": 21], domain: "my"> F <alpha> (a) => (b) { b = Relu(a) }'
    assert "function 'my.F': one function of that name is required, found 2" in findings(text)


def test_an_attribute_that_is_declared_twice_is_told() -> None:
    model = from_message(parse_model(FUNCTION % ("y = my.F<alpha = 0.5>(x)", "alpha", "a")))
    model.functions[0].attributes.append("alpha")
    assert "function 'my.F': attribute alpha is declared 2 times" in map(str, check_model(model))


@pytest.mark.parametrize("name", ["alpha", "beta"])
@pytest.mark.parametrize("node", ["LeakyRelu", "my.F"])
def test_an_attribute_that_a_node_has_twice_is_told_by_its_name(node: str, name: str) -> None:
    call = f"y = {node}<alpha = 0.5, {name} = 1.0, {name} = 2.0>(x)"
    told = findings(FUNCTION % (call, "alpha", "a"))
    assert any(f"one attribute {name!r} is required, found another" in x for x in told)
    assert not any("x00" in x for x in told)


def test_a_function_without_a_name_is_told() -> None:
    model = from_message(parse_model(FUNCTION % ("y = Relu(x)", "alpha", "a")))
    model.functions[0].name = ""
    assert "function 'my.': a name is required, found none" in map(str, check_model(model))


def test_functions_that_multiply_are_stopped_by_their_limit() -> None:
    steps = "".join(
        f'<opset_import: ["my": 1], domain: "my"> F{i} (a) => (b) '
        f"{{ c = my.F{i + 1}(a) b = my.F{i + 1}(c) }}"
        for i in range(40)
    )
    text = f"""
    <ir_version: 10, opset_import: ["": 21, "my": 1]>
    main (float[N] x) => (float[N] y) {{ y = my.F0(x) }} {steps}
    <opset_import: ["": 21], domain: "my"> F40 (a) => (b) {{ b = Relu(a) }}
    """
    (found,) = findings(text)
    assert found.startswith("model: function_nodes is limited to 10000000, found ")


def test_a_long_chain_of_functions_is_counted_at_once() -> None:
    count = 3000  # many seconds if each round finds one function
    functions = "".join(
        f'<opset_import: ["": 21, "my": 1], domain: "my"> F{i} (a) => (b) {{ b = {name}(a) }}'
        for i, name in enumerate([*(f"my.F{i + 1}" for i in range(count)), "Relu"])
    )
    text = f"""
    <ir_version: 10, opset_import: ["": 21, "my": 1]>
    main (float[N] x) => (float[N] y) {{ y = my.F0(x) }} {functions}
    """
    model = from_message(parse_model(text))
    start = time.process_time()
    assert expanded_nodes(model) == count + 2
    assert time.process_time() - start < 2


def test_an_operator_of_an_unknown_domain_is_a_warning() -> None:
    text = main("[n] y = com.acme.Fast(x)", imports='"": 21, "com.acme": 1')
    (found,) = check_model(from_message(parse_model(text)))
    assert found == Finding(
        Severity.WARNING,
        "node 'n' (com.acme.Fast, opset 1)",
        "the standard has no such operator, the model no such function, "
        "and nobody has registered one",
    )


def test_a_deprecated_operator_is_a_warning() -> None:
    text = main(
        "[n] y = Scatter(x, i, u)",
        imports='"": 11',
        ends="(float[3] x, int64[1] i, float[1] u) => (float[3] y)",
    )
    (found,) = check_model(from_message(parse_model(text)))
    assert found.severity is Severity.WARNING
    assert str(found).startswith(
        "node 'n' (Scatter, opset 11): Scatter is deprecated since opset 11"
    )


def test_ends_without_types_are_told() -> None:
    x, y = Value("x"), Value("y", TensorType(None))
    node = Node("", "Relu", [x], [y], name="n")
    model = Model(Graph("main", [x], [y], [node]), {"": 21}, 10)
    assert [str(finding) for finding in check_model(model)] == [
        "input 'x': a type is required, found none",
        "output 'y': an element type is required, found none",
        "output 'y': its rank is not declared",
    ]


def test_extents_below_zero_are_a_warning() -> None:
    text = main("y = Relu(x)").replace("N, 3", "-1, 3")
    assert "input 'x': axis 0 is declared -1, which stands for none" in findings(text)


def test_versions_before_imports_and_free_initializers_are_held_to_their_rules() -> None:
    ends = "(float[1] x) => (float[1] y) <float[1] w = {1}>"
    found = findings(main("y = Add(x, w)", ir=2, ends=ends))
    assert "model: opset imports need IR version 3 or newer, found 2" in found
    assert "initializer 'w': before IR version 4 it has to be an input as well" in found


def test_a_model_older_than_opset_imports_is_one_of_opset_1() -> None:
    assert findings(main("y = Relu(x)", ir=2, imports="")) == []


def test_stored_tensors_are_held_to_their_dims() -> None:
    message = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], raw_data=b"1234")
    model = from_message(parse_model(main("y = Identity(x)")))
    model.graph.add_initializer(MessageTensor(message))
    (found,) = check_model(model)
    assert found.subject == "initializer 'w'"
    assert "12 bytes" in found.message


def test_a_damaged_tensor_is_told_once_however_often_it_is_read() -> None:
    message = TensorProto(name="w", data_type=TensorProto.INT64, dims=[1], raw_data=b"1234")
    model = from_message(parse_model(main("y = Identity(x)")))
    weight = model.graph.add_initializer(MessageTensor(message))
    node = Node("", "Expand", [model.graph.inputs[0], weight], ["z"])
    model.graph.append(node)
    (found,) = check_model(model)
    assert found.subject == "initializer 'w'"


def test_tensors_of_attributes_are_held_to_their_dims() -> None:
    short = TensorProto(data_type=TensorProto.FLOAT, dims=[3], raw_data=b"1234")
    node = Node("", "Constant", (), ["y"], {"value": MessageTensor(short)}, name="c")
    node.output.type = TensorType(fornix.load(DIGITS).graph.inputs[0].type.dtype, (3,))  # type: ignore[union-attr] # a tensor
    model = Model(Graph("main", (), node.outputs, [node]), {"": 21}, 10)
    assert any(
        finding.subject == "node 'c' (Constant), attribute value" for finding in check_model(model)
    )


def test_a_tensor_of_an_attribute_has_an_element_type() -> None:
    model = parse_model(main("c = Constant <value = float[1] {1}>() y = Add(x, c)"))
    model.graph.node[0].attribute[0].t.data_type = 64
    found = [str(x) for x in check_model(from_message(model)) if x.severity is Severity.ERROR]
    assert any("attribute value: " in x and "found 64" in x for x in found)


def test_sparse_tensors_are_checked_without_being_made_dense() -> None:
    huge = SparseTensor(
        ArrayTensor(np.ones(1, np.float32), "s"), ArrayTensor(np.array([2**40])), (2**20, 2**19)
    )
    model = from_message(parse_model(main("y = Identity(x)")))
    model.graph.add_initializer(huge)
    (found,) = check_model(model)
    assert found.subject == "initializer 's'"


def test_tensors_above_the_limit_are_told() -> None:
    model = fornix.load(DIGITS)
    found = check_model(model, limits=Limits(tensor_bytes=60_000))
    assert [finding.subject for finding in found] == []
    found = check_model(model, limits=Limits(tensor_bytes=1000))
    assert "initializer 'digit_weight'" in [finding.subject for finding in found]


def test_a_part_that_breaks_down_is_a_finding() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no way")

    (found,) = check_model(fornix.load(DIGITS), parts=[fail])
    assert str(found) == "fornix: fail could not be completed: RuntimeError: no way"


def test_check_raises_with_every_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnxtxt"
    path.write_text(main("[a] z = Rellu(x) [b] y = Abs(x, x)"), encoding="utf-8")
    with pytest.raises(ValidationError) as caught:
        fornix.check(path)
    head, *lines = str(caught.value).splitlines()
    assert head == f"{path}: 2 errors found"
    assert [line.split("'")[1] for line in lines] == ["a", "b"]


def test_check_takes_paths_models_and_messages_and_returns_warnings() -> None:
    message = onnx.load(DIGITS)
    for model in (DIGITS, str(DIGITS), fornix.load(DIGITS), message):
        assert fornix.check(model) == []
    message.graph.input[0].type.tensor_type.ClearField("shape")
    assert [str(x) for x in fornix.check(message)] == ["input 'image': its rank is not declared"]


def test_one_error_is_called_one() -> None:
    with pytest.raises(ValidationError, match=re.escape("model: 1 error found\n  node 'n'")):
        fornix.check(parse_model(main("[n] y = Rellu(x)")))


def test_the_room_and_the_function_go_by_one_name() -> None:
    import fornix.check as room

    assert room.check_model is check_model
    assert fornix.check(DIGITS) == []


def test_no_damaged_model_makes_the_checker_fail() -> None:
    texts = [text for text, _ in BROKEN.values()]
    texts.append(FUNCTION % ("y = my.F<alpha = 0.5>(x)", "alpha", "a"))
    originals = [parse_model(text).SerializeToString() for text in texts]
    choose = random.Random(0)
    loaded = 0
    for _ in range(2000):
        data = bytearray(choose.choice(originals))
        for _ in range(choose.randint(1, 4)):
            data[choose.randrange(len(data))] = choose.randrange(256)
        try:
            model = from_message(ModelProto.FromString(bytes(data)))
        except Exception:  # noqa: BLE001, S112 - reading has its own fuzzing
            continue
        loaded += 1
        assert not [x for x in check_model(model) if x.subject == "fornix"]
    assert loaded > 200


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the oracle computes its data as it collects them
def test_the_standards_own_node_models_have_no_errors() -> None:
    from onnx.backend.test.case.node import collect_testcases

    cases = [case for case in collect_testcases(None) if case.model is not None]
    assert len(cases) > 1500
    wrong = {
        f"{case.name}: {finding}"
        for case in cases
        for finding in check_model(from_message(case.model))
        if finding.severity is Severity.ERROR
    }
    assert wrong == set()


def test_attributes_say_of_what_type_they_are_since_ir_version_2() -> None:
    message = parse_model(main("[n] y = Softmax<axis = 0>(x)"))
    message.graph.node[0].attribute[0].ClearField("type")
    told = [str(finding) for finding in check_model(from_message(message))]
    assert told == [
        "node 'n' (Softmax), attribute axis: a type is required, found none; it holds int"
    ]
    message.ir_version = 1
    message.ClearField("opset_import")
    assert not [f for f in check_model(from_message(message)) if "a type is" in str(f)]


def test_an_opaque_type_has_a_name() -> None:
    ends = "(opaque() x, seq(opaque()) s, opaque(d, n) z, float f) => (float y)"
    told = findings(main("y = Relu(f)", ends=ends))
    missing = "a name is required of an opaque type, found none"
    assert told == [f"input 'x': {missing}", f"input 's': {missing}"]


def test_a_misspelt_function_is_suggested() -> None:
    text = """
    <ir_version: 10, opset_import: ["": 21, "my": 1]>
    main (float[N] x) => (float[N] y) { y = my.Swich(x) }
    <opset_import: ["": 21], domain: "my"> Swish (a) => (b) { b = Relu(a) }
    """
    (found,) = check_model(from_message(parse_model(text)))
    assert str(found).endswith("nobody has registered one; did you mean 'Swish'?")
