from __future__ import annotations

import struct

import numpy as np
import pytest

from fornix.compile.image import MappedCode, image_of
from fornix.compile.kernel import KERNEL
from fornix.compile.link import compile_object
from fornix.compile.target import Target
from fornix.system import is_mappable

pytestmark = pytest.mark.skipif(not is_mappable(), reason="images are for Linux")

TEXT = """
@table = private constant [4 x i64] [i64 11, i64 22, i64 33, i64 44]
define i64 @NAME(ptr %args, ptr %syms, ptr %scratch, i64 %chunk, i64 %chunks) {
  %place = getelementptr i64, ptr @table, i64 %chunk
  %found = load i64, ptr %place
  %given = load <2 x double>, ptr %args, align 8
  %scaled = fmul <2 x double> %given, <double 2.5, double 3.5>
  store <2 x double> %scaled, ptr %args, align 8
  ret i64 %found
}"""
X86 = pytest.mark.skipif(not Target.host().is_x86, reason="the format is known for x86-64")


def objects(*names: str) -> dict[str, bytes]:
    return {name: compile_object(TEXT.replace("NAME", name), Target.host()) for name in names}


@X86
def test_mapped_code_finds_its_constants_wherever_it_lies() -> None:
    image = image_of(objects("first", "second"))
    assert image is not None
    for code in (MappedCode(image), MappedCode(image)):
        for address in code.addresses.values():
            data = np.ones(2)
            assert KERNEL(address)(data.ctypes.data, None, None, 2, 4) == 33
            np.testing.assert_array_equal(data, [2.5, 3.5])


FUSED = """
declare double @fma(double, double, double)
define i64 @fused(ptr %args, ptr %syms, ptr %scratch, i64 %chunk, i64 %chunks) {
  %x = load double, ptr %args
  %y = call double @fma(double %x, double %x, double -1.0)
  store double %y, ptr %args
  ret i64 0
}"""


@X86
def test_mapped_code_calls_what_older_processors_lack() -> None:
    image = image_of({"fused": compile_object(FUSED, Target.host())})
    assert image is not None
    code = MappedCode(image)
    data = np.array([1 + 2.0**-30])
    assert KERNEL(code.addresses["fused"])(data.ctypes.data, None, None, 0, 1) == 0
    assert data[0] == 2.0**-29 + 2.0**-60  # rounded twice, the last bit would be lost


@X86
def test_objects_that_need_others_have_no_image() -> None:
    text = """declare i64 @getpid()
    define i64 @caller(ptr %a, ptr %b, ptr %c, i64 %d, i64 %e) {
      %found = call i64 @getpid()
      ret i64 %found
    }"""
    assert image_of({"caller": compile_object(text, Target.host())}) is None
    assert image_of(objects("first") | {"other": b"MZ and so on"}) is None


@X86
def test_an_object_of_another_machine_has_no_image() -> None:
    file = bytearray(objects("first")["first"])
    struct.pack_into("<H", file, 18, 183)  # AArch64
    assert image_of({"first": bytes(file)}) is None
    assert image_of({"misnamed": objects("first")["first"]}) is None
