"""Vectors as numpy arrays, both ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cognate_client.v1 import cognate_pb2 as pb

#: float32; one vector is [dimensions], several are [n, dimensions].
FloatArray = NDArray[np.float32]

#: The format that this package asks for: numpy reads it without a loop.
FORMAT = pb.VECTOR_FORMAT_F32_BYTES


def format_if(with_vector: bool) -> pb.VectorFormat.ValueType:
    """Returns the format to ask for. A call without vectors may not name one."""
    return FORMAT if with_vector else pb.VECTOR_FORMAT_UNSPECIFIED


def to_array(vector: pb.Vector) -> FloatArray:
    """Reads a vector of any format as float32. Of `VECTOR_FORMAT_BINARY`, set bits are 1 and others 0."""
    match vector.format:
        case pb.VECTOR_FORMAT_F32_BYTES:
            return np.frombuffer(vector.data, "<f4").astype(np.float32)
        case pb.VECTOR_FORMAT_F16_BYTES:
            return np.frombuffer(vector.data, "<f2").astype(np.float32)
        case pb.VECTOR_FORMAT_INT8:
            return np.frombuffer(vector.data, np.int8).astype(np.float32) * np.float32(vector.scale)
        case pb.VECTOR_FORMAT_BINARY:
            bits = np.unpackbits(np.frombuffer(vector.data, np.uint8), count=vector.dimensions)
            return bits.astype(np.float32)
        case _:
            return np.array(vector.values, np.float32)


def to_vector(values: FloatArray | Sequence[float]) -> pb.Vector:
    """Makes the message of a vector."""
    array = np.asarray(values, "<f4")
    if array.ndim != 1:
        raise ValueError(f"a vector has one axis, this array has the shape {array.shape}")
    return pb.Vector(data=array.tobytes(), format=FORMAT)
