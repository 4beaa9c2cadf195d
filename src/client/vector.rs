//! Vectors as the server writes them, read back into numbers.

use half::f16;

use crate::proto::{Vector, VectorFormat};

/// The numbers of a vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// From `F32` and `F32_BYTES`.
    F32(Vec<f32>),
    /// From `F16_BYTES`.
    F16(Vec<f16>),
    /// From `INT8`; the value is the byte times `scale`.
    Int8 {
        /// One for each dimension.
        bytes: Vec<i8>,
        /// What one step is worth.
        scale: f32,
    },
    /// From `BINARY`: eight dimensions a byte, the first in the highest bit.
    Binary {
        /// The last one is filled with zeros.
        bytes: Vec<u8>,
        /// Length of the vector.
        dimensions: usize,
    },
}

/// A vector that does not keep to the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A format that this client does not know.
    #[error("the server answered with vector format {0}, which this client does not know")]
    UnknownFormat(i32),
    /// Bytes that do not fit the dimensions.
    #[error("the server answered with {bytes} bytes for a vector of {dimensions} dimensions in {format}")]
    WrongLength {
        /// Bytes in `data`.
        bytes: usize,
        /// As said by the vector.
        dimensions: u32,
        /// Name of the format.
        format: &'static str,
    },
}

/// Reads a vector of any format.
pub fn read(vector: &Vector) -> Result<Values, Malformed> {
    let format = VectorFormat::try_from(vector.format).map_err(|_| Malformed::UnknownFormat(vector.format))?;
    let (data, dimensions) = (&vector.data, vector.dimensions as usize);
    let bytes_expected = match format {
        VectorFormat::Unspecified | VectorFormat::F32 => return Ok(Values::F32(vector.values.clone())),
        VectorFormat::F32Bytes => 4 * dimensions,
        VectorFormat::F16Bytes => 2 * dimensions,
        VectorFormat::Int8 => dimensions,
        VectorFormat::Binary => dimensions.div_ceil(8),
    };
    if data.len() != bytes_expected {
        let format = format.as_str_name();
        return Err(Malformed::WrongLength { bytes: data.len(), dimensions: vector.dimensions, format });
    }
    let (pairs, quads) = (data.as_chunks::<2>().0, data.as_chunks::<4>().0);
    Ok(match format {
        VectorFormat::F16Bytes => Values::F16(pairs.iter().map(|&pair| f16::from_le_bytes(pair)).collect()),
        VectorFormat::Int8 => {
            Values::Int8 { bytes: data.iter().map(|&byte| byte as i8).collect(), scale: vector.scale }
        }
        VectorFormat::Binary => Values::Binary { bytes: data.to_vec(), dimensions },
        VectorFormat::Unspecified | VectorFormat::F32 | VectorFormat::F32Bytes => {
            Values::F32(quads.iter().map(|&quad| f32::from_le_bytes(quad)).collect())
        }
    })
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
        let halves = [1.5f32, -2.0].map(|x| f16::from_f32(x).to_le_bytes()).concat();
        let expected = Values::F16(vec![f16::from_f32(1.5), f16::from_f32(-2.0)]);
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
}
