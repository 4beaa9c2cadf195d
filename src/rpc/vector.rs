//! Checks the vectors of requests: they must have the model's length, finite values and a direction.

use super::status::Failure;
use crate::inference::{Output, TextError};
use crate::kernel::embedding::Embedding;
use crate::wire::half;
use crate::wire::vector::{Malformed, Values};
use crate::wire::{self, Vector, VectorFormat};

/// Parses `format`; UNSPECIFIED means F32.
pub fn format(field: &str, value: i32) -> Result<VectorFormat, Failure> {
    match VectorFormat::try_from(value) {
        Ok(VectorFormat::Unspecified) => Ok(VectorFormat::F32),
        Ok(format) => Ok(format),
        Err(_) => Err(Failure::invalid(field, format!("{value} is not a value of VectorFormat"))),
    }
}

/// Parses `vector_format`, the format of the vectors in an answer; `None`: no vectors are asked for.
pub fn answered(with_vector: bool, vector_format: i32) -> Result<Option<VectorFormat>, Failure> {
    let format = format("vector_format", vector_format)?;
    if !with_vector && vector_format != VectorFormat::Unspecified as i32 {
        let reason = format!("is {} without with_vector: set with_vector too, or leave it out", format.as_str_name());
        return Err(Failure::invalid("vector_format", reason));
    }
    Ok(with_vector.then_some(format))
}

/// Reads a vector of `dimensions` and scales it to unit length. `field` is its path in the request.
pub fn read(field: &str, vector: &Vector, dimensions: usize) -> Result<Embedding, Failure> {
    let unit = unit(field, vector)?;
    check_length(field, &unit, dimensions)?;
    Ok(unit)
}

/// Checks the length of a vector that was read before its model was known.
pub fn check_length(field: &str, vector: &Embedding, dimensions: usize) -> Result<(), Failure> {
    let n = vector.values().len();
    if n == dimensions {
        return Ok(());
    }
    Err(Failure::invalid(field, format!("{n} dimensions, the model has {dimensions}")))
}

/// Reads a vector of any length and scales it to unit length.
pub fn unit(field: &str, vector: &Vector) -> Result<Embedding, Failure> {
    let values = match wire::vector::decode(vector).map_err(|malformed| refusal(field, &malformed))? {
        Values::F32(values) => values,
        Values::F16(values) => values.into_iter().map(half::to_f32).collect(),
        Values::Int8 { bytes, scale } => {
            let sign = direction(field, scale)?;
            bytes.into_iter().map(|byte| sign * f32::from(byte)).collect()
        }
        Values::Binary { .. } => {
            return Err(Failure::invalid(
                format!("{field}.format"),
                "VECTOR_FORMAT_BINARY has too little information for a search: send another format",
            ));
        }
    };
    Embedding::normalized(values).map_err(|error| Failure::invalid(field, error.to_string()))
}

/// The failure that names the malformed field.
fn refusal(field: &str, malformed: &Malformed) -> Failure {
    let part = match malformed {
        Malformed::UnknownFormat(_) => "format",
        Malformed::PartialValue { .. } | Malformed::WrongLength { .. } => "data",
    };
    Failure::invalid(format!("{field}.{part}"), malformed.to_string())
}

/// Returns the sign of a scale. Only the direction of a vector is kept, and a negative scale reverses it. 0 means that
/// the client left the field out, and counts as 1.
fn direction(field: &str, scale: f32) -> Result<f32, Failure> {
    if !scale.is_finite() {
        return Err(Failure::invalid(format!("{field}.scale"), format!("{scale} is not a finite number")));
    }
    Ok(if scale < 0.0 { -1.0 } else { 1.0 })
}

/// The unit vector of an embedded text. `field` is the text's name in a failure.
pub fn of_text(pooled: Result<Output, TextError>, field: impl FnOnce() -> String) -> Result<Embedding, Failure> {
    match pooled {
        Ok(pooled) => Embedding::normalized(pooled.values).map_err(|error| Failure::of_model(field(), &error)),
        Err(error) => Err(Failure::text(field(), &error)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::vector::write;

    const READABLE: [VectorFormat; 4] =
        [VectorFormat::F32, VectorFormat::F32Bytes, VectorFormat::F16Bytes, VectorFormat::Int8];

    proptest! {
        /// A unit vector survives each format within one step of the format: exactly for f32, 2^-11 relative for f16,
        /// half a step of 1/127 of the largest value for int8.
        #[test]
        fn a_written_vector_is_read_back(values in prop::collection::vec(-1.0f32..1.0, 2..70)) {
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
    fn a_negative_scale_reverses_an_int8_vector_and_the_size_of_a_scale_does_not_matter() {
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
    fn a_format_needs_vectors_and_vectors_need_none() {
        assert_eq!(answered(false, 0), Ok(None));
        assert_eq!(answered(true, 0), Ok(Some(VectorFormat::F32)));
        assert_eq!(answered(true, 4), Ok(Some(VectorFormat::Int8)));
        for (with_vector, format, reason) in [
            (false, 1, "vector_format: is VECTOR_FORMAT_F32 without with_vector: set with_vector too, or leave it out"),
            (true, 6, "vector_format: 6 is not a value of VectorFormat"),
            (false, -1, "vector_format: -1 is not a value of VectorFormat"),
        ] {
            let refused = tonic::Status::from(answered(with_vector, format).unwrap_err());
            assert_eq!(refused.message(), reason);
        }
    }

    #[test]
    fn a_binary_vector_is_refused() {
        let vector = write(vec![1.0, -1.0], VectorFormat::Binary);
        match read("v", &vector, 2) {
            Err(Failure::Invalid(violations)) => assert_eq!(violations[0].field, "v.format"),
            other => panic!("{other:?}"),
        }
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
