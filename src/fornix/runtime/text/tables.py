"""What machine code does of nodes that speak of texts, instead of their NumPy kernels.

Decides which nodes have such a way, and makes the tables that it needs from their attributes. What
is not as the code expects, texts of other classes for example, is left to the kernels, and so is
everything where Python's objects are not laid out as it expects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fornix.compile.text import routines as words
from fornix.compile.text.calls import Crowded, Grams, Keys, TextCall, first_words, text_call
from fornix.dtype import FLOAT32, FLOAT64, STRING
from fornix.ir.attribute import Attribute, plain_attributes
from fornix.ir.graph import Node
from fornix.ir.types import MapType, TensorType
from fornix.ops.text_classes import ASCII, word_class
from fornix.runtime.feeds import are_texts
from fornix.runtime.links import Array, ArrayType, Link, LinkedWay
from fornix.runtime.providers import Kernel, OwnWay, Run, TextCode, Way

PARTS, ML = "fornix.parts", "ai.onnx.ml"
FOUND = {
    ("", "RegexFullMatch"), ("", "StringSplit"),
    ("com.microsoft", "MurmurHash3"), ("com.microsoft", "Tokenizer"),
}  # fmt: skip
"""What looks through texts: see `finding`."""
ROOM = 1 << 14
"""Characters of a text that is copied, and words of one whose n-grams are counted, at most."""


def _is_of_texts(node: Node) -> bool:
    """Whether what a node reads first is texts."""
    return getattr(getattr(node.inputs[0], "type", None), "dtype", None) is STRING


def text_family(node: Node) -> str:
    """The family of the machine code that may do what ``node`` says; empty if there is none."""
    if (node.domain, node.op_type) == ("", "TfIdfVectorizer"):
        return "grams"
    if (node.domain, node.op_type) == ("", "Cast"):
        return _of_cast(node)
    if (node.domain, node.op_type) in FOUND:
        return "finding"
    has_way = (node.domain, node.op_type) in _WAYS
    is_meant = _NOT_ALWAYS.get(node.op_type)
    return "keys" if has_way and (is_meant is None or is_meant(node)) else ""


def _of_cast(node: Node) -> str:
    """The family of code between texts and floats, or whole numbers."""
    types = [getattr(v.type, "dtype", None) for v in (node.inputs[0], node.outputs[0]) if v]
    if STRING not in types:
        return ""
    return "numbers" if not {FLOAT32, FLOAT64}.isdisjoint(types) else "finding"


def _is_naming(node: Node) -> bool:
    """Whether a Gather gives stored texts by their numbers."""
    names = node.inputs[0]
    known = None if names is None else names.type
    is_list = isinstance(known, TensorType) and known.shape is not None and len(known.shape) == 1
    is_stored = names is not None and names.constant is not None
    return is_stored and is_list and getattr(known, "dtype", None) is STRING


def text_way(node: Node, code: TextCode, kernel: Kernel | None) -> Way | None:
    """What does the work of ``node``; None if its kernel has to."""
    is_stored = all(value is None or value.constant is not None for value in node.inputs)
    if kernel is None or is_stored or not first_words():
        return None  # ways read what a run computes
    try:
        return _way(node, code, kernel)
    except Crowded:  # the kernel's tables are Python's
        return None


def _way(node: Node, code: TextCode, kernel: Kernel) -> Way | None:
    """The same of a node that reads what a run computes; raises Crowded."""
    if (node.domain, node.op_type) in FOUND:
        from fornix.runtime.text.finding import found_way  # noqa: PLC0415 - reads expressions

        return found_way(node, code)
    if (node.domain, node.op_type) == ("", "Cast"):
        from fornix.runtime.text.numbers import cast_way  # noqa: PLC0415 - few nodes cast texts

        return cast_way(node, code, kernel)
    if (node.domain, node.op_type) == ("", "TfIdfVectorizer"):
        from fornix.runtime.text.grams import gram_way  # noqa: PLC0415 - few nodes count

        return gram_way(node, code)
    make = _WAYS.get((node.domain, node.op_type))
    return None if make is None else make(node, code, kernel)


class TextTable:
    """A table, with what it points to."""

    def __init__(self, task: int, code: TextCode) -> None:
        self.words = np.array(first_words(), np.int64)
        self.words[words.TASK] = task
        self.kept: list[object] = [code.owner]
        self._address = code.address

    def put(self, word: int, array: Array) -> None:
        """Let a word be the address of an array."""
        self.kept.append(array)
        self.words[word] = array.ctypes.data

    def call(self) -> TextCall:
        """The function; whoever calls it keeps this table."""
        return text_call(self.words, self._address)

    def link(self, rows: int, result: ArrayType | None, *, makes: bool = False) -> Link:
        """The function as a link, for so many rows."""
        table = self.words.copy()
        table[words.IS_LINKED], table[words.ROWS] = 1, rows
        places = words.FROM, words.TO, words.PLACE, words.ROWS
        return Link(table, self._address, result, makes, self, *places)


def attributes_of(node: Node) -> dict[str, Any]:
    given: Mapping[str, Attribute] = node.attributes
    return {**plain_attributes(given, {})}


def _numbering(node: Node, code: TextCode, _: Kernel) -> Way:
    table, keys = TextTable(words.NUMBER, code), Keys(attributes_of(node)["keys"])
    keys.write(table.words)
    table.kept.append(keys)
    return _Numbering(table)


class _Numbering(LinkedWay):
    """Texts to the numbers of their keys."""

    def __init__(self, table: TextTable) -> None:
        self.table, self.call = table, table.call()

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        texts = given[0]
        found = self.call([texts, np.empty(texts.shape, np.int64)])
        return None if found is None else [found]

    def link(self, read: ArrayType | None) -> Link | None:
        if read is None or not read[1].hasobject:
            return None
        return self.table.link(math.prod(read[0]), (read[0], np.dtype(np.int64)))


def _dropping(node: Node, code: TextCode, _: Kernel) -> Way | None:
    given = attributes_of(node)
    folds: dict[str, Callable[[str], str] | None]
    folds = {"NONE": None, "LOWER": str.lower, "UPPER": str.upper}
    action = given.get("case_change_action", "NONE")
    stopwords = given.get("stopwords") or []
    if not stopwords or action not in folds:
        return None
    compares = None if given.get("is_case_sensitive", 0) else str.lower
    table = TextTable(words.NUMBER, code)
    keys = Keys(stopwords if compares is None else list(map(compares, stopwords)))
    keys.write(table.words)
    table.kept.append(keys)
    return _Dropping(table, compares, folds[action])


class _Dropping(OwnWay):
    """Texts that are no stop words, in another case if asked."""

    def __init__(
        self,
        table: TextTable,
        compares: Callable[[str], str] | None,
        gives: Callable[[str], str] | None,
    ) -> None:
        """What is done to a text before it is compared, and to one that is left."""
        self.table, self.call = table, table.call()
        self.compares, self.gives = compares, gives
        self.count = int(table.words[words.COUNT])

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        texts = given[0]
        if texts.ndim not in {1, 2} or (texts.ndim > 1 and texts.shape[0] != 1):
            return None
        compared = texts
        if self.compares is not None:
            try:
                listed = list(map(self.compares, texts.reshape(-1).tolist()))
            except TypeError:
                return None
            compared = np.fromiter(listed, object, texts.size).reshape(texts.shape)
        numbers = self.call([compared, np.empty(texts.shape, np.int64)])
        if numbers is None:
            return None
        is_same = self.gives is None or self.gives is self.compares
        kept = (texts if self.gives is not self.compares else compared)[numbers == self.count]
        if not is_same and self.gives is not None:
            kept = np.fromiter(map(self.gives, kept.tolist()), object, kept.size)
        if not kept.size:
            kept = np.array([""], object)
        return [kept.reshape(*texts.shape[:-1], kept.size)]


def _mapping(node: Node, code: TextCode, _: Kernel) -> Way | None:
    attributes = attributes_of(node)
    labels = attributes.get("classlabels_strings") or attributes.get("classlabels_int64s")
    if not labels or labels != sorted(set(labels)):
        return None
    table = TextTable(words.MAKE_MAPS, code)
    table.kept.append(labels)
    table.put(words.NAMES, np.array([id(label) for label in labels], np.int64))
    table.words[words.WIDTH] = len(labels)
    return _Mapping(table, len(labels))


class _Mapping(LinkedWay):
    """Rows of numbers to dictionaries."""

    def __init__(self, table: TextTable, width: int) -> None:
        self.table, self.width, self.call = table, width, table.call()

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        rows = given[0]
        if rows.ndim != 2 or rows.shape[1] != self.width or not rows.flags.carray:
            return None
        return [self.call([rows])]

    def link(self, read: ArrayType | None) -> Link | None:
        if read is None or read[0][1:] != (self.width,) or read[1] != np.float32:
            return None
        return self.table.link(read[0][0], None, makes=True)


def _naming(_: Node, code: TextCode, kernel: Kernel) -> Way | None:
    value = kernel.inputs[0]
    names = None if value is None else kernel.constants.get(value)
    if names is None or not are_texts(names):
        return None
    table, listed = TextTable(words.NAME, code), names.tolist()
    table.kept.append(listed)
    table.put(words.NAMES, np.array([id(name) for name in listed], np.int64))
    table.words[words.COUNT] = len(listed)
    return _Naming(table)


class _Naming(LinkedWay):
    """Numbers to the names that they stand for."""

    def __init__(self, table: TextTable) -> None:
        self.table, self.call = table, table.call()

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        (numbers,) = given
        if numbers.dtype != np.int64 or not numbers.flags.carray:
            return None
        found = self.call([numbers, np.empty(numbers.shape, object)])
        return None if found is None else [found]

    def link(self, read: ArrayType | None) -> Link | None:
        if read is None or read[1] != np.int64:
            return None
        return self.table.link(math.prod(read[0]), (read[0], np.dtype(object)))


def _vectorizing(node: Node, code: TextCode, _: Kernel) -> Way | None:
    read, given = node.inputs[0], attributes_of(node)
    known = None if read is None else read.type
    value = known.value if isinstance(known, MapType) else None
    dtype = value.dtype if isinstance(value, TensorType) else None
    vocabulary = given.get("string_vocabulary") or given.get("int64_vocabulary")
    if dtype not in {FLOAT32, FLOAT64} or not vocabulary:
        return None
    table = TextTable(words.VECTORIZE, code)
    places: dict[str | int, list[int]] = {}
    for place, word in enumerate(vocabulary):
        places.setdefault(word, []).append(place)
    if len(places) < len(vocabulary):
        return None
    found = {word: place for word, (place,) in places.items()}
    table.kept.append(found)
    table.words[words.KEYS] = id(found)
    table.words[words.KEY_CLASS] = id(type(vocabulary[0]))
    table.words[words.WIDTH] = len(vocabulary)
    table.words[words.IS_WIDE] = dtype is FLOAT64
    return _Vectorizing(table, ((1, len(vocabulary)), dtype.numpy))


class _Vectorizing(LinkedWay):
    """Values of a map to a row."""

    def __init__(self, table: TextTable, result: ArrayType) -> None:
        self.table, self.result, self.call = table, result, table.call()

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        if type(given[0]) is not dict:
            return None
        found = self.call([given[0], np.empty(*self.result)])
        return None if found is None else [found]

    def link(self, read: ArrayType | None) -> Link | None:
        return self.table.link(1, self.result, makes=True) if read is None else None


def _counting(node: Node, code: TextCode, kernel: Kernel) -> Way | None:
    table = TextTable(words.COUNT_WORDS, code)
    return _Counting(kernel, table) if _tell_words(node, table) else None


def _tell_words(node: Node, table: TextTable) -> bool:
    """Write what words of ``node`` are, and which are listed; whether code can find them."""
    from fornix.ops.text import pooled  # noqa: PLC0415 - other ways do without operators

    given = attributes_of(node)
    found = word_class(given.get("tokenexp"), given.get("separators"))
    lists = pooled(given["pool_strings"], given["ngram_counts"], given["ngram_indexes"])
    lengths = range(given["min_gram_length"], given["max_gram_length"] + 1)
    chosen = [n for n, gram in enumerate(lists) if len(gram) in lengths]
    is_known = found is not None and given["case_change_action"] in _FOLDS
    if found is None or not is_known or not chosen or not all(all(gram) for gram in lists):
        return False
    action, fold = _FOLDS[given["case_change_action"]]
    indexes = given["ngram_indexes"]
    grams = Grams([[*map(str, lists[n])] for n in chosen], [indexes[n] for n in chosen])
    keys = Keys([*map(str, grams.words)])
    keys.write(table.words)
    table.kept += [keys, grams]
    fixed = {
        words.SINGLE: int(found.is_single),
        words.LEAST: max(found.least, given["mincharnum"]),
        words.FOLD: action,
        words.FOLDS: id(fold),
        words.LAST_STEP: -1 if grams.is_dense else len(grams.steps) - 1,
        words.WIDTH: max(indexes) + 1,
        words.LONGEST: max(len(lists[n]) for n in chosen),
        words.APART: given["max_skip_count"] + 1,
        words.ROOM: ROOM,
    }
    for word, number in fixed.items():
        table.words[word] = number
    letters = [fold(chr(code)) for code in range(ASCII)]
    classes = [found.entries[ord(letter)] for letter in letters] + [found.entries[ASCII]]
    table.put(words.CLASSES, np.array(classes, np.uint8))
    singles = [grams.words.get(letter, len(grams.words)) for letter in letters]
    table.put(words.SINGLES, np.array(singles, np.int64))
    table.put(words.STEPS, grams.steps)
    table.put(words.PLACES, grams.places)
    table.put(words.IDS, np.zeros(ROOM, np.int64))
    narrow, copied = np.zeros(ROOM + 16, np.uint8), np.zeros(4 * ROOM + 16, np.uint8)
    table.kept += [narrow, copied]
    table.words[words.NARROW] = narrow.ctypes.data + 8  # eight bytes ahead of a text are read
    table.words[words.COPIED] = copied.ctypes.data + 8
    table.put(words.SEEN, np.zeros(max(indexes) + 2, np.int64))
    return True


_FOLDS: dict[str, tuple[int, Callable[[str], str]]] = {
    "LOWER": (words.LOWERED, str.lower), "UPPER": (words.RAISED, str.upper), "NONE": (0, str)
}  # fmt: skip
"""What is said to code, and done to a text, for each way to change its case."""


class _Counting(OwnWay):
    """Texts to counts of their words; those that code leaves are counted by the kernel."""

    def __init__(self, kernel: Kernel, table: TextTable) -> None:
        self.table, self.call = table, table.call()
        self.width = int(table.words[words.WIDTH])
        self.kernel = kernel

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        texts = given[0]
        counts = np.zeros((texts.size, self.width), np.float32)
        left = np.empty(texts.size + 1, np.int64)
        if self.call([texts, counts, None, left]) is None:
            return None
        if left[0]:
            rows = left[1 : left[0] + 1]
            counts[rows] = self.kernel.call([texts.reshape(-1)[rows]])[0]
        return [counts]


def _multiplying(node: Node, code: TextCode, kernel: Kernel) -> Way | None:
    table = TextTable(words.MULTIPLY, code)
    scale, weights = (None if v is None else kernel.constants.get(v) for v in kernel.inputs[1:])
    if scale is None or weights is None or not _tell_words(node, table):
        return None
    table.put(words.SCALE, np.ascontiguousarray(scale))
    table.put(words.WEIGHTS, np.ascontiguousarray(weights))
    table.put(words.COUNTS, np.zeros(int(table.words[words.WIDTH]) + 1, np.float32))
    table.words[words.OUTPUTS] = weights.shape[1]
    table.words[words.NORM] = node.attr("norm")
    return _Multiplying(kernel, table)


class _Multiplying(OwnWay):
    """Texts to products of the counts of their words, and the sizes of rows of counts."""

    def __init__(self, kernel: Kernel, table: TextTable) -> None:
        self.table, self.call = table, table.call()
        self.outputs = int(table.words[words.OUTPUTS])
        self.kernel = kernel

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        texts = given[0]
        products, sizes = np.zeros((texts.size, self.outputs)), np.zeros((texts.size, 1))
        left = np.empty(texts.size + 1, np.int64)
        if self.call([texts, products, sizes, left]) is None:
            return None
        if left[0]:
            rows = left[1 : left[0] + 1]
            stored = [self.kernel.constants[v] for v in self.kernel.inputs[1:] if v is not None]
            products[rows], sizes[rows] = self.kernel.call([texts.reshape(-1)[rows], *stored])
        return [products, sizes]


def _telling_apart(node: Node, code: TextCode, _: Kernel) -> Way:
    from fornix.runtime.text.distinct import Distinct  # noqa: PLC0415 - few models have it

    return Distinct(node, code)


_WAYS: dict[tuple[str, str], Callable[[Node, TextCode, Kernel], Way | None]] = {
    (PARTS, "Numbered"): _numbering,
    (PARTS, "WordCounts"): _counting,
    (PARTS, "WordProduct"): _multiplying,
    (ML, "DictVectorizer"): _vectorizing,
    (ML, "ZipMap"): _mapping,
    ("", "Gather"): _naming,
    ("", "StringNormalizer"): _dropping,
    ("", "Unique"): _telling_apart,
}
_NOT_ALWAYS: dict[str, Callable[[Node], bool]] = {"Gather": _is_naming, "Unique": _is_of_texts}
"""Operators that have code for texts alone, and what tells whether a node is about these."""
