//! The encoding of vectors in messages: numbers to bytes, and back.

use std::borrow::Cow;

use super::half;
use super::{Vector, VectorFormat};

/// The largest magnitude of a signed byte whose negative is a signed byte too.
const INT8_MAX: f32 = 127.0;

/// The numbers of a vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// The values of `F32` and `F32_BYTES`.
    F32(Vec<f32>),
    /// The values of `F16_BYTES`, as the bits of 16-bit floats ([`half`](mod@super::half)).
    F16(Vec<u16>),
    /// The values of `INT8`: each is its byte times `scale`.
    Int8 {
        /// One byte for each dimension.
        bytes: Vec<i8>,
        /// The value of one step.
        scale: f32,
    },
    /// The bits of `BINARY`: eight dimensions in a byte, the first in the highest bit.
    Binary {
        /// The bytes; the last one is filled with zeros.
        bytes: Vec<u8>,
        /// The length of the vector.
        dimensions: usize,
    },
}

/// The reason why a vector violates the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The format is unknown to this version.
    #[error("{0} is not a value of VectorFormat")]
    UnknownFormat(i32),
    /// The bytes end in the middle of a value.
    #[error("{bytes} bytes are not a whole number of {size}-byte values")]
    PartialValue {
        /// The number of bytes in `data`.
        bytes: usize,
        /// The bytes of one value.
        size: usize,
    },
    /// The number of bytes does not fit the dimensions.
    #[error("{bytes} bytes are not a vector of {dimensions} dimensions in {format}")]
    WrongLength {
        /// The number of bytes in `data`.
        bytes: usize,
        /// The dimensions that the vector claims.
        dimensions: u32,
        /// The name of the format.
        format: &'static str,
    },
}

/// Writes `values`, `[dimensions]`, in a format.
pub fn write<'v>(values: impl Into<Cow<'v, [f32]>>, format: VectorFormat) -> Vector {
    let values = values.into();
    let mut vector = Vector { format: format.into(), dimensions: values.len() as u32, ..Vector::default() };
    match format {
        VectorFormat::Unspecified | VectorFormat::F32 => {
            vector.format = VectorFormat::F32.into();
            vector.values = values.into_owned();
        }
        VectorFormat::F32Bytes => vector.data = bytes(&values, f32::to_le_bytes).into(),
        VectorFormat::F16Bytes => vector.data = bytes(&values, |v| half::from_f32(v).to_le_bytes()).into(),
        VectorFormat::Int8 => {
            let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            vector.scale = largest / INT8_MAX;
            let step = if largest > 0.0 { INT8_MAX / largest } else { 0.0 };
            vector.data = bytes(&values, |v| [(v * step).round() as i8 as u8]).into();
        }
        VectorFormat::Binary => {
            let byte =
                |bits: &[f32]| bits.iter().enumerate().fold(0u8, |byte, (n, &v)| byte | (u8::from(v > 0.0) << (7 - n)));
            vector.data = values.chunks(8).map(byte).collect();
        }
    }
    vector
}

/// Writes each value as `N` bytes.
fn bytes<const N: usize>(values: &[f32], value: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    let mut data = vec![0; N * values.len()];
    data.as_chunks_mut().0.iter_mut().zip(values).for_each(|(to, &from)| *to = value(from));
    data
}

/// Reads the vector of an answer, in any format. Its data must have the claimed length.
pub fn read(vector: &Vector) -> Result<Values, Malformed> {
    let (bytes, dimensions) = (vector.data.len(), vector.dimensions as usize);
    let format = format(vector)?;
    let expected = match format {
        VectorFormat::Unspecified | VectorFormat::F32 => return decode(vector),
        VectorFormat::F32Bytes => 4 * dimensions,
        VectorFormat::F16Bytes => 2 * dimensions,
        VectorFormat::Int8 => dimensions,
        VectorFormat::Binary => dimensions.div_ceil(8),
    };
    if bytes != expected {
        let format = format.as_str_name();
        return Err(Malformed::WrongLength { bytes, dimensions: vector.dimensions, format });
    }
    decode(vector)
}

