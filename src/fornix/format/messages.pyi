# Types of the ONNX messages; written by tools/stubs.py.
# ruff: noqa: A002, N802 - the names are those of protobuf and of the standard

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeVar, overload

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.internal.containers import (
    RepeatedCompositeFieldContainer as _Messages,
)
from google.protobuf.internal.containers import (
    RepeatedScalarFieldContainer as _Scalars,
)
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

_M = TypeVar("_M", bound=Message)

DESCRIPTOR: FileDescriptor

@overload
def own(source: _M) -> _M: ...
@overload
def own(source: object, expected: type[_M]) -> _M: ...

Version: EnumTypeWrapper
_START_VERSION: Final = 0
IR_VERSION_2017_10_10: Final = 1
IR_VERSION_2017_10_30: Final = 2
IR_VERSION_2017_11_3: Final = 3
IR_VERSION_2019_1_22: Final = 4
IR_VERSION_2019_3_18: Final = 5
IR_VERSION_2019_9_19: Final = 6
IR_VERSION_2020_5_8: Final = 7
IR_VERSION_2021_7_30: Final = 8
IR_VERSION_2023_5_5: Final = 9
IR_VERSION_2024_3_25: Final = 10
IR_VERSION_2025_05_12: Final = 11
IR_VERSION_2025_08_26: Final = 12
IR_VERSION_2025_11_06: Final = 13
IR_VERSION: Final = 14
OperatorStatus: EnumTypeWrapper
EXPERIMENTAL: Final = 0
STABLE: Final = 1

