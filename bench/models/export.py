"""Export by torch, and torch's own results; `cache.py` keeps both.

The opset is the exporters' own choice, so that the models are what their users get.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.models.cache import cached, read, write_cases
from bench.models.spec import Arrays, Built, Exporter, ModelSpec, Network, Size

if TYPE_CHECKING:
    import torch

# Raise it when this file or `seeding.py` changes what comes out.
BUILDER = 1


def built(spec: ModelSpec, exporter: Exporter, size: Size) -> Built:
    """``spec`` from the cache, after building it if it is not there."""

    def write(draft: Path) -> None:
        with quiet():
            network = network_of(spec, size)
            export(network, draft / "model.onnx", exporter)
            if network.finish is not None:
                network.finish(draft / "model.onnx")
            ask(network, draft / "cases.npz")

    release = version("torch").replace("+", "-")
    key = f"{spec.name}-{size}-{exporter}-v{BUILDER}.{spec.version}-torch{release}"
    return read(cached(key, write))


def network_of(spec: ModelSpec, size: Size) -> Network:
    """The torch module of ``spec``, with its feeds."""
    network: Network = getattr(import_module(f"bench.models.{spec.family}"), spec.maker)(size)
    return network


def module(name: str, size: Size) -> torch.nn.Module:
    """The torch module of the model ``name``, to be run beside its exports."""
    from bench.models import MODELS

    with quiet():
        return network_of(MODELS[name], size).module


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters from speaking of their internals and of packages they could also use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def export(network: Network, path: Path, exporter: Exporter) -> None:
    """Write ``network`` as ONNX to ``path``, in one file, traced on its first case."""
    import torch

    example = tuple(network.cases[0])
    with torch.no_grad():
        if exporter == "torchscript":
            axes = {**network.inputs, **network.outputs}
            torch.onnx.export(
                network.module,
                example,
                str(path),
                dynamo=False,
                input_names=list(network.inputs),
                output_names=list(network.outputs),
                dynamic_axes={name: dict(named) for name, named in axes.items() if named},
            )
            return
        torch.onnx.export(
            network.module,
            example,
            str(path),
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=list(network.inputs),
            output_names=list(network.outputs),
            dynamic_shapes=dynamic_shapes(network),
        )


def dynamic_shapes(network: Network) -> tuple[object, ...]:
    """The dynamic axes in the form of the module's parameters; a variadic one is a nested tuple."""
    named = [dict(axes) for axes in network.inputs.values()]
    if network.variadic is None:
        return tuple(named)
    return (*named[: network.variadic], tuple(named[network.variadic :]))


def ask(network: Network, path: Path) -> None:
    """Write the feeds of ``network`` and what torch computes from them."""
    import torch

    from bench.models.tolerance import tolerance

    feeds: list[Arrays] = []
    answers: list[Arrays] = []
    compute = network.module if network.truth is None else network.truth
    names = list(network.outputs if network.truth is None else network.truth.names)
    for case in network.cases:
        with torch.no_grad():
            result = compute(*case)
        outputs = result if isinstance(result, tuple) else (result,)
        feeds.append(dict(zip(network.inputs, arrays(case), strict=True)))
        answers.append(dict(zip(names, arrays(outputs), strict=True)))
    write_cases(path, feeds, answers, tolerance(network.module, network.repeats))


def arrays(tensors: Iterable[torch.Tensor]) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in tensors]
