"""Random OTLP messages of every signal, made from the official descriptors.

A field that a newer schema brings is covered without a change here.
"""

import math
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

TEXTS = st.text(max_size=12) | st.just("x" * 150) | st.just('"\\/\b\f\n\r\t\x00\x1f\x7f\u2028é😀')
U32 = st.sampled_from([0, 1, 127, 128, 257, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
I32 = st.sampled_from([0, 1, -1, 99, 2**31 - 1, -(2**31)])
U64 = st.sampled_from([0, 1, 2**53 + 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
I64 = st.sampled_from([0, -1, 127, 128, 2047, 2048, 2**63 - 1, -(2**63)]) | st.integers(
    -(2**63), 2**63 - 1
)
# One NaN only: which of them it is has no form in JSON.
DOUBLES = (
    st.floats() | st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1e300])
).map(lambda x: math.nan if math.isnan(x) else x)
IDS = st.binary(max_size=20) | st.binary(min_size=16, max_size=16)

_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: TEXTS,
    FieldDescriptor.TYPE_BYTES: IDS,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: DOUBLES,
    FieldDescriptor.TYPE_ENUM: I32,
    FieldDescriptor.TYPE_INT32: I32,
    FieldDescriptor.TYPE_SINT32: I32,
    FieldDescriptor.TYPE_UINT32: U32,
    FieldDescriptor.TYPE_FIXED32: U32,
    FieldDescriptor.TYPE_UINT64: U64,
    FieldDescriptor.TYPE_FIXED64: U64,
    FieldDescriptor.TYPE_INT64: I64,
    FieldDescriptor.TYPE_SFIXED64: I64,
}


def any_values() -> st.SearchStrategy[AnyValue]:
    leaves = st.one_of(
        st.builds(AnyValue),
        st.builds(AnyValue, string_value=TEXTS),
        st.builds(AnyValue, bool_value=st.booleans()),
        st.builds(AnyValue, int_value=I64),
        st.builds(AnyValue, double_value=DOUBLES),
        st.builds(AnyValue, bytes_value=st.binary(max_size=20)),
        st.builds(AnyValue, string_value_strindex=I32),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(
                lambda items: AnyValue(array_value=ArrayValue(values=items)),
                st.lists(inner, max_size=3),
            ),
            st.builds(
                lambda items: AnyValue(kvlist_value=KeyValueList(values=items)),
                st.lists(key_values(inner), max_size=3),
            ),
        ),
        max_leaves=8,
    )


def key_values(values: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[KeyValue]:
    return st.builds(KeyValue, key=TEXTS, value=st.none() | values, key_strindex=I32)


ANY_VALUES = any_values()
KEY_VALUES = key_values(ANY_VALUES)


def messages_of(descriptor: Any) -> st.SearchStrategy[Any]:
    """Messages of one type: any field set or not, one member of each oneof at most."""
    if descriptor is AnyValue.DESCRIPTOR:
        return ANY_VALUES
    if descriptor is KeyValue.DESCRIPTOR:
        return KEY_VALUES
    make: type[Message] = GetMessageClass(descriptor)
    alone = {
        field.name: _values(field)
        for field in descriptor.fields
        if field.containing_oneof is None or len(field.containing_oneof.fields) == 1
    }
    choices = [
        st.one_of(
            st.just({}),
            *(_values(field).map(_named(field.name)) for field in oneof.fields),
        )
        for oneof in descriptor.oneofs
        if len(oneof.fields) > 1
    ]
    return st.builds(
        lambda fields, *chosen: make(
            **{name: value for part in (fields, *chosen) for name, value in part.items()}
        ),
        st.fixed_dictionaries({}, optional=alone),
        *choices,
    )


def _named(name: str) -> Any:
    return lambda value: {name: value}


def _values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    nested = field.message_type
    one = st.deferred(lambda: messages_of(nested)) if nested else _SCALARS[field.type]
    return st.lists(one, max_size=3) if field.is_repeated else one
