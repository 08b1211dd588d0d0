"""Where programs of bodies are kept: on the shelf of the program around them.

Decides when two processes speak of the same body: it stands at the same place in the same program,
and its nodes, stored data and what it is fed are the same. Names of values are not asked, which
are new ones wherever a body is read again. For which extents a body was compiled is kept beside, so
that the next process need not meet them twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from fornix.compile.disk import NOTE
from fornix.ir.clone import Flattener, Record
from fornix.ir.dim import Dim, DimLike, symbol
from fornix.ir.graph import Graph, Model, Node
from fornix.ir.tensor import Stored, Tensor

if TYPE_CHECKING:
    from fornix.runtime.stored.content import Content
    from fornix.runtime.stored.shelf import Shelf

Form: TypeAlias = tuple[tuple[DimLike, ...], ...]

MAX_BYTES = 64 << 20
"""Of the stored data that a body holds itself, beyond which looking at all of them takes long."""
MAX_FORMS = 4
"""Sets of extents for which programs of a body are kept."""
STORED = "stored "
"""What names of stored data begin with that a body has from outside."""


class BodyPlace:
    """The place of one body's programs."""

    def __init__(self, shelf: Shelf, name: str) -> None:
        """``name`` tells the body from others in the program that ``shelf`` is for."""
        self.shelf, self.name = shelf, name

    @staticmethod
    def of(shelf: Shelf, node: Node, graph: Graph, nodes: Iterable[Node]) -> BodyPlace:
        """That of ``graph``, which ``node`` holds, one of the ``nodes`` of a program."""
        holders = [other for other in nodes if other.graphs]
        return BodyPlace(shelf, f"body {holders.index(node)} {node.graphs.index(graph)}")

    @staticmethod
    def of_node(shelf: Shelf, node: Node, nodes: Iterable[Node]) -> BodyPlace:
        """That of calls of ``node``, one of the ``nodes`` of a program, bodies and all."""
        holders = [other for other in nodes if other.graphs]
        return BodyPlace(shelf, f"call {holders.index(node)}")

    def told(self, model: Model, question: str, answer: Callable[[], list[Any] | None]) -> Any:
        """The ``answer`` to a question about ``model``, a body, as JSON gives it.

        The next process does not look for it again, unless it is None.
        """
        found = digest_of(model, self.shelf.content)
        if found is None:
            return answer()
        text = f"{self.shelf.name} {self.name} {found} {question}"
        name = "b" + hashlib.sha256(text.encode()).hexdigest()[:40]
        note = self.shelf.disk.read(name, NOTE)
        if note is not None:
            return json.loads(bytes(note))
        made = answer()
        if made is not None:
            self.shelf.disk.write(name, json.dumps(made).encode(), NOTE)
        return made

    def shelf_for(self, model: Model) -> Shelf | None:
        """The place of the program of ``model``, the body for what it is fed; None for large ones.

        Its inputs have their types.
        """
        found = digest_of(model, self.shelf.content)
        return None if found is None else self.shelf.within(f"{self.name} {found}")

    def forms(self, kinds: Sequence[object]) -> list[Form]:
        """For which extents of values of these ``kinds`` there are programs."""
        found = self.shelf.disk.read(self._note_name(kinds), NOTE)
        return [] if found is None else [_form_of(note) for note in json.loads(bytes(found))]

    def note(self, kinds: Sequence[object], form: Form) -> None:
        """Keep that there is a program for ``form``."""
        forms = self.forms(kinds)
        if form in forms or len(forms) == MAX_FORMS:
            return
        text = json.dumps([*map(_form_note, forms), _form_note(form)])
        self.shelf.disk.write(self._note_name(kinds), text.encode(), NOTE)

    def _note_name(self, kinds: Sequence[object]) -> str:
        text = f"{self.shelf.name} {self.name} {[str(kind) for kind in kinds]}"
        return "b" + hashlib.sha256(text.encode()).hexdigest()[:40]


def _form_note(form: Form) -> list[list[int | str]]:
    """Extents as JSON knows them: numbers, and names of symbols."""
    return [[str(d.name) if isinstance(d, Dim) else d for d in shape] for shape in form]


def _form_of(note: Sequence[Sequence[int | str]]) -> Form:
    return tuple(tuple(symbol(d) if isinstance(d, str) else d for d in shape) for shape in note)


def digest_of(model: Model, content: Content) -> str | None:
    """What tells ``model``, a body, from others; None if it holds more data than are worth it."""
    tables = Flattener(model).tables()
    fed = {*tables.graphs[0]["inputs"]}
    own: list[Tensor] = []

    def stored(tensor: Any, name: str | None = None) -> object:
        """What tells stored data from others: where they lie in the model's files, or what."""
        if not isinstance(tensor, Stored):
            return tensor
        data = cast("Tensor", tensor)  # all that is stored is one
        place = content.place(getattr(data, "place", None)) if name else None
        own.extend([] if place else [data])
        return data.dtype.name, data.shape, place

    def value(number: int, record: Record) -> object:
        name = record["name"]
        type_ = str(record["declared_type"]) if number in fed else ""
        is_outer = name is not None and name.startswith(STORED)
        return name == "", type_, stored(record["tensor"], name if is_outer else None)

    def attribute(record: tuple[Any, ...]) -> object:
        key, _, kind, held, ref, *_ = record
        parts = held if isinstance(held, list) else [held]
        return key, kind, [stored(part) for part in parts], ref

    def node(record: Record) -> object:
        named = (record[key] for key in ("domain", "op_type", "overload", "inputs", "outputs"))
        return *named, sorted(map(attribute, record["attributes"]), key=str)

    text = repr((
        [value(number, record) for number, record in enumerate(tables.values)],
        [_graph(record, map(node, record["nodes"])) for record in tables.graphs],
        sorted(tables.root["opset_imports"].items()),
        [_function(record, attribute) for record in tables.root["functions"]],
    ))  # fmt: skip
    if sum(tensor.nbytes for tensor in own) > MAX_BYTES:
        return None
    sha = hashlib.sha256(text.encode())
    for tensor in own:
        sha.update(_bytes_of(tensor))
    return sha.hexdigest()


def _graph(record: Record, nodes: Iterable[object]) -> object:
    return record["inputs"], record["initializers"], list(nodes), record["outputs"]


def _function(record: Record, attribute: Any) -> object:
    named = (record[key] for key in ("domain", "name", "overload", "attributes", "graph"))
    imports: Mapping[str, int] = record["opset_imports"]
    return *named, sorted(imports.items()), [attribute(entry) for entry in record["defaults"]]


def _bytes_of(tensor: Tensor) -> bytes:
    array = tensor.numpy()
    return repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
