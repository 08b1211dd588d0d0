"""`SymbolicShapeInference`: types and shapes of every value, as fornix infers them."""

from __future__ import annotations

from typing import Any

from fornix.format.messages import own
from fornix.infer import annotate, infer_model
from fornix.ir.load import from_message, to_message


class SymbolicShapeInference:
    """Inference with symbolic extents, which no option changes."""

    def __init__(
        self,
        int_max: int,
        auto_merge: bool,
        guess_output_rank: bool,
        verbose: int,
        prefix: str = "",
    ) -> None:
        self.int_max, self.auto_merge = int_max, auto_merge
        self.guess_output_rank, self.verbose, self.prefix = guess_output_rank, verbose, prefix

    @staticmethod
    def infer_shapes(
        in_mp: Any,
        int_max: int = 2**31 - 1,
        auto_merge: bool = False,
        guess_output_rank: bool = False,
        verbose: int = 0,
    ) -> Any:
        """A model like ``in_mp`` whose values have the types and shapes that follow."""
        model = from_message(own(in_mp))
        annotate(model, infer_model(model))
        return type(in_mp).FromString(to_message(model).SerializeToString())
