"""Bodies of Attention and FlexAttention: the nodes that they stand for, in ONNX text.

Queries that share a key head are rows of one product, so heads need not be repeated.
"""

from __future__ import annotations

from fornix.dtype import BOOL, FLOAT32, FLOAT64
from fornix.ir.graph import Graph
from fornix.ops.call import BodyNode

CONSTANTS = """
        Zero = Constant <value_ints = [0]> ()
        One = Constant <value_ints = [1]> ()
        Last = Constant <value_ints = [-1]> ()
        Infinite = Constant <value_float = -inf> ()
        Hidden = CastLike (Infinite, WideQ)
"""


def attention_body(*, node: BodyNode) -> str:
    wide = _wide(node)
    counts = ("q_num_heads", "kv_num_heads", "kv_num_heads")
    heads = "".join(map(_heads, [node] * 3, range(3), "QKV", counts))
    present = "\n".join(
        f"Present{name} = "
        + (f"Concat <axis = 2> ({past}, Heads{name})" if node.has(4) else f"Identity (Heads{name})")
        for name, past in (("K", "past_key"), ("V", "past_value"))
    )
    cap = """
        Cap = Constant <value_float: float = @softcap> ()
        Limit = CastLike (Cap, Scores)
        Relative = Div (Scores, Limit)
        Bounded = Tanh (Relative)
        Capped = Mul (Bounded, Limit)"""
    precision = node.attributes.get("softmax_precision")
    stage = ("Scores", "Capped", "Masked", "Weights")[_mode(node)]
    joined = """
        Turned = Transpose <perm = [0, 2, 1, 3]> (Means)
        Flat = Constant <value_ints = [0, 0, -1]> ()
        Joined = Reshape (Turned, Flat)"""
    return f"""
        {heads}
        {present}
        WideQ = Cast <to = {wide}> (HeadsQ)
        WideK = Cast <to = {wide}> (PresentK)
        WideV = Cast <to = {wide}> (PresentV)
        {CONSTANTS}
        {_scores(node)}
        {cap if node.attributes["softcap"] else "Capped = Identity (Scores)"}
        {_seen(node)}
        {_mask(node, wide)}
        {_rounded("Given", "Masked", precision)}
        Shares = Softmax <axis = -1> (Given)
        Top = ReduceMax (Given, Last)
        Blind = IsInf <detect_positive = 0> (Top)
        Origin = Constant <value_float = 0.0> ()
        Nothing = CastLike (Origin, Shares)
        Seeing = Where (Blind, Nothing, Shares)
        {_rounded("Weights", "Seeing", precision)}
        {AVERAGE}
        {joined if _is_flat(node, 0, "q_num_heads") else "Joined = Identity (Means)"}
        Y = CastLike (Joined, Q)
        present_key = Identity (PresentK)
        present_value = Identity (PresentV)
        qk_matmul_output = CastLike ({stage}, Q)
    """


def _wide(node: BodyNode) -> int:
    """The number of the type that scores are computed in."""
    return (FLOAT64 if node.dtype(0) is FLOAT64 else FLOAT32).code


def _mode(node: BodyNode) -> int:
    mode = node.attributes["qk_matmul_output_mode"]
    return mode if isinstance(mode, int) and mode in range(4) else 0


def _is_flat(node: BodyNode, index: int, count: str) -> bool:
    """Whether an input has its heads in the last axis."""
    return (node.rank(index) or (3 if count in node.attributes else 4)) == 3


def _heads(node: BodyNode, index: int, name: str, count: str) -> str:
    if not _is_flat(node, index, count):
        return f"Heads{name} = Identity ({name})\n"
    return f"""
        Division{name} = Constant <value_ints = [0, 0, {node.attributes[count]}, -1]> ()
        Divided{name} = Reshape ({name}, Division{name})
        Heads{name} = Transpose <perm = [0, 2, 1, 3]> (Divided{name})
    """


def _scores(node: BodyNode) -> str:
    """``Scores`` [B, H, S, T], from WideQ and WideK."""
    own = """
        WideSize = CastLike (Size, WideQ)
        Root = Sqrt (WideSize)
        Scale = Reciprocal (Root)"""
    given = """
        Factor = Constant <value_float: float = @scale> ()
        Scale = CastLike (Factor, WideQ)"""
    return f"""
        Size = Shape <start = 3> (WideQ)
        {given if "scale" in node.attributes else own}
        Scaled = Mul (WideQ, Scale)
        Outer = Shape <start = 0, end = 2> (WideK)
        Grouping = Concat <axis = 0> (Outer, Last, Size)
        Together = Reshape (Scaled, Grouping)
        Turn = Transpose <perm = [0, 1, 3, 2]> (WideK)
        Products = MatMul (Together, Turn)
        Queries = Shape <start = 0, end = 3> (WideQ)
        Keys = Shape <start = 2, end = 3> (WideK)
        Form = Concat <axis = 0> (Queries, Keys)
        Scores = Reshape <allowzero = 1> (Products, Form)"""


AVERAGE = """
        Rows = Concat <axis = 0> (Outer, Last, Keys)
        Shared = Reshape (Weights, Rows)
        Sums = MatMul (Shared, WideV)
        Width = Shape <start = 3> (WideV)
        Shape = Concat <axis = 0> (Queries, Width)
        Means = Reshape <allowzero = 1> (Sums, Shape)"""
