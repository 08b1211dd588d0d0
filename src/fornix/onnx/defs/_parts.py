"""What an `OpSchema` consists of: parameters, attributes, type variables and their properties."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum
from types import NoneType

from fornix.format.messages import AttributeProto
from fornix.onnx._kinds import Member, all_of, member_of, takes
from fornix.onnx._own import WrongKind, owned


class AttrType(IntEnum):
    """The type of an attribute."""

    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE_PROTO = 13
    TYPE_PROTOS = 14


class FormalParameterOption(IntEnum):
    """How often a parameter occurs."""

    Single = 0
    Optional = 1
    Variadic = 2


class DifferentiationCategory(IntEnum):
    """Whether results can be derived by a parameter."""

    Unknown = 0
    Differentiable = 1
    NonDifferentiable = 2


class NodeDeterminism(Enum):
    """Whether equal inputs give equal results."""

    Unknown = 0
    NonDeterministic = 1
    Deterministic = 2


class SupportType(IntEnum):
    """How settled an operator is."""

    COMMON = 0
    EXPERIMENTAL = 1


class _Shown:
    """Prints as the call that would make it."""

    def __repr__(self) -> str:
        told = ", ".join(
            f"{name}={_told(value)}"
            for name, value in vars(self).items()
            if not name.startswith("_")
        )
        return f"OpSchema.{type(self).__name__}({told})"


def _told(value: object) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, Enum) else repr(value)


class TypeConstraintParam(_Shown):
    """A type variable and the types that it may stand for."""

    type_param_str = Member[str]()
    allowed_type_strs = Member[list[str]]()
    description = Member[str]()

    @takes(type_param_str=str, allowed_type_strs=(list, tuple), description=str)
    def __init__(
        self, type_param_str: str, allowed_type_strs: Sequence[str], description: str = ""
    ) -> None:
        self.type_param_str = type_param_str
        label = "TypeConstraintParam: allowed_type_strs"
        self.allowed_type_strs = all_of(label, allowed_type_strs, str)
        self.description = description


class FormalParameter(_Shown):
    """A formal input or output."""

    name = Member[str]()
    type_str = Member[str]()
    description = Member[str]()
    option = Member[FormalParameterOption]()
    is_homogeneous = Member[bool]()
    min_arity = Member[int]()
    differentiation_category = Member[DifferentiationCategory]()

    @takes(
        name=str,
        type_str=str,
        description=str,
        is_homogeneous=bool,
        min_arity=int,
    )
    def __init__(
        self,
        name: str,
        type_str: str,
        description: str = "",
        *,
        param_option: FormalParameterOption = FormalParameterOption.Single,
        is_homogeneous: bool = True,
        min_arity: int = 1,
        differentiation_category: DifferentiationCategory = DifferentiationCategory.Unknown,
    ) -> None:
        self.name = name
        self.type_str = type_str
        self.description = description
        self.option = member_of(
            FormalParameterOption, "FormalParameter: param_option", param_option
        )
        self.is_homogeneous = is_homogeneous
        self.min_arity = min_arity
        self.differentiation_category = member_of(
            DifferentiationCategory,
            "FormalParameter: differentiation_category",
            differentiation_category,
        )
        self._types: set[str] = set()

    def allow(self, types: set[str]) -> None:
        """Say which types it may have; for `OpSchema` only."""
        self._types = types

    @property
    def types(self) -> set[str]:
        """The types that it may have, once it stands in a schema."""
        return set(self._types)


class Attribute(_Shown):
    """A formal attribute: with a type or, as a message, with a default."""

    name = Member[str]()
    description = Member[str]()
    type = Member[AttrType]()
    default_value = Member[AttributeProto]()
    required = Member[bool]()

    @takes(name=str, description=str, required=(bool, NoneType))
    def __init__(
        self,
        name: str,
        type: int | AttributeProto | None = None,
        description: str = "",
        *,
        required: bool | None = None,
        default_value: AttributeProto | None = None,
    ) -> None:
        if type is not None and not isinstance(type, int):
            type, default_value = None, type
        default = AttributeProto()
        if default_value is not None:
            default.CopyFrom(owned(default_value, AttributeProto))
        elif type is None:
            raise TypeError(f"attribute {name!r}: a type or a default is required, found neither")
        self.name = name
        self.description = description
        number = default.type if type is None else type
        if number not in set(AttrType):
            raise WrongKind(f"attribute {name!r}: a type from 1 to 14 is required, found {number}")
        self.type = AttrType(number)
        self.default_value = default
        self.required = default_value is None if required is None else required
