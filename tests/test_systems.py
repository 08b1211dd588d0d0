"""Sessions where the system is another: what Linux has and others lack is taken away.

A process of its own imports its packages, which know what they run on, and only then forgets it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

IMPORTS = """
import ctypes, io, json, mmap, multiprocessing, os, pathlib, platform, resource, signal, subprocess
import sys, tempfile, threading
import click, google.protobuf.message, llvmlite.binding, ml_dtypes, numpy as np, rich.console

open_file = io.open

def without(module, *names):
    for name in names:
        vars(module).pop(name, None)

def only_files(path, *arguments, **options):
    if str(path).startswith(("/proc", "/sys")):
        raise FileNotFoundError(path)
    return open_file(path, *arguments, **options)

io.open = only_files
without(os, "sched_getaffinity", "sched_setaffinity", "process_cpu_count", "posix_fadvise")
"""
MACOS = """
sys.platform = "darwin"
platform.system, platform.machine = lambda: "Darwin", lambda: "arm64"
"""
WINDOWS = """
sys.platform = "win32"
platform.system, platform.machine = lambda: "Windows", lambda: "AMD64"
system = ctypes.CDLL(None)
class Kernel:
    SwitchToThread, Sleep = system.sched_yield, system.usleep
ctypes.windll = type("Dlls", (), {"kernel32": Kernel})
def one_library(name, *arguments, **options):
    raise TypeError("on Windows a library has a name")
ctypes.CDLL = one_library
os.supports_dir_fd = frozenset()
without(
    os, "fork", "register_at_fork", "fchmod", "pread", "preadv", "pwrite", "getuid", "geteuid",
    "getloadavg", "sysconf", "statvfs", "fstatvfs", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY",
    "O_NONBLOCK",
)
without(signal, "pthread_sigmask", "sigpending", "sigwait", "SIGPIPE", "SIGKILL", "SIGALRM")
without(mmap, *[name for name in dir(mmap) if name.startswith(("MADV", "MAP_", "PROT_"))])
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
"""
WORK = """
import fornix
from fornix import onnx

folder = pathlib.Path(sys.argv[1])
weights = ", ".join(["0.5"] * 4096)
message = onnx.parser.parse_model(f'''<ir_version: 10, opset_import: ["" : 21]>
    f (float[N, 64] x) => (float[N, 64] y) <float[64, 64] w = {{{weights}}}> {{
        p = MatMul (x, w)
        y = Relu (p)
    }}''')
onnx.save(message, folder / "whole.onnx")
fornix.save(fornix.load(folder / "whole.onnx"), folder / "apart.onnx", external_data="w.bin")
options = fornix.SessionOptions(intra_op_num_threads=3)
for name in ("whole.onnx", "apart.onnx", "whole.onnx"):
    session = fornix.InferenceSession(folder / name, options)
    for n in (1, 3, 20_000, 3):
        x = np.full((n, 64), 2, np.float32)
        (y,) = session.run(None, {"x": x})
        assert y.shape == (n, 64) and (y == 64).all()
    assert all(not place.reason for place in session.placement())
    session.profile({"x": x}, 1)
    session.shrink()
assert not fornix.check(folder / "apart.onnx")
assert list((folder / "cache").iterdir())
print("as it should")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="takes away what Linux has")
@pytest.mark.parametrize("system", [MACOS, WINDOWS], ids=["macOS", "Windows"])
def test_sessions_run_where_the_system_lacks_what_linux_has(system: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(IMPORTS + system + WORK, encoding="utf-8")
    environment = os.environ | {"FORNIX_CACHE": str(tmp_path / "cache")}
    run = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(tmp_path)],
        env=environment, capture_output=True, encoding="utf-8", check=False, timeout=100,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "as it should"
