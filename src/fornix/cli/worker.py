"""One engine in a process of its own: it loads a model, runs it when told, says how long it took.

Decides how each engine is set up; `contest` decides what runs when. It is run as a script, by its
path, and imports nothing of fornix unless fornix is the engine: memory and the time of the import
are the engine's own. Reads one JSON object per line from stdin and answers with one on stdout.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

Feeds = dict[str, Any]
Job = Mapping[str, Any]
Run = Callable[[], Sequence[Any]]

QUIET_STEP = 0.01
"""Seconds between two looks at the processor time of this process."""

QUIET_SHARE = 0.1
"""Share of a processor below which the engine's threads count as asleep."""

QUIET_LIMIT = 1.0
"""Seconds after which an engine that never sleeps is left alone."""


def main() -> None:
    """Answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # engines that print must not answer
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, f"do_{request['do']}")(request)
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is told, not fatal
            answer = told(error)
        send(answers, answer)


def send(stream: TextIO, answer: Mapping[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()


def told(error: Exception) -> dict[str, Any]:
    """``error`` in one line; whether the engine is missing."""
    missing = isinstance(error, ModuleNotFoundError)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    why = next((x for x in lines if not x.endswith(":")), lines[0])  # OpenVINO's come last
    return {"error": f"{type(error).__name__}: {why[:300]}", "missing": missing}


class Worker:
    """The state of this process: the engine, one loaded model, and its outputs."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.run: Run = tuple

    def do_import(self, request: Job) -> dict[str, Any]:
        """Import the engine: its version and the seconds that took."""
        begin = time.perf_counter()
        self.engine = ENGINES[request["engine"]](request["threads"])
        return {"seconds": time.perf_counter() - begin, "version": self.engine.version}

    def do_load(self, request: Job) -> dict[str, Any]:
        """Load the model and run it once; the seconds of both."""
        engine = self.loaded()
        feeds = read_feeds(request)
        begin = time.perf_counter()
        engine.load(request)
        middle = time.perf_counter()
        how = request.get("chain")
        self.run = Chain(engine, feeds, request["outputs"], how) if how else engine.bind(feeds)
        self.run()
        return {"create": middle - begin, "first": time.perf_counter() - middle}

    def do_run(self, request: Job) -> dict[str, Any]:
        """Run for some seconds, ``warm`` runs before; processor seconds of the whole turn."""
        busy = time.process_time()
        for _ in range(request["warm"]):
            self.run()
        times: list[int] = []
        gc.collect()
        gc.disable()
        run = self.run
        now = time.perf_counter_ns()
        end = now + request["seconds"] * 1e9
        while not times or (now < end and len(times) < request["limit"]):
            start = time.perf_counter_ns()
            run()
            now = time.perf_counter_ns()
            times.append(now - start)
        gc.enable()
        self.sleep()
        return {"times": [t * 1e-9 for t in times], "busy": time.process_time() - busy}

    def do_save(self, request: Job) -> dict[str, Any]:
        """Write the outputs of one more run to a file, in order; their names."""
        engine = self.loaded()
        if isinstance(self.run, Chain):
            self.run.restart()
        found: dict[str, np.ndarray] = {}
        for name, value in zip(request["outputs"], self.run(), strict=True):
            found |= plain(name, engine.array(value))
        np.savez(request["path"], *found.values(), allow_pickle=False)
        return {"outputs": list(found)}

    def do_memory(self, _request: Job) -> dict[str, Any]:
        """The largest resident memory of this process so far, in bytes."""
        return {"peak": peak_memory()}

    def loaded(self) -> Engine:
        if self.engine is None:
            raise RuntimeError("an engine must be imported first")
        return self.engine

    def sleep(self) -> None:
        """Wait until no thread of this process is at work: some pools spin after a run."""
        limit = time.perf_counter() + QUIET_LIMIT
        while time.perf_counter() < limit:
            busy = time.process_time()
            time.sleep(QUIET_STEP)
            if time.process_time() - busy < QUIET_SHARE * QUIET_STEP:
                return


class Engine:
    """One engine: how it is imported, loads a model, and runs it."""

    version = ""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def load(self, job: Job) -> None:
        """Make ready what ``job`` names."""
        raise NotImplementedError

    def bind(self, feeds: Feeds) -> Run:
        """A call that takes nothing and runs on ``feeds``."""
        raise NotImplementedError

    def array(self, value: Any) -> Any:
        """An output in NumPy's form."""
        return value


class Session(Engine):
    """fornix and onnxruntime, whose sessions have the same names."""

    package = ""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.module = importlib.import_module(self.package)
        self.version = self.module.__version__
        self.session: Any = None
        _ = self.module.InferenceSession  # fornix imports it on first use

    def load(self, job: Job) -> None:
        make = getattr(self.module, "SessionOptions", None)
        options = None if make is None else make()
        if options is not None:
            options.intra_op_num_threads = self.threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
        cpu = ["CPUExecutionProvider"]
        self.session = self.module.InferenceSession(job["model"], options, providers=cpu)

    def bind(self, feeds: Feeds) -> Run:
        run = self.session.run
        return lambda: run(None, feeds)