/// Reads a vector in any format. It may leave out its length, as in a request.
pub fn decode(vector: &Vector) -> Result<Values, Malformed> {
    let data = &vector.data;
    Ok(match format(vector)? {
        VectorFormat::Unspecified | VectorFormat::F32 => Values::F32(vector.values.clone()),
        VectorFormat::F32Bytes => Values::F32(whole(data)?.iter().map(|&value| f32::from_le_bytes(value)).collect()),
        VectorFormat::F16Bytes => Values::F16(whole(data)?.iter().map(|&value| u16::from_le_bytes(value)).collect()),
        VectorFormat::Int8 => {
            Values::Int8 { bytes: data.iter().map(|&byte| byte as i8).collect(), scale: vector.scale }
        }
        VectorFormat::Binary => Values::Binary { bytes: data.to_vec(), dimensions: vector.dimensions as usize },
    })
}

fn format(vector: &Vector) -> Result<VectorFormat, Malformed> {
    VectorFormat::try_from(vector.format).map_err(|_| Malformed::UnknownFormat(vector.format))
}

/// Splits bytes into values of `N` bytes.
fn whole<const N: usize>(data: &[u8]) -> Result<&[[u8; N]], Malformed> {
    let (values, rest) = data.as_chunks::<N>();
    if rest.is_empty() { Ok(values) } else { Err(Malformed::PartialValue { bytes: data.len(), size: N }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(format: VectorFormat, data: &[u8], dimensions: u32) -> Vector {
        let data = data.to_vec().into();
        Vector { data, format: format.into(), dimensions, scale: 0.5, values: vec![] }
    }

    #[test]
    fn every_format_is_read() {
        let floats = [1.5f32, -2.0].map(f32::to_le_bytes).concat();
        assert_eq!(read(&vector(VectorFormat::F32Bytes, &floats, 2)), Ok(Values::F32(vec![1.5, -2.0])));
        let halves = [1.5f32, -2.0].map(|x| half::from_f32(x).to_le_bytes()).concat();
        let expected = Values::F16(vec![half::from_f32(1.5), half::from_f32(-2.0)]);
        assert_eq!(read(&vector(VectorFormat::F16Bytes, &halves, 2)), Ok(expected));
        let expected = Values::Int8 { bytes: vec![-128, 127], scale: 0.5 };
        assert_eq!(read(&vector(VectorFormat::Int8, &[0x80, 0x7f], 2)), Ok(expected));
        let expected = Values::Binary { bytes: vec![0b1010_0000, 0b1000_0000], dimensions: 9 };
        assert_eq!(read(&vector(VectorFormat::Binary, &[0b1010_0000, 0b1000_0000], 9)), Ok(expected));
        let plain = Vector { values: vec![0.25], ..Default::default() };
        assert_eq!(read(&plain), Ok(Values::F32(vec![0.25])));
    }

    #[test]
    fn a_vector_of_the_wrong_length_is_refused() {
        for (format, bytes) in [
            (VectorFormat::F32Bytes, 7),
            (VectorFormat::F16Bytes, 3),
            (VectorFormat::Int8, 3),
            (VectorFormat::Binary, 2),
        ] {
            let error = read(&vector(format, &vec![0; bytes], 2)).unwrap_err();
            assert_eq!(error, Malformed::WrongLength { bytes, dimensions: 2, format: format.as_str_name() });
        }
    }

    #[test]
    fn an_unknown_format_is_refused() {
        assert_eq!(read(&Vector { format: 77, ..Default::default() }), Err(Malformed::UnknownFormat(77)));
    }

    #[test]
    fn int8_values_are_bytes_times_scale() {
        let vector = write(vec![0.5, -1.0, 0.0], VectorFormat::Int8);
        assert_eq!(vector.data.as_ref(), [64, (-127i8) as u8, 0]);
        assert_eq!(vector.scale, 1.0 / 127.0);
        assert_eq!(write(vec![0.0; 3], VectorFormat::Int8).data.as_ref(), [0, 0, 0]);
    }

    #[test]
    fn binary_puts_the_first_dimension_in_the_highest_bit() {
        let vector = write(vec![1.0, -1.0, 0.0, 0.1, -0.0, 0.0, 0.0, 2.0, 3.0], VectorFormat::Binary);
        assert_eq!(vector.data.as_ref(), [0b1001_0001, 0b1000_0000]);
        assert_eq!(vector.dimensions, 9);
    }

    #[test]
    fn bytes_that_end_in_the_middle_of_a_value_are_refused() {
        let of = |format: VectorFormat| Vector { format: format.into(), data: vec![0; 7].into(), ..Vector::default() };
        for (format, size) in [(VectorFormat::F32Bytes, 4), (VectorFormat::F16Bytes, 2)] {
            assert_eq!(decode(&of(format)), Err(Malformed::PartialValue { bytes: 7, size }));
        }
    }
}
