//! How vectors are written and read on the wire.

use half::f16;

use super::status::Failure;
use crate::embedder::Embedding;
use crate::proto::{Vector, VectorFormat};

/// The largest magnitude of a signed byte that has an opposite.
const INT8_MAX: f32 = 127.0;

/// `format`, where UNSPECIFIED means F32.
pub fn format(field: &str, value: i32) -> Result<VectorFormat, Failure> {
    match VectorFormat::try_from(value) {
        Ok(VectorFormat::Unspecified) => Ok(VectorFormat::F32),
        Ok(format) => Ok(format),
        Err(_) => Err(Failure::invalid(field, format!("{value} is not a value of VectorFormat"))),
    }
}

/// Writes `values`, `[dimensions]`, in a format.
pub fn write(values: Vec<f32>, format: VectorFormat) -> Vector {
    let mut vector = Vector { format: format.into(), dimensions: values.len() as u32, ..Vector::default() };
    match format {
        VectorFormat::Unspecified | VectorFormat::F32 => {
            vector.format = VectorFormat::F32.into();
            vector.values = values;
        }
        VectorFormat::F32Bytes => vector.data = values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        VectorFormat::F16Bytes => {
            vector.data = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        }
        VectorFormat::Int8 => {
            let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            vector.scale = largest / INT8_MAX;
            let step = if largest > 0.0 { INT8_MAX / largest } else { 0.0 };
            vector.data = values.iter().map(|v| (v * step).round() as i8 as u8).collect();
        }
        VectorFormat::Binary => {
            let byte =
                |bits: &[f32]| bits.iter().enumerate().fold(0u8, |byte, (n, &v)| byte | (u8::from(v > 0.0) << (7 - n)));
            vector.data = values.chunks(8).map(byte).collect();
        }
    }
    vector
}

/// Reads a vector of `dimensions` and scales it to unit length. `field`: its path in the request.
pub fn read(field: &str, vector: &Vector, dimensions: usize) -> Result<Embedding, Failure> {
    let data = &vector.data;
    let values: Vec<f32> = match format(&format!("{field}.format"), vector.format)? {
        VectorFormat::Unspecified | VectorFormat::F32 => vector.values.clone(),
        VectorFormat::F32Bytes => {
            whole(field, data, 4)?.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        VectorFormat::F16Bytes => whole(field, data, 2)?.map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        VectorFormat::Int8 => {
            let sign = direction(field, vector.scale)?;
            data.iter().map(|&b| sign * f32::from(b as i8)).collect()
        }
        VectorFormat::Binary => {
            return Err(Failure::invalid(
                format!("{field}.format"),
                "VECTOR_FORMAT_BINARY keeps too little to search with",
            ));
        }
    };
    if values.len() != dimensions {
        let n = values.len();
        return Err(Failure::invalid(field, format!("{n} dimensions, the model has {dimensions}")));
    }
    Embedding::normalized(values).map_err(|error| Failure::invalid(field, error.to_string()))
}

/// What a scale does to a vector's direction, which is all that is kept: a negative one turns it. 0 is what a client
/// sends that leaves the field out, and means 1.
fn direction(field: &str, scale: f32) -> Result<f32, Failure> {
    if !scale.is_finite() {
        return Err(Failure::invalid(format!("{field}.scale"), format!("{scale} is not a finite number")));
    }
    Ok(if scale < 0.0 { -1.0 } else { 1.0 })
}

fn whole<'d>(field: &str, data: &'d [u8], size: usize) -> Result<std::slice::ChunksExact<'d, u8>, Failure> {
    if !data.len().is_multiple_of(size) {
        let n = data.len();
        return Err(Failure::invalid(
            format!("{field}.data"),
            format!("{n} bytes are not a whole number of {size}-byte values"),
        ));
    }
    Ok(data.chunks_exact(size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const READABLE: [VectorFormat; 4] =
        [VectorFormat::F32, VectorFormat::F32Bytes, VectorFormat::F16Bytes, VectorFormat::Int8];

    proptest! {
        /// A unit vector survives each format within the format's step: exact for f32, 2^-11 relative
        /// for f16, half a step of 1/127 of the largest value for int8.
        #[test]
        fn what_is_written_reads_back(values in prop::collection::vec(-1.0f32..1.0, 2..70)) {
            prop_assume!(values.iter().any(|v| v.abs() > 0.01));
            let unit = Embedding::normalized(values).unwrap();
            for (format, tolerance) in READABLE.into_iter().zip([1e-6, 1e-6, 1e-3, 1e-2]) {
                let written = write(unit.values().to_vec(), format);
                let back = read("v", &written, unit.values().len()).unwrap();
                for (a, b) in unit.values().iter().zip(back.values()) {
                    prop_assert!((a - b).abs() <= tolerance, "{format:?}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn int8_values_are_bytes_times_scale() {
        let vector = write(vec![0.5, -1.0, 0.0], VectorFormat::Int8);
        assert_eq!(vector.data.as_ref(), [64, (-127i8) as u8, 0]);
        assert_eq!(vector.scale, 1.0 / 127.0);
        assert_eq!(write(vec![0.0; 3], VectorFormat::Int8).data.as_ref(), [0, 0, 0]);
    }

    #[test]
    fn the_sign_of_a_scale_turns_an_int8_vector_and_its_size_does_not_matter() {
        let of = |scale| Vector { data: vec![3, (-4i8) as u8].into(), format: 4, scale, ..Vector::default() };
        let read = |scale| read("v", &of(scale), 2).map(|unit| unit.values().to_vec());
        for scale in [0.0, -0.0, 1e-30, 1.0, 1e30] {
            assert_eq!(read(scale).unwrap(), [0.6, -0.8], "{scale}");
        }
        assert_eq!(read(-0.1).unwrap(), [-0.6, 0.8]);
        for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            match read(scale) {
                Err(Failure::Invalid(violations)) => assert_eq!(violations[0].field, "v.scale"),
                other => panic!("{scale} gave {other:?}"),
            }
        }
    }

    #[test]
    fn binary_puts_the_first_dimension_in_the_highest_bit() {
        let vector = write(vec![1.0, -1.0, 0.0, 0.1, -0.0, 0.0, 0.0, 2.0, 3.0], VectorFormat::Binary);
        assert_eq!(vector.data.as_ref(), [0b1001_0001, 0b1000_0000]);
        assert_eq!(vector.dimensions, 9);
        assert!(read("v", &vector, 9).is_err());
    }

    #[test]
    fn wrong_vectors_are_refused_by_field() {
        let of = |values: Vec<f32>| Vector { values, ..Vector::default() };
        for (vector, field) in [
            (of(vec![1.0]), "q"),
            (of(vec![f32::NAN, 1.0]), "q"),
            (of(vec![0.0, 0.0]), "q"),
            (Vector { format: 77, ..of(vec![1.0, 0.0]) }, "q.format"),
            (Vector { format: 2, data: vec![0; 7].into(), ..Vector::default() }, "q.data"),
        ] {
            match read("q", &vector, 2) {
                Err(Failure::Invalid(violations)) => assert_eq!(violations[0].field, field),
                other => panic!("{vector:?} gave {other:?}"),
            }
        }
    }
}
