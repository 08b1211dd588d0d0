from __future__ import annotations

from collections.abc import Sequence

from fornix.compile.emit.builder import Builder, flatten


def text(builder: Builder) -> str:
    return "\n".join(flatten(builder.root))


def test_what_a_level_has_computed_is_not_written_again() -> None:
    builder = Builder()
    first = builder.put(0, "mul nsw i64 %a, 3")
    assert builder.put(0, "mul nsw i64 %a, 3") == first
    assert builder.put(0, "mul nsw i64 %b, 3") != first
    assert text(builder).count("mul") == 2


def test_memory_is_read_anew() -> None:
    builder = Builder()
    first = builder.put(0, "load i64, ptr %p")
    builder.do("store i64 1, ptr %p")
    assert builder.put(0, "load i64, ptr %p") != first


def test_extremes_that_llvm_computes_are_written_once() -> None:
    builder = Builder()
    given = ("i64", "%a"), ("i64", "16")
    found = {builder.call(0, "i64", "llvm.smin.i64", *given) for _ in range(2)}
    assert len(found) == 1


def test_a_loop_does_not_give_its_values_to_what_follows_it() -> None:
    builder = Builder()
    inside: list[str] = []

    def turn(_: str, __: list[str]) -> Sequence[str]:
        inside.append(builder.put(1, "add i64 %a, 1"))
        return []

    builder.loop("0", "8", 1, [], turn, is_sure=False)
    assert builder.put(0, "add i64 %a, 1") not in inside


def test_what_is_written_in_front_of_a_loop_serves_behind_it() -> None:
    builder = Builder()
    outside: list[str] = []

    def turn(_: str, __: list[str]) -> Sequence[str]:
        outside.append(builder.put(0, "add i64 %a, 1"))
        return []

    builder.loop("0", "%n", 1, [], turn, is_sure=False)
    assert [builder.put(0, "add i64 %a, 1")] == outside
    written = text(builder)
    assert written.index("%a, 1") < written.index("br i1")
