"""What a model builder hands over: the network, the feeds, and how far results may differ.

It decides the shapes of these records and nothing else; each family file fills a `Network`,
`export.py` turns one into a `Built`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

Exporter = Literal["torchscript", "dynamo"]
Size = Literal["small", "full"]
EXPORTERS: tuple[Exporter, ...] = ("torchscript", "dynamo")
SIZES: tuple[Size, ...] = ("small", "full")

Arrays = dict[str, np.ndarray]
Axes = Mapping[int, str]


@dataclass(frozen=True)
class ModelSpec:
    """One entry of the registry; `family` is the module of this package that builds it.

    `maker` is the function of that module that returns its network, `exporters` those of torch's
    that can export it, `told` the sizes whose truth one can tell: where many places are ranked,
    correct evaluations differ in which of two near ones comes first. Raise `version` whenever the
    family's networks or feeds change: the cache is keyed by it.
    """

    name: str
    family: str
    summary: str
    version: int = 1
    maker: str = "network"
    exporters: tuple[Exporter, ...] = EXPORTERS
    told: tuple[Size, ...] = SIZES


class Truth(Protocol):
    """What a finished model computes, where that is more than its module."""

    @property
    def names(self) -> Sequence[str]:
        """Its outputs."""

    def __call__(self, *case: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Their values."""


@dataclass(frozen=True)
class Network:
    """A torch module in inference mode with everything its export needs.

    `inputs` and `outputs` map names, in order, to their dynamic axes; `cases` are feeds in the
    order of `inputs`. The exporters trace the first one; the second has its shapes but other data,
    so that a test can show that the network reacts to what it sees. From the index `variadic` on
    the inputs are one variadic parameter of the module. `repeats` counts the steps that recurrent
    layers take, for the tolerance. `finish` edits the exported file; `truth` then computes what
    that file does, and names its outputs.
    """

    module: torch.nn.Module
    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    cases: Sequence[tuple[torch.Tensor, ...]]
    variadic: int | None = None
    repeats: int = 1
    finish: Callable[[Path], None] | None = None
    truth: Truth | None = None


@dataclass(frozen=True)
class Built:
    """An exported model: its file, feeds, torch's outputs, and the tolerance.

    Results agree if the largest difference is at most `tolerance` times the largest magnitude
    of the expected output (see `tolerance.py` for the reason).
    """

    path: Path
    inputs: list[Arrays]
    expected: list[Arrays]
    tolerance: float
