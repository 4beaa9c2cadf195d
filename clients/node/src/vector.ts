// Vectors as typed arrays. `VECTOR_FORMAT_F32_BYTES` is many times faster to read than a list of floats.
// The bytes are little-endian, as is every machine that Node.js and browsers run on, except mainframes.

import { create } from "@bufbuild/protobuf";
import { type Vector, VectorFormat, VectorSchema } from "./gen/cognate/v1/cognate_pb.js";

/** Returns the numbers of a vector in any format but `VECTOR_FORMAT_BINARY`, whose bits are in `data`. */
export function toFloat32({ format, values, data, scale }: Vector): Float32Array {
  switch (format) {
    case VectorFormat.UNSPECIFIED:
    case VectorFormat.F32:
      return new Float32Array(values);
    case VectorFormat.F32_BYTES:
      return new Float32Array(new Uint8Array(data).buffer);
    case VectorFormat.F16_BYTES:
      return new Float32Array(new Uint16Array(new Uint8Array(data).buffer)).map(half);
    case VectorFormat.INT8:
      return new Float32Array(new Int8Array(data)).map((step) => step * scale);
    default:
      throw new TypeError(`expected a vector of numbers, found the format ${format}: read its \`data\``);
  }
}

/** Makes a vector for a query or a document. */
export function fromFloat32(values: ArrayLike<number>): Vector {
  const data = new Uint8Array(new Float32Array(values).buffer);
  return create(VectorSchema, { data, format: VectorFormat.F32_BYTES, dimensions: values.length });
}

/** Reads an IEEE 754 binary16: a sign, 5 bits of exponent and 10 of fraction. */
function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
  return bits & 0x8000 ? -size : size;
}