"""``Means`` [B, H, S, E], from Weights and WideV."""


def _seen(node: BodyNode) -> str:
    """``Unmasked``: the scores, −∞ for keys that the position of a query hides."""
    left, right = (node.attributes.get(f"{side}_window_size", -1) for side in ("left", "right"))
    has_filled = node.has(6)
    limits = ["LessOrEqual (Place, At)"] if node.attributes["is_causal"] else []
    bounds = ""
    if isinstance(left, int) and left >= 0:
        bounds += f"Left = Constant <value_int = {left}> () From = Sub (At, Left)\n"
        limits.append("GreaterOrEqual (Place, From)")
    if isinstance(right, int) and right >= 0:
        bounds += f"Right = Constant <value_int = {right}> () To = Add (At, Right)\n"
        limits.append("LessOrEqual (Place, To)")
    if has_filled:
        limits.append("Less (Place, Filled)")
    if not limits:
        return "Unmasked = Identity (Capped)"
    filled = """
        Batches = Constant <value_ints = [-1, 1, 1, 1]> ()
        Filled = Reshape (nonpad_kv_seqlen, Batches)
        Offset = Sub (Filled, Length)"""
    past = "Offset = Shape <start = 2, end = 3> (past_key)"
    offset = filled if has_filled else past if node.has(4) else "Offset = Identity (Zero)"
    tests = "\n".join(f"Limit{k} = {limit}" for k, limit in enumerate(limits))
    joined = "\n".join(
        f"Seen{k} = And (Seen{k - 1}, Limit{k})" if k else "Seen0 = Identity (Limit0)"
        for k in range(len(limits))
    )
    return f"""
        Start = Constant <value_int = 0> ()
        Next = Constant <value_int = 1> ()
        Length = Shape <start = 2, end = 3> (WideQ)
        Steps = Squeeze (Length)
        Stop = Squeeze (Keys)
        Row = Range (Start, Steps, Next)
        Column = Unsqueeze (Row, One)
        Place = Range (Start, Stop, Next)
        {offset}
        At = Add (Column, Offset)
        {bounds}
        {tests}
        {joined}
        Unmasked = Where (Seen{len(limits) - 1}, Capped, Hidden)"""


def _mask(node: BodyNode, wide: int) -> str:
    """``Masked``: the scores with attn_mask, which hides the keys that it does not reach to."""
    if not node.has(3):
        return "Masked = Identity (Unmasked)"
    is_bool = node.dtype(3) is BOOL
    added = "Masked = Where (Mask, Unmasked, Hidden)"
    if not is_bool:
        added = """
        Hides = IsInf <detect_positive = 0> (Mask)
        Sum = Add (Unmasked, Mask)
        Masked = Where (Hides, Hidden, Sum)"""
    return f"""
        Given0 = {"Identity (attn_mask)" if is_bool else f"Cast <to = {wide}> (attn_mask)"}
        Reached = Shape <start = -1> (Given0)
        Beyond = Sub (Keys, Reached)
        Missing = Max (Beyond, Zero)
        Pads = Concat <axis = 0> (Zero, Missing)
        Fill = {"Constant <value = bool {0}> ()" if is_bool else "Identity (Hidden)"}
        Mask = Pad (Given0, Pads, Fill, Last)
        {added}"""


def _rounded(name: str, source: str, precision: object) -> str:
    if precision is None:
        return f"{name} = Identity ({source})"
    return (
        f"{name}Short = Cast <to = {precision}> ({source}) {name} = CastLike ({name}Short, WideQ)"
    )


OPSET = 28
"""What the nodes of FlexAttention's graphs mean."""


def flex_attention_body(*, node: BodyNode) -> str:
    # Reading text takes a good part of the package, which operators are made without.
    from fornix.ops.body import inlined  # noqa: PLC0415

    steps = {"score_mod": ("Short", "Modified"), "prob_mod": ("Parts", "Chosen")}
    modified = {}
    for name, (given, result) in steps.items():
        graph = node.attributes.get(name)
        modified[name] = (
            inlined(graph, [given], [result])
            if isinstance(graph, Graph)
            else f"{result} = Identity ({given})"
        )
    precision = node.attributes.get("softmax_precision", _wide(node))
    return f"""<domain: "ai.onnx.preview", opset_import: ["": {OPSET}]>
    FlexAttention <prob_mod: graph, scale: float, score_mod: graph, softmax_precision: int>
                  (Q, K, V) => (Y)
    {{
        WideQ = Cast <to = {_wide(node)}> (Q)
        WideK = Cast <to = {_wide(node)}> (K)
        WideV = Cast <to = {_wide(node)}> (V)
        Last = Constant <value_ints = [-1]> ()
        {_scores(node)}
        Short = Cast <to = {precision}> (Scores)
        {modified["score_mod"]}
        WideScores = CastLike (Modified, WideQ)
        Shares = Softmax <axis = -1> (WideScores)
        Parts = Cast <to = {precision}> (Shares)
        {modified["prob_mod"]}
        Weights = CastLike (Chosen, WideQ)
        {AVERAGE}
        Y = CastLike (Means, Q)
    }}
    """