class AttributeProto(Message):
    AttributeType: EnumTypeWrapper
    UNDEFINED: Final = 0
    FLOAT: Final = 1
    INT: Final = 2
    STRING: Final = 3
    TENSOR: Final = 4
    GRAPH: Final = 5
    SPARSE_TENSOR: Final = 11
    TYPE_PROTO: Final = 13
    FLOATS: Final = 6
    INTS: Final = 7
    STRINGS: Final = 8
    TENSORS: Final = 9
    GRAPHS: Final = 10
    SPARSE_TENSORS: Final = 12
    TYPE_PROTOS: Final = 14
    NAME_FIELD_NUMBER: Final = 1
    REF_ATTR_NAME_FIELD_NUMBER: Final = 21
    DOC_STRING_FIELD_NUMBER: Final = 13
    TYPE_FIELD_NUMBER: Final = 20
    F_FIELD_NUMBER: Final = 2
    I_FIELD_NUMBER: Final = 3
    S_FIELD_NUMBER: Final = 4
    T_FIELD_NUMBER: Final = 5
    G_FIELD_NUMBER: Final = 6
    SPARSE_TENSOR_FIELD_NUMBER: Final = 22
    TP_FIELD_NUMBER: Final = 14
    FLOATS_FIELD_NUMBER: Final = 7
    INTS_FIELD_NUMBER: Final = 8
    STRINGS_FIELD_NUMBER: Final = 9
    TENSORS_FIELD_NUMBER: Final = 10
    GRAPHS_FIELD_NUMBER: Final = 11
    SPARSE_TENSORS_FIELD_NUMBER: Final = 23
    TYPE_PROTOS_FIELD_NUMBER: Final = 15
    name: str
    ref_attr_name: str
    doc_string: str
    type: int
    f: float
    i: int
    s: bytes
    @property
    def t(self) -> TensorProto: ...
    @property
    def g(self) -> GraphProto: ...
    @property
    def sparse_tensor(self) -> SparseTensorProto: ...
    @property
    def tp(self) -> TypeProto: ...
    @property
    def floats(self) -> _Scalars[float]: ...
    @property
    def ints(self) -> _Scalars[int]: ...
    @property
    def strings(self) -> _Scalars[bytes]: ...
    @property
    def tensors(self) -> _Messages[TensorProto]: ...
    @property
    def graphs(self) -> _Messages[GraphProto]: ...
    @property
    def sparse_tensors(self) -> _Messages[SparseTensorProto]: ...
    @property
    def type_protos(self) -> _Messages[TypeProto]: ...
    def __init__(
        self,
        *,
        name: str | None = ...,
        ref_attr_name: str | None = ...,
        doc_string: str | None = ...,
        type: int | str | None = ...,
        f: float | None = ...,
        i: int | None = ...,
        s: bytes | None = ...,
        t: TensorProto | Mapping[str, object] | None = ...,
        g: GraphProto | Mapping[str, object] | None = ...,
        sparse_tensor: SparseTensorProto | Mapping[str, object] | None = ...,
        tp: TypeProto | Mapping[str, object] | None = ...,
        floats: Iterable[float] | None = ...,
        ints: Iterable[int] | None = ...,
        strings: Iterable[bytes] | None = ...,
        tensors: Iterable[TensorProto | Mapping[str, object]] | None = ...,
        graphs: Iterable[GraphProto | Mapping[str, object]] | None = ...,
        sparse_tensors: Iterable[SparseTensorProto | Mapping[str, object]] | None = ...,
        type_protos: Iterable[TypeProto | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def HasField(
        self,
        field_name: Literal[
            "name",
            "ref_attr_name",
            "doc_string",
            "type",
            "f",
            "i",
            "s",
            "t",
            "g",
            "sparse_tensor",
            "tp",
        ],
    ) -> bool: ...
    def ClearField(
        self,
        field_name: Literal[
            "name",
            "ref_attr_name",
            "doc_string",
            "type",
            "f",
            "i",
            "s",
            "t",
            "g",
            "sparse_tensor",
            "tp",
            "floats",
            "ints",
            "strings",
            "tensors",
            "graphs",
            "sparse_tensors",
            "type_protos",
        ],
    ) -> None: ...

class ValueInfoProto(Message):
    NAME_FIELD_NUMBER: Final = 1
    TYPE_FIELD_NUMBER: Final = 2
    DOC_STRING_FIELD_NUMBER: Final = 3
    METADATA_PROPS_FIELD_NUMBER: Final = 4
    name: str
    @property
    def type(self) -> TypeProto: ...
    doc_string: str
    @property
    def metadata_props(self) -> _Messages[StringStringEntryProto]: ...
    def __init__(
        self,
        *,
        name: str | None = ...,
        type: TypeProto | Mapping[str, object] | None = ...,
        doc_string: str | None = ...,
        metadata_props: Iterable[StringStringEntryProto | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["name", "type", "doc_string"]) -> bool: ...
    def ClearField(
        self, field_name: Literal["name", "type", "doc_string", "metadata_props"]
    ) -> None: ...

class NodeProto(Message):
    INPUT_FIELD_NUMBER: Final = 1
    OUTPUT_FIELD_NUMBER: Final = 2
    NAME_FIELD_NUMBER: Final = 3
    OP_TYPE_FIELD_NUMBER: Final = 4
    DOMAIN_FIELD_NUMBER: Final = 7
    OVERLOAD_FIELD_NUMBER: Final = 8
    ATTRIBUTE_FIELD_NUMBER: Final = 5
    DOC_STRING_FIELD_NUMBER: Final = 6
    METADATA_PROPS_FIELD_NUMBER: Final = 9
    DEVICE_CONFIGURATIONS_FIELD_NUMBER: Final = 10
    @property
    def input(self) -> _Scalars[str]: ...
    @property
    def output(self) -> _Scalars[str]: ...
    name: str
    op_type: str
    domain: str
    overload: str
    @property
    def attribute(self) -> _Messages[AttributeProto]: ...
    doc_string: str
    @property
    def metadata_props(self) -> _Messages[StringStringEntryProto]: ...
    @property
    def device_configurations(self) -> _Messages[NodeDeviceConfigurationProto]: ...
    def __init__(
        self,
        *,
        input: Iterable[str] | None = ...,
        output: Iterable[str] | None = ...,
        name: str | None = ...,
        op_type: str | None = ...,
        domain: str | None = ...,
        overload: str | None = ...,
        attribute: Iterable[AttributeProto | Mapping[str, object]] | None = ...,
        doc_string: str | None = ...,
        metadata_props: Iterable[StringStringEntryProto | Mapping[str, object]] | None = ...,
        device_configurations: Iterable[NodeDeviceConfigurationProto | Mapping[str, object]]
        | None = ...,
    ) -> None: ...
    def HasField(
        self, field_name: Literal["name", "op_type", "domain", "overload", "doc_string"]
    ) -> bool: ...
    def ClearField(
        self,
        field_name: Literal[
            "input",
            "output",
            "name",
            "op_type",
            "domain",
            "overload",
            "attribute",
            "doc_string",
            "metadata_props",
            "device_configurations",
        ],
    ) -> None: ...

class IntIntListEntryProto(Message):
    KEY_FIELD_NUMBER: Final = 1
    VALUE_FIELD_NUMBER: Final = 2
    key: int
    @property
    def value(self) -> _Scalars[int]: ...
    def __init__(
        self,
        *,
        key: int | None = ...,
        value: Iterable[int] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["key"]) -> bool: ...
    def ClearField(self, field_name: Literal["key", "value"]) -> None: ...

class NodeDeviceConfigurationProto(Message):
    CONFIGURATION_ID_FIELD_NUMBER: Final = 1
    SHARDING_SPEC_FIELD_NUMBER: Final = 2
    PIPELINE_STAGE_FIELD_NUMBER: Final = 3
    configuration_id: str
    @property
    def sharding_spec(self) -> _Messages[ShardingSpecProto]: ...
    pipeline_stage: int
    def __init__(
        self,
        *,
        configuration_id: str | None = ...,
        sharding_spec: Iterable[ShardingSpecProto | Mapping[str, object]] | None = ...,
        pipeline_stage: int | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["configuration_id", "pipeline_stage"]) -> bool: ...
    def ClearField(
        self, field_name: Literal["configuration_id", "sharding_spec", "pipeline_stage"]
    ) -> None: ...

class ShardingSpecProto(Message):
    TENSOR_NAME_FIELD_NUMBER: Final = 1
    DEVICE_FIELD_NUMBER: Final = 2
    INDEX_TO_DEVICE_GROUP_MAP_FIELD_NUMBER: Final = 3
    SHARDED_DIM_FIELD_NUMBER: Final = 4
    tensor_name: str
    @property
    def device(self) -> _Scalars[int]: ...
    @property
    def index_to_device_group_map(self) -> _Messages[IntIntListEntryProto]: ...
    @property
    def sharded_dim(self) -> _Messages[ShardedDimProto]: ...
    def __init__(
        self,
        *,
        tensor_name: str | None = ...,
        device: Iterable[int] | None = ...,
        index_to_device_group_map: Iterable[IntIntListEntryProto | Mapping[str, object]]
        | None = ...,
        sharded_dim: Iterable[ShardedDimProto | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["tensor_name"]) -> bool: ...
    def ClearField(
        self,
        field_name: Literal["tensor_name", "device", "index_to_device_group_map", "sharded_dim"],
    ) -> None: ...

class ShardedDimProto(Message):
    AXIS_FIELD_NUMBER: Final = 1
    SIMPLE_SHARDING_FIELD_NUMBER: Final = 2
    axis: int
    @property
    def simple_sharding(self) -> _Messages[SimpleShardedDimProto]: ...
    def __init__(
        self,
        *,
        axis: int | None = ...,
        simple_sharding: Iterable[SimpleShardedDimProto | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["axis"]) -> bool: ...
    def ClearField(self, field_name: Literal["axis", "simple_sharding"]) -> None: ...

class SimpleShardedDimProto(Message):
    DIM_VALUE_FIELD_NUMBER: Final = 1
    DIM_PARAM_FIELD_NUMBER: Final = 2
    NUM_SHARDS_FIELD_NUMBER: Final = 3
    dim_value: int
    dim_param: str
    num_shards: int
    def __init__(
        self,
        *,
        dim_value: int | None = ...,
        dim_param: str | None = ...,
        num_shards: int | None = ...,
    ) -> None: ...
    def HasField(
        self, field_name: Literal["dim_value", "dim_param", "num_shards", "dim"]
    ) -> bool: ...
    def ClearField(
        self, field_name: Literal["dim_value", "dim_param", "num_shards", "dim"]
    ) -> None: ...
    def WhichOneof(
        self, oneof_group: Literal["dim"]
    ) -> Literal["dim_value", "dim_param"] | None: ...

class TrainingInfoProto(Message):
    INITIALIZATION_FIELD_NUMBER: Final = 1
    ALGORITHM_FIELD_NUMBER: Final = 2
    INITIALIZATION_BINDING_FIELD_NUMBER: Final = 3
    UPDATE_BINDING_FIELD_NUMBER: Final = 4
    @property
    def initialization(self) -> GraphProto: ...
    @property
    def algorithm(self) -> GraphProto: ...
    @property
    def initialization_binding(self) -> _Messages[StringStringEntryProto]: ...
    @property
    def update_binding(self) -> _Messages[StringStringEntryProto]: ...
    def __init__(
        self,
        *,
        initialization: GraphProto | Mapping[str, object] | None = ...,
        algorithm: GraphProto | Mapping[str, object] | None = ...,
        initialization_binding: Iterable[StringStringEntryProto | Mapping[str, object]]
        | None = ...,
        update_binding: Iterable[StringStringEntryProto | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["initialization", "algorithm"]) -> bool: ...
    def ClearField(
        self,
        field_name: Literal[
            "initialization", "algorithm", "initialization_binding", "update_binding"
        ],
    ) -> None: ...

class ModelProto(Message):
    IR_VERSION_FIELD_NUMBER: Final = 1
    OPSET_IMPORT_FIELD_NUMBER: Final = 8
    PRODUCER_NAME_FIELD_NUMBER: Final = 2
    PRODUCER_VERSION_FIELD_NUMBER: Final = 3
    DOMAIN_FIELD_NUMBER: Final = 4
    MODEL_VERSION_FIELD_NUMBER: Final = 5
    DOC_STRING_FIELD_NUMBER: Final = 6
    GRAPH_FIELD_NUMBER: Final = 7
    METADATA_PROPS_FIELD_NUMBER: Final = 14
    TRAINING_INFO_FIELD_NUMBER: Final = 20
    FUNCTIONS_FIELD_NUMBER: Final = 25
    CONFIGURATION_FIELD_NUMBER: Final = 26
    ir_version: int
    @property
    def opset_import(self) -> _Messages[OperatorSetIdProto]: ...
    producer_name: str
    producer_version: str
    domain: str
    model_version: int
    doc_string: str
    @property
    def graph(self) -> GraphProto: ...
    @property
    def metadata_props(self) -> _Messages[StringStringEntryProto]: ...
    @property
    def training_info(self) -> _Messages[TrainingInfoProto]: ...
    @property
    def functions(self) -> _Messages[FunctionProto]: ...
    @property
    def configuration(self) -> _Messages[DeviceConfigurationProto]: ...
    def __init__(
        self,
        *,
        ir_version: int | None = ...,
        opset_import: Iterable[OperatorSetIdProto | Mapping[str, object]] | None = ...,
        producer_name: str | None = ...,
        producer_version: str | None = ...,
        domain: str | None = ...,
        model_version: int | None = ...,
        doc_string: str | None = ...,
        graph: GraphProto | Mapping[str, object] | None = ...,
        metadata_props: Iterable[StringStringEntryProto | Mapping[str, object]] | None = ...,
        training_info: Iterable[TrainingInfoProto | Mapping[str, object]] | None = ...,
        functions: Iterable[FunctionProto | Mapping[str, object]] | None = ...,
        configuration: Iterable[DeviceConfigurationProto | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def HasField(
        self,
        field_name: Literal[
            "ir_version",
            "producer_name",
            "producer_version",
            "domain",
            "model_version",
            "doc_string",
            "graph",
        ],
    ) -> bool: ...
    def ClearField(
        self,
        field_name: Literal[
            "ir_version",
            "opset_import",
            "producer_name",
            "producer_version",
            "domain",
            "model_version",
            "doc_string",
            "graph",
            "metadata_props",
            "training_info",
            "functions",
            "configuration",
        ],
    ) -> None: ...

class DeviceConfigurationProto(Message):
    NAME_FIELD_NUMBER: Final = 1
    NUM_DEVICES_FIELD_NUMBER: Final = 2
    DEVICE_FIELD_NUMBER: Final = 3
    name: str
    num_devices: int
    @property
    def device(self) -> _Scalars[str]: ...
    def __init__(
        self,
        *,
        name: str | None = ...,
        num_devices: int | None = ...,
        device: Iterable[str] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["name", "num_devices"]) -> bool: ...
    def ClearField(self, field_name: Literal["name", "num_devices", "device"]) -> None: ...

class StringStringEntryProto(Message):
    KEY_FIELD_NUMBER: Final = 1
    VALUE_FIELD_NUMBER: Final = 2
    key: str
    value: str
    def __init__(
        self,
        *,
        key: str | None = ...,
        value: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["key", "value"]) -> bool: ...
    def ClearField(self, field_name: Literal["key", "value"]) -> None: ...

class TensorAnnotation(Message):
    TENSOR_NAME_FIELD_NUMBER: Final = 1
    QUANT_PARAMETER_TENSOR_NAMES_FIELD_NUMBER: Final = 2
    tensor_name: str
    @property
    def quant_parameter_tensor_names(self) -> _Messages[StringStringEntryProto]: ...
    def __init__(
        self,
        *,
        tensor_name: str | None = ...,
        quant_parameter_tensor_names: Iterable[StringStringEntryProto | Mapping[str, object]]
        | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["tensor_name"]) -> bool: ...
    def ClearField(
        self, field_name: Literal["tensor_name", "quant_parameter_tensor_names"]
    ) -> None: ...

class GraphProto(Message):
    NODE_FIELD_NUMBER: Final = 1
    NAME_FIELD_NUMBER: Final = 2
    INITIALIZER_FIELD_NUMBER: Final = 5
    SPARSE_INITIALIZER_FIELD_NUMBER: Final = 15
    DOC_STRING_FIELD_NUMBER: Final = 10
    INPUT_FIELD_NUMBER: Final = 11
    OUTPUT_FIELD_NUMBER: Final = 12
    VALUE_INFO_FIELD_NUMBER: Final = 13
    QUANTIZATION_ANNOTATION_FIELD_NUMBER: Final = 14
    METADATA_PROPS_FIELD_NUMBER: Final = 16
    @property
    def node(self) -> _Messages[NodeProto]: ...
    name: str
    @property
    def initializer(self) -> _Messages[TensorProto]: ...
    @property
    def sparse_initializer(self) -> _Messages[SparseTensorProto]: ...
    doc_string: str
    @property
    def input(self) -> _Messages[ValueInfoProto]: ...
    @property
    def output(self) -> _Messages[ValueInfoProto]: ...
    @property
    def value_info(self) -> _Messages[ValueInfoProto]: ...
    @property
    def quantization_annotation(self) -> _Messages[TensorAnnotation]: ...
    @property
    def metadata_props(self) -> _Messages[StringStringEntryProto]: ...
    def __init__(
        self,
        *,
        node: Iterable[NodeProto | Mapping[str, object]] | None = ...,
        name: str | None = ...,
        initializer: Iterable[TensorProto | Mapping[str, object]] | None = ...,
        sparse_initializer: Iterable[SparseTensorProto | Mapping[str, object]] | None = ...,
        doc_string: str | None = ...,
        input: Iterable[ValueInfoProto | Mapping[str, object]] | None = ...,
        output: Iterable[ValueInfoProto | Mapping[str, object]] | None = ...,
        value_info: Iterable[ValueInfoProto | Mapping[str, object]] | None = ...,
        quantization_annotation: Iterable[TensorAnnotation | Mapping[str, object]] | None = ...,
        metadata_props: Iterable[StringStringEntryProto | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["name", "doc_string"]) -> bool: ...
    def ClearField(
        self,
        field_name: Literal[
            "node",
            "name",
            "initializer",
            "sparse_initializer",
            "doc_string",
            "input",
            "output",
            "value_info",
            "quantization_annotation",
            "metadata_props",
        ],
    ) -> None: ...

class TensorProto(Message):
    class Segment(Message):
        BEGIN_FIELD_NUMBER: Final = 1
        END_FIELD_NUMBER: Final = 2
        begin: int
        end: int
        def __init__(
            self,
            *,
            begin: int | None = ...,
            end: int | None = ...,
        ) -> None: ...
        def HasField(self, field_name: Literal["begin", "end"]) -> bool: ...
        def ClearField(self, field_name: Literal["begin", "end"]) -> None: ...

    DataType: EnumTypeWrapper
    UNDEFINED: Final = 0
    FLOAT: Final = 1
    UINT8: Final = 2
    INT8: Final = 3
    UINT16: Final = 4
    INT16: Final = 5
    INT32: Final = 6
    INT64: Final = 7
    STRING: Final = 8
    BOOL: Final = 9
    FLOAT16: Final = 10
    DOUBLE: Final = 11
    UINT32: Final = 12
    UINT64: Final = 13
    COMPLEX64: Final = 14
    COMPLEX128: Final = 15
    BFLOAT16: Final = 16
    FLOAT8E4M3FN: Final = 17
    FLOAT8E4M3FNUZ: Final = 18
    FLOAT8E5M2: Final = 19
    FLOAT8E5M2FNUZ: Final = 20
    UINT4: Final = 21
    INT4: Final = 22
    FLOAT4E2M1: Final = 23
    FLOAT8E8M0: Final = 24
    UINT2: Final = 25
    INT2: Final = 26
    FLOAT6E2M3: Final = 27
    FLOAT6E3M2: Final = 28
    DataLocation: EnumTypeWrapper
    DEFAULT: Final = 0
    EXTERNAL: Final = 1
    DIMS_FIELD_NUMBER: Final = 1
    DATA_TYPE_FIELD_NUMBER: Final = 2
    SEGMENT_FIELD_NUMBER: Final = 3
    FLOAT_DATA_FIELD_NUMBER: Final = 4
    INT32_DATA_FIELD_NUMBER: Final = 5
    STRING_DATA_FIELD_NUMBER: Final = 6
    INT64_DATA_FIELD_NUMBER: Final = 7
    NAME_FIELD_NUMBER: Final = 8
    DOC_STRING_FIELD_NUMBER: Final = 12
    RAW_DATA_FIELD_NUMBER: Final = 9
    EXTERNAL_DATA_FIELD_NUMBER: Final = 13
    DATA_LOCATION_FIELD_NUMBER: Final = 14
    DOUBLE_DATA_FIELD_NUMBER: Final = 10
    UINT64_DATA_FIELD_NUMBER: Final = 11
    METADATA_PROPS_FIELD_NUMBER: Final = 16
    @property
    def dims(self) -> _Scalars[int]: ...
    data_type: int
    @property
    def segment(self) -> TensorProto.Segment: ...
    @property
    def float_data(self) -> _Scalars[float]: ...
    @property
    def int32_data(self) -> _Scalars[int]: ...
    @property
    def string_data(self) -> _Scalars[bytes]: ...
    @property
    def int64_data(self) -> _Scalars[int]: ...
    name: str
    doc_string: str
    raw_data: bytes
    @property
    def external_data(self) -> _Messages[StringStringEntryProto]: ...
    data_location: int
    @property
    def double_data(self) -> _Scalars[float]: ...
    @property
    def uint64_data(self) -> _Scalars[int]: ...
    @property
    def metadata_props(self) -> _Messages[StringStringEntryProto]: ...
    def __init__(
        self,
        *,
        dims: Iterable[int] | None = ...,
        data_type: int | None = ...,
        segment: TensorProto.Segment | Mapping[str, object] | None = ...,
        float_data: Iterable[float] | None = ...,
        int32_data: Iterable[int] | None = ...,
        string_data: Iterable[bytes] | None = ...,
        int64_data: Iterable[int] | None = ...,
        name: str | None = ...,
        doc_string: str | None = ...,
        raw_data: bytes | None = ...,
        external_data: Iterable[StringStringEntryProto | Mapping[str, object]] | None = ...,
        data_location: int | str | None = ...,
        double_data: Iterable[float] | None = ...,
        uint64_data: Iterable[int] | None = ...,
        metadata_props: Iterable[StringStringEntryProto | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def HasField(
        self,
        field_name: Literal[
            "data_type", "segment", "name", "doc_string", "raw_data", "data_location"
        ],
    ) -> bool: ...
    def ClearField(
        self,
        field_name: Literal[
            "dims",
            "data_type",
            "segment",
            "float_data",
            "int32_data",
            "string_data",
            "int64_data",
            "name",
            "doc_string",
            "raw_data",
            "external_data",
            "data_location",
            "double_data",
            "uint64_data",
            "metadata_props",
        ],
    ) -> None: ...

class SparseTensorProto(Message):
    VALUES_FIELD_NUMBER: Final = 1
    INDICES_FIELD_NUMBER: Final = 2
    DIMS_FIELD_NUMBER: Final = 3
    @property
    def values(self) -> TensorProto: ...
    @property
    def indices(self) -> TensorProto: ...
    @property
    def dims(self) -> _Scalars[int]: ...
    def __init__(
        self,
        *,
        values: TensorProto | Mapping[str, object] | None = ...,
        indices: TensorProto | Mapping[str, object] | None = ...,
        dims: Iterable[int] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["values", "indices"]) -> bool: ...
    def ClearField(self, field_name: Literal["values", "indices", "dims"]) -> None: ...

class TensorShapeProto(Message):
    class Dimension(Message):
        DIM_VALUE_FIELD_NUMBER: Final = 1
        DIM_PARAM_FIELD_NUMBER: Final = 2
        DENOTATION_FIELD_NUMBER: Final = 3
        dim_value: int
        dim_param: str
        denotation: str
        def __init__(
            self,
            *,
            dim_value: int | None = ...,
            dim_param: str | None = ...,
            denotation: str | None = ...,
        ) -> None: ...
        def HasField(
            self, field_name: Literal["dim_value", "dim_param", "denotation", "value"]
        ) -> bool: ...
        def ClearField(
            self, field_name: Literal["dim_value", "dim_param", "denotation", "value"]
        ) -> None: ...
        def WhichOneof(
            self, oneof_group: Literal["value"]
        ) -> Literal["dim_value", "dim_param"] | None: ...

    DIM_FIELD_NUMBER: Final = 1
    @property
    def dim(self) -> _Messages[TensorShapeProto.Dimension]: ...
    def __init__(
        self,
        *,
        dim: Iterable[TensorShapeProto.Dimension | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def ClearField(self, field_name: Literal["dim"]) -> None: ...

class TypeProto(Message):
    class Tensor(Message):
        ELEM_TYPE_FIELD_NUMBER: Final = 1
        SHAPE_FIELD_NUMBER: Final = 2
        elem_type: int
        @property
        def shape(self) -> TensorShapeProto: ...
        def __init__(
            self,
            *,
            elem_type: int | None = ...,
            shape: TensorShapeProto | Mapping[str, object] | None = ...,
        ) -> None: ...
        def HasField(self, field_name: Literal["elem_type", "shape"]) -> bool: ...
        def ClearField(self, field_name: Literal["elem_type", "shape"]) -> None: ...

    class Sequence(Message):
        ELEM_TYPE_FIELD_NUMBER: Final = 1
        @property
        def elem_type(self) -> TypeProto: ...
        def __init__(
            self,
            *,
            elem_type: TypeProto | Mapping[str, object] | None = ...,
        ) -> None: ...
        def HasField(self, field_name: Literal["elem_type"]) -> bool: ...
        def ClearField(self, field_name: Literal["elem_type"]) -> None: ...

    class Map(Message):
        KEY_TYPE_FIELD_NUMBER: Final = 1
        VALUE_TYPE_FIELD_NUMBER: Final = 2
        key_type: int
        @property
        def value_type(self) -> TypeProto: ...
        def __init__(
            self,
            *,
            key_type: int | None = ...,
            value_type: TypeProto | Mapping[str, object] | None = ...,
        ) -> None: ...
        def HasField(self, field_name: Literal["key_type", "value_type"]) -> bool: ...
        def ClearField(self, field_name: Literal["key_type", "value_type"]) -> None: ...

    class Optional(Message):
        ELEM_TYPE_FIELD_NUMBER: Final = 1
        @property
        def elem_type(self) -> TypeProto: ...
        def __init__(
            self,
            *,
            elem_type: TypeProto | Mapping[str, object] | None = ...,
        ) -> None: ...
        def HasField(self, field_name: Literal["elem_type"]) -> bool: ...
        def ClearField(self, field_name: Literal["elem_type"]) -> None: ...

    class SparseTensor(Message):
        ELEM_TYPE_FIELD_NUMBER: Final = 1
        SHAPE_FIELD_NUMBER: Final = 2
        elem_type: int
        @property
        def shape(self) -> TensorShapeProto: ...
        def __init__(
            self,
            *,
            elem_type: int | None = ...,
            shape: TensorShapeProto | Mapping[str, object] | None = ...,
        ) -> None: ...
        def HasField(self, field_name: Literal["elem_type", "shape"]) -> bool: ...
        def ClearField(self, field_name: Literal["elem_type", "shape"]) -> None: ...

    class Opaque(Message):
        DOMAIN_FIELD_NUMBER: Final = 1
        NAME_FIELD_NUMBER: Final = 2
        domain: str
        name: str
        def __init__(
            self,
            *,
            domain: str | None = ...,
            name: str | None = ...,
        ) -> None: ...
        def HasField(self, field_name: Literal["domain", "name"]) -> bool: ...
        def ClearField(self, field_name: Literal["domain", "name"]) -> None: ...

    TENSOR_TYPE_FIELD_NUMBER: Final = 1
    SEQUENCE_TYPE_FIELD_NUMBER: Final = 4
    MAP_TYPE_FIELD_NUMBER: Final = 5
    OPTIONAL_TYPE_FIELD_NUMBER: Final = 9
    SPARSE_TENSOR_TYPE_FIELD_NUMBER: Final = 8
    OPAQUE_TYPE_FIELD_NUMBER: Final = 7
    DENOTATION_FIELD_NUMBER: Final = 6
    @property
    def tensor_type(self) -> TypeProto.Tensor: ...
    @property
    def sequence_type(self) -> TypeProto.Sequence: ...
    @property
    def map_type(self) -> TypeProto.Map: ...
    @property
    def optional_type(self) -> TypeProto.Optional: ...
    @property
    def sparse_tensor_type(self) -> TypeProto.SparseTensor: ...
    @property
    def opaque_type(self) -> TypeProto.Opaque: ...
    denotation: str
    def __init__(
        self,
        *,
        tensor_type: TypeProto.Tensor | Mapping[str, object] | None = ...,
        sequence_type: TypeProto.Sequence | Mapping[str, object] | None = ...,
        map_type: TypeProto.Map | Mapping[str, object] | None = ...,
        optional_type: TypeProto.Optional | Mapping[str, object] | None = ...,
        sparse_tensor_type: TypeProto.SparseTensor | Mapping[str, object] | None = ...,
        opaque_type: TypeProto.Opaque | Mapping[str, object] | None = ...,
        denotation: str | None = ...,
    ) -> None: ...
    def HasField(
        self,
        field_name: Literal[
            "tensor_type",
            "sequence_type",
            "map_type",
            "optional_type",
            "sparse_tensor_type",
            "opaque_type",
            "denotation",
            "value",
        ],
    ) -> bool: ...
    def ClearField(
        self,
        field_name: Literal[
            "tensor_type",
            "sequence_type",
            "map_type",
            "optional_type",
            "sparse_tensor_type",
            "opaque_type",
            "denotation",
            "value",
        ],
    ) -> None: ...
    def WhichOneof(
        self, oneof_group: Literal["value"]
    ) -> (
        Literal[
            "tensor_type",
            "sequence_type",
            "map_type",
            "optional_type",
            "sparse_tensor_type",
            "opaque_type",
        ]
        | None
    ): ...

class OperatorSetIdProto(Message):
    DOMAIN_FIELD_NUMBER: Final = 1
    VERSION_FIELD_NUMBER: Final = 2
    domain: str
    version: int
    def __init__(
        self,
        *,
        domain: str | None = ...,
        version: int | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["domain", "version"]) -> bool: ...
    def ClearField(self, field_name: Literal["domain", "version"]) -> None: ...

class FunctionProto(Message):
    NAME_FIELD_NUMBER: Final = 1
    INPUT_FIELD_NUMBER: Final = 4
    OUTPUT_FIELD_NUMBER: Final = 5
    ATTRIBUTE_FIELD_NUMBER: Final = 6
    ATTRIBUTE_PROTO_FIELD_NUMBER: Final = 11
    NODE_FIELD_NUMBER: Final = 7
    DOC_STRING_FIELD_NUMBER: Final = 8
    OPSET_IMPORT_FIELD_NUMBER: Final = 9
    DOMAIN_FIELD_NUMBER: Final = 10
    OVERLOAD_FIELD_NUMBER: Final = 13
    VALUE_INFO_FIELD_NUMBER: Final = 12
    METADATA_PROPS_FIELD_NUMBER: Final = 14
    name: str
    @property
    def input(self) -> _Scalars[str]: ...
    @property
    def output(self) -> _Scalars[str]: ...
    @property
    def attribute(self) -> _Scalars[str]: ...
    @property
    def attribute_proto(self) -> _Messages[AttributeProto]: ...
    @property
    def node(self) -> _Messages[NodeProto]: ...
    doc_string: str
    @property
    def opset_import(self) -> _Messages[OperatorSetIdProto]: ...
    domain: str
    overload: str
    @property
    def value_info(self) -> _Messages[ValueInfoProto]: ...
    @property
    def metadata_props(self) -> _Messages[StringStringEntryProto]: ...
    def __init__(
        self,
        *,
        name: str | None = ...,
        input: Iterable[str] | None = ...,
        output: Iterable[str] | None = ...,
        attribute: Iterable[str] | None = ...,
        attribute_proto: Iterable[AttributeProto | Mapping[str, object]] | None = ...,
        node: Iterable[NodeProto | Mapping[str, object]] | None = ...,
        doc_string: str | None = ...,
        opset_import: Iterable[OperatorSetIdProto | Mapping[str, object]] | None = ...,
        domain: str | None = ...,
        overload: str | None = ...,
        value_info: Iterable[ValueInfoProto | Mapping[str, object]] | None = ...,
        metadata_props: Iterable[StringStringEntryProto | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["name", "doc_string", "domain", "overload"]) -> bool: ...
    def ClearField(
        self,
        field_name: Literal[
            "name",
            "input",
            "output",
            "attribute",
            "attribute_proto",
            "node",
            "doc_string",
            "opset_import",
            "domain",
            "overload",
            "value_info",
            "metadata_props",
        ],
    ) -> None: ...

class SequenceProto(Message):
    DataType: EnumTypeWrapper
    UNDEFINED: Final = 0
    TENSOR: Final = 1
    SPARSE_TENSOR: Final = 2
    SEQUENCE: Final = 3
    MAP: Final = 4
    OPTIONAL: Final = 5
    NAME_FIELD_NUMBER: Final = 1
    ELEM_TYPE_FIELD_NUMBER: Final = 2
    TENSOR_VALUES_FIELD_NUMBER: Final = 3
    SPARSE_TENSOR_VALUES_FIELD_NUMBER: Final = 4
    SEQUENCE_VALUES_FIELD_NUMBER: Final = 5
    MAP_VALUES_FIELD_NUMBER: Final = 6
    OPTIONAL_VALUES_FIELD_NUMBER: Final = 7
    name: str
    elem_type: int
    @property
    def tensor_values(self) -> _Messages[TensorProto]: ...
    @property
    def sparse_tensor_values(self) -> _Messages[SparseTensorProto]: ...
    @property
    def sequence_values(self) -> _Messages[SequenceProto]: ...
    @property
    def map_values(self) -> _Messages[MapProto]: ...
    @property
    def optional_values(self) -> _Messages[OptionalProto]: ...
    def __init__(
        self,
        *,
        name: str | None = ...,
        elem_type: int | None = ...,
        tensor_values: Iterable[TensorProto | Mapping[str, object]] | None = ...,
        sparse_tensor_values: Iterable[SparseTensorProto | Mapping[str, object]] | None = ...,
        sequence_values: Iterable[SequenceProto | Mapping[str, object]] | None = ...,
        map_values: Iterable[MapProto | Mapping[str, object]] | None = ...,
        optional_values: Iterable[OptionalProto | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["name", "elem_type"]) -> bool: ...
    def ClearField(
        self,
        field_name: Literal[
            "name",
            "elem_type",
            "tensor_values",
            "sparse_tensor_values",
            "sequence_values",
            "map_values",
            "optional_values",
        ],
    ) -> None: ...

class MapProto(Message):
    NAME_FIELD_NUMBER: Final = 1
    KEY_TYPE_FIELD_NUMBER: Final = 2
    KEYS_FIELD_NUMBER: Final = 3
    STRING_KEYS_FIELD_NUMBER: Final = 4
    VALUES_FIELD_NUMBER: Final = 5
    name: str
    key_type: int
    @property
    def keys(self) -> _Scalars[int]: ...
    @property
    def string_keys(self) -> _Scalars[bytes]: ...
    @property
    def values(self) -> SequenceProto: ...
    def __init__(
        self,
        *,
        name: str | None = ...,
        key_type: int | None = ...,
        keys: Iterable[int] | None = ...,
        string_keys: Iterable[bytes] | None = ...,
        values: SequenceProto | Mapping[str, object] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["name", "key_type", "values"]) -> bool: ...
    def ClearField(
        self, field_name: Literal["name", "key_type", "keys", "string_keys", "values"]
    ) -> None: ...

class OptionalProto(Message):
    DataType: EnumTypeWrapper
    UNDEFINED: Final = 0
    TENSOR: Final = 1
    SPARSE_TENSOR: Final = 2
    SEQUENCE: Final = 3
    MAP: Final = 4
    OPTIONAL: Final = 5
    NAME_FIELD_NUMBER: Final = 1
    ELEM_TYPE_FIELD_NUMBER: Final = 2
    TENSOR_VALUE_FIELD_NUMBER: Final = 3
    SPARSE_TENSOR_VALUE_FIELD_NUMBER: Final = 4
    SEQUENCE_VALUE_FIELD_NUMBER: Final = 5
    MAP_VALUE_FIELD_NUMBER: Final = 6
    OPTIONAL_VALUE_FIELD_NUMBER: Final = 7
    name: str
    elem_type: int
    @property
    def tensor_value(self) -> TensorProto: ...
    @property
    def sparse_tensor_value(self) -> SparseTensorProto: ...
    @property
    def sequence_value(self) -> SequenceProto: ...
    @property
    def map_value(self) -> MapProto: ...
    @property
    def optional_value(self) -> OptionalProto: ...
    def __init__(
        self,
        *,
        name: str | None = ...,
        elem_type: int | None = ...,
        tensor_value: TensorProto | Mapping[str, object] | None = ...,
        sparse_tensor_value: SparseTensorProto | Mapping[str, object] | None = ...,
        sequence_value: SequenceProto | Mapping[str, object] | None = ...,
        map_value: MapProto | Mapping[str, object] | None = ...,
        optional_value: OptionalProto | Mapping[str, object] | None = ...,
    ) -> None: ...
    def HasField(
        self,
        field_name: Literal[
            "name",
            "elem_type",
            "tensor_value",
            "sparse_tensor_value",
            "sequence_value",
            "map_value",
            "optional_value",
        ],
    ) -> bool: ...
    def ClearField(
        self,
        field_name: Literal[
            "name",
            "elem_type",
            "tensor_value",
            "sparse_tensor_value",
            "sequence_value",
            "map_value",
            "optional_value",
        ],
    ) -> None: ...

class OperatorProto(Message):
    OP_TYPE_FIELD_NUMBER: Final = 1
    SINCE_VERSION_FIELD_NUMBER: Final = 2
    STATUS_FIELD_NUMBER: Final = 3
    DOC_STRING_FIELD_NUMBER: Final = 10
    op_type: str
    since_version: int
    status: int
    doc_string: str
    def __init__(
        self,
        *,
        op_type: str | None = ...,
        since_version: int | None = ...,
        status: int | str | None = ...,
        doc_string: str | None = ...,
    ) -> None: ...
    def HasField(
        self, field_name: Literal["op_type", "since_version", "status", "doc_string"]
    ) -> bool: ...
    def ClearField(
        self, field_name: Literal["op_type", "since_version", "status", "doc_string"]
    ) -> None: ...

class OperatorSetProto(Message):
    MAGIC_FIELD_NUMBER: Final = 1
    IR_VERSION_FIELD_NUMBER: Final = 2
    IR_VERSION_PRERELEASE_FIELD_NUMBER: Final = 3
    IR_BUILD_METADATA_FIELD_NUMBER: Final = 7
    DOMAIN_FIELD_NUMBER: Final = 4
    OPSET_VERSION_FIELD_NUMBER: Final = 5
    DOC_STRING_FIELD_NUMBER: Final = 6
    OPERATOR_FIELD_NUMBER: Final = 8
    FUNCTIONS_FIELD_NUMBER: Final = 9
    magic: str
    ir_version: int
    ir_version_prerelease: str
    ir_build_metadata: str
    domain: str
    opset_version: int
    doc_string: str
    @property
    def operator(self) -> _Messages[OperatorProto]: ...
    @property
    def functions(self) -> _Messages[FunctionProto]: ...
    def __init__(
        self,
        *,
        magic: str | None = ...,
        ir_version: int | None = ...,
        ir_version_prerelease: str | None = ...,
        ir_build_metadata: str | None = ...,
        domain: str | None = ...,
        opset_version: int | None = ...,
        doc_string: str | None = ...,
        operator: Iterable[OperatorProto | Mapping[str, object]] | None = ...,
        functions: Iterable[FunctionProto | Mapping[str, object]] | None = ...,
    ) -> None: ...
    def HasField(
        self,
        field_name: Literal[
            "magic",
            "ir_version",
            "ir_version_prerelease",
            "ir_build_metadata",
            "domain",
            "opset_version",
            "doc_string",
        ],
    ) -> bool: ...
    def ClearField(
        self,
        field_name: Literal[
            "magic",
            "ir_version",
            "ir_version_prerelease",
            "ir_build_metadata",
            "domain",
            "opset_version",
            "doc_string",
            "operator",
            "functions",
        ],
    ) -> None: ...
