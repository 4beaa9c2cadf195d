//! Writes a NumPy array of unknown length, row by row (format 1.0 of numpy.lib.format). [`read`] reads one.

pub mod read;

use std::io::{self, Seek, SeekFrom, Write};

use crate::wire::vector::Values;

/// The header's length: a multiple of 64, with room for the longest shape.
const HEADER_BYTES: usize = 128;

/// What an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 4 bytes, little-endian.
    F32,
    /// 2 bytes, little-endian.
    F16,
    /// 8 dimensions of a binary vector, for `numpy.unpackbits`.
    Bits,
}

impl Element {
    fn descr(self) -> &'static str {
        match self {
            Self::F32 => "<f4",
            Self::F16 => "<f2",
            Self::Bits => "|u1",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Bits => 1,
        }
    }
}

/// An array that grows. Until [`finish`](Self::finish) the file is a valid array of no rows.
#[derive(Debug)]
pub struct Npy<W> {
    out: W,
    element: Element,
    columns: usize,
    rows: u64,
}

impl<W: Write + Seek> Npy<W> {
    /// Begins an array for vectors of so many dimensions.
    pub fn new(mut out: W, element: Element, dimensions: usize) -> io::Result<Self> {
        let columns = if element == Element::Bits { dimensions.div_ceil(8) } else { dimensions };
        out.write_all(&header(element, 0, columns))?;
        Ok(Self { out, element, columns, rows: 0 })
    }

    /// Adds a vector, which must be of the array's element and dimensions.
    pub fn push(&mut self, values: &Values) -> io::Result<()> {
        let (element, bytes) = match values {
            Values::F32(values) => (Element::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Values::F16(values) => (Element::F16, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Values::Binary { bytes, .. } => (Element::Bits, bytes.clone()),
            Values::Int8 { .. } => {
                return Err(mismatch("int8 vectors have a scale each, an array has no place for it"));
            }
        };
        self.add(element, &bytes)
    }

    /// Adds a row for a text without a vector: NaN, or zeros where there is none.
    pub fn push_missing(&mut self) -> io::Result<()> {
        let element = self.element;
        let row = match element {
            Element::F32 => f32::NAN.to_le_bytes().repeat(self.columns),
            Element::F16 => half::f16::NAN.to_le_bytes().repeat(self.columns),
            Element::Bits => vec![0; self.columns],
        };
        self.add(element, &row)
    }

    /// Writes the number of rows into the header.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header(self.element, self.rows, self.columns))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn add(&mut self, element: Element, row: &[u8]) -> io::Result<()> {
        if element != self.element || row.len() != self.columns * element.bytes() {
            return Err(mismatch("a vector differs in type or length from those before it"));
        }
        self.rows += 1;
        self.out.write_all(row)
    }
}

fn mismatch(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn header(element: Element, rows: u64, columns: usize) -> Vec<u8> {
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    let length = u16::try_from(HEADER_BYTES - 10).expect("118 is a u16");
    header.extend(length.to_le_bytes());
    let descr = element.descr();
    header.extend(format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}").bytes());
    // The longest, with two numbers of 20 digits, is 10 + 59 + 40 bytes.
    header.resize(HEADER_BYTES - 1, b' ');
    header.push(b'\n');
    header
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use half::f16;

    use super::*;

    #[test]
    fn the_header_is_numpys_to_the_byte() {
        let mut npy = Npy::new(Cursor::new(Vec::new()), Element::F32, 2).unwrap();
        npy.push(&Values::F32(vec![1.0, -2.0])).unwrap();
        let bytes = npy.finish().unwrap().into_inner();
        let mut expected =
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }".to_vec();
        expected.resize(127, b' ');
        expected.extend(b"\n\x00\x00\x80\x3f\x00\x00\x00\xc0");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_header_has_room_for_any_shape() {
        let longest = header(Element::F32, u64::MAX, usize::MAX);
        assert_eq!((longest.len(), longest.last()), (HEADER_BYTES, Some(&b'\n')));
        assert!(longest.ends_with(b" \n"));
    }

    #[test]
    fn an_unfinished_file_is_an_array_of_no_rows() {
        let mut npy = Npy::new(Cursor::new(Vec::new()), Element::F16, 1).unwrap();
        npy.push(&Values::F16(vec![f16::ONE])).unwrap();
        let bytes = npy.out.into_inner();
        assert!(String::from_utf8_lossy(&bytes).contains("'<f2', 'fortran_order': False, 'shape': (0, 1)"));
    }

    #[test]
    fn a_missing_vector_keeps_its_row() {
        let mut npy = Npy::new(Cursor::new(Vec::new()), Element::F32, 1).unwrap();
        npy.push_missing().unwrap();
        let bytes = npy.finish().unwrap().into_inner();
        assert!(f32::from_le_bytes(bytes[HEADER_BYTES..].try_into().unwrap()).is_nan());
    }

    #[test]
    fn rows_of_another_kind_or_length_are_refused() {
        let mut npy = Npy::new(Cursor::new(Vec::new()), Element::Bits, 9).unwrap();
        npy.push(&Values::Binary { bytes: vec![1, 128], dimensions: 9 }).unwrap();
        assert!(npy.push(&Values::Binary { bytes: vec![1], dimensions: 8 }).is_err());
        assert!(npy.push(&Values::F32(vec![0.0; 2])).is_err());
        assert!(npy.push(&Values::Int8 { bytes: vec![1, 2], scale: 1.0 }).is_err());
    }
}