class Fornix(Session):
    """Our own sessions."""

    package = "fornix"


class OnnxRuntime(Session):
    """ONNX Runtime's CPU provider."""

    package = "onnxruntime"


class OpenVino(Engine):
    """OpenVINO's CPU plugin, computing in float32, tuned for latency, without copies."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.module = importlib.import_module("openvino")
        self.version = self.module.__version__.split("-")[0]
        self.request: Any = None
        self.inputs: dict[str, int] = {}

    def load(self, job: Job) -> None:
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": "NO",
        }
        compiled = self.module.Core().compile_model(job["model"], "CPU", options)
        self.request = compiled.create_infer_request()
        self.inputs = {
            name: index for index, port in enumerate(compiled.inputs) for name in port.names
        }

    def bind(self, feeds: Feeds) -> Run:
        infer = self.request.infer
        # An input that nothing reads may be gone.
        given = {self.inputs[name]: x for name, x in feeds.items() if name in self.inputs}
        return lambda: list(infer(given, share_inputs=True, share_outputs=True).values())

    def array(self, value: Any) -> Any:
        return np.array(value)


class Torch(Engine):
    """PyTorch, eager, in inference mode; the module comes from Python or from a file."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.module = importlib.import_module("torch")
        self.version = self.module.__version__
        self.module.set_num_threads(threads)
        self.network: Any = None

    def load(self, job: Job) -> None:
        source = job["torch"]
        if "file" in source:
            self.network = self.from_file(source["file"])
        else:
            module, _, name = source["call"].partition(":")
            make = getattr(importlib.import_module(module), name)
            self.network = make(*source.get("arguments", ()))

    def from_file(self, path: str) -> Any:
        """A program of torch.export (.pt2) or of TorchScript."""
        if Path(path).suffix == ".pt2":
            return self.module.export.load(path).module()
        return self.module.jit.load(path).eval()

    def bind(self, feeds: Feeds) -> Run:
        torch, network = self.module, self.network
        given = [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in feeds.values()]

        def run() -> Sequence[Any]:
            with torch.inference_mode():
                result = network(*given)
            return result if isinstance(result, tuple | list) else (result,)

        return run

    def array(self, value: Any) -> Any:
        return value.numpy()


ENGINES: dict[str, Callable[[int], Engine]] = {
    "fornix": Fornix,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "torch": Torch,
}


class Chain:
    """Steps that feed outputs back, as a decoder with its cache does.

    ``back`` maps outputs to the inputs that they feed; the inputs in ``grow`` get one more 1 at
    the end of their last axis, as a mask does. After ``steps`` steps it begins anew.
    """

    def __init__(self, engine: Engine, feeds: Feeds, names: Sequence[str], how: Job) -> None:
        self.engine = engine
        self.start = feeds
        self.back = [(names.index(output), feed) for output, feed in how["back"].items()]
        self.grow: list[str] = how["grow"]
        self.steps: int = how["steps"]
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self.step = 0
        self.feeds = dict(self.start)

    def __call__(self) -> Sequence[Any]:
        results = self.engine.bind(self.feeds)()
        self.step += 1
        if self.step == self.steps:
            self.restart()
            return results
        for index, name in self.back:
            self.feeds[name] = self.kept(results[index])
        for name in self.grow:
            old = self.feeds[name]
            self.feeds[name] = np.concatenate([old, np.ones_like(old[..., :1])], -1)
        return results

    def kept(self, value: Any) -> Any:
        """``value``, which the engine may overwrite in its next run, to be fed then."""
        return np.array(value) if isinstance(self.engine, OpenVino) else value


def read_feeds(job: Job) -> Feeds:
    """The feeds of ``job``, in its order; bits become the dtypes that NumPy lacks."""
    feeds: Feeds = {}
    with np.load(job["feeds"]) as stored:
        for index, (name, dtype) in enumerate(job["inputs"].items()):
            array = stored[f"arr_{index}"]
            if array.dtype.kind == "V":
                array = array.view(getattr(importlib.import_module("ml_dtypes"), dtype))
            feeds[name] = array.astype(object) if array.dtype.kind == "U" else array
    return feeds


def plain(name: str, value: Any) -> dict[str, np.ndarray]:
    """An output as arrays that NumPy can store: lists by index, maps as their values."""
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            return {name: np.array([list(row.values()) for row in value])}
        return {k: v for i, x in enumerate(value) for k, v in plain(f"{name}/{i}", x).items()}
    array = np.asarray(value)
    if array.dtype.kind == "O":
        return {name: array.astype(str)}
    return {name: array.astype(np.float32) if array.dtype.kind == "V" else array}


def peak_memory() -> int | None:
    """VmHWM in bytes, or what the system has in its place; None where it has nothing."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        resource = importlib.import_module("resource")
    except ModuleNotFoundError:
        return None
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
