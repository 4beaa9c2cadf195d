"""Metadata as Python objects, both ways. Whole numbers come back as `int`, and nothing loses digits silently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value


def to_struct(metadata: Mapping[str, Any]) -> Struct:
    """Makes the message of a dictionary."""
    return Struct(fields={key: to_value(value) for key, value in metadata.items()})


def to_value(value: object) -> Value:
    """Makes the message of None, a boolean, a number, a string, a sequence or a dictionary, of numpy's kinds too."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None:
        return Value(null_value=NULL_VALUE)
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, (int, float)):
        if isinstance(value, int) and abs(value) > 2**53:
            raise ValueError(f"numbers are doubles, which {value} does not fit without loss: store it as a string")
        return Value(number_value=value)
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, Mapping):
        return Value(struct_value=to_struct(value))
    if isinstance(value, (list, tuple)):
        return Value(list_value=ListValue(values=[to_value(each) for each in value]))
    raise TypeError(f"metadata is made of None, bool, int, float, str, list and dict, not of {type(value).__name__}")


def of_struct(struct: Struct) -> dict[str, Any]:
    """Reads metadata as a dictionary, in the order of its keys: on the wire they have none."""
    return {key: of_value(struct.fields[key]) for key in sorted(struct.fields)}


def of_value(value: Value) -> Any:
    """Reads one value."""
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "string_value":
            return value.string_value
        case "struct_value":
            return of_struct(value.struct_value)
        case "list_value":
            return [of_value(each) for each in value.list_value.values]
        case _:
            return None
