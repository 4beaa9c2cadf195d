//! Writes and reads NumPy arrays with one vector in each row (format 1.0 of numpy.lib.format).
//!
//! The number of rows is known only at the end, so the header is then written again. Until then, the file is a valid
//! array without rows. Crates for this format parse every Python literal that a header may have. This module needs one
//! kind of array.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::wire::vector::Values;

/// The length of a written header: a multiple of 64, with enough space for the longest shape.
const HEADER_BYTES: usize = 128;

/// The type of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// A 32-bit float, little-endian.
    F32,
    /// A 16-bit float, little-endian.
    F16,
    /// A byte with 8 dimensions of a binary vector, for `numpy.unpackbits`.
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

    /// Returns an element of a missing vector: NaN, or zero if the type has no NaN.
    fn missing(self) -> Vec<u8> {
        match self {
            Self::F32 => f32::NAN.to_le_bytes().to_vec(),
            Self::F16 => half::f16::NAN.to_le_bytes().to_vec(),
            Self::Bits => vec![0],
        }
    }
}

/// A writer of one array.
#[derive(Debug)]
pub struct Npy<W> {
    out: W,
    element: Element,
    /// The number of bytes of each row; 0 before the first vector.
    row_bytes: usize,
    rows: u64,
}

impl<W: Write + Seek> Npy<W> {
    /// Begins an array. The first vector decides the length of its rows.
    pub fn new(out: W, element: Element) -> Self {
        Self { out, element, row_bytes: 0, rows: 0 }
    }

    /// Adds a vector. It must have the element type of the array and the length of the vectors before it.
    pub fn push(&mut self, values: &Values) -> io::Result<()> {
        let (element, row) = match values {
            Values::F32(values) => (Element::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Values::F16(values) => (Element::F16, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Values::Binary { bytes, .. } => (Element::Bits, bytes.clone()),
            Values::Int8 { .. } => {
                return Err(invalid("int8 vectors have a scale each, which a .npy file cannot store"));
            }
        };
        if self.row_bytes == 0 {
            self.row_bytes = row.len();
            self.write_header(0)?;
            (0..self.rows).try_for_each(|_| self.write_missing())?;
        }
        if element != self.element || row.len() != self.row_bytes {
            return Err(invalid("a vector differs in type or length from those before it"));
        }
        self.rows += 1;
        self.out.write_all(&row)
    }

    /// Adds a row for a text without a vector: NaN, or zeros in an array of bits.
    pub fn push_missing(&mut self) -> io::Result<()> {
        self.rows += 1;
        if self.row_bytes == 0 { Ok(()) } else { self.write_missing() }
    }

    /// Writes the number of rows into the header.
    pub fn finish(mut self) -> io::Result<W> {
        if self.row_bytes == 0 {
            return Err(invalid("no array was written, because no text has a vector"));
        }
        self.out.seek(SeekFrom::Start(0))?;
        self.write_header(self.rows)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn write_missing(&mut self) -> io::Result<()> {
        let element = self.element.missing();
        self.out.write_all(&element.repeat(self.row_bytes / element.len()))
    }

    fn write_header(&mut self, rows: u64) -> io::Result<()> {
        let (descr, columns) = (self.element.descr(), self.row_bytes / self.element.missing().len());
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend((HEADER_BYTES as u16 - 10).to_le_bytes());
        header
            .extend(format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}").bytes());
        // The longest header, with two numbers of 20 digits, has 10 + 59 + 40 bytes.
        header.resize(HEADER_BYTES - 1, b' ');
        header.push(b'\n');
        self.out.write_all(&header)
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Reads the rows of an array of float32 from a file of [`Npy`] or of `numpy.save`.
pub fn read(path: &Path) -> anyhow::Result<Vec<Vec<f32>>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let bytes = file.metadata().with_context(|| format!("cannot read {shown}"))?.len();
    rows(BufReader::new(file), bytes).with_context(|| shown.to_string())
}

/// Reads the rows from a stream. `bytes` is the length of the whole file. It is compared with the header before memory
/// for rows is allocated.
fn rows(mut from: impl Read, bytes: u64) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut begin = [0; 8];
    from.read_exact(&mut begin).context("it is not an .npy file: it is shorter than a header")?;
    ensure!(begin.starts_with(b"\x93NUMPY"), "it is not an .npy file: the magic number at its beginning is missing");
    // Version 1 has two bytes for the length of the header. Later versions have four.
    let mut length = [0; 4];
    let length_bytes = if begin[6] == 1 { 2 } else { 4 };
    from.read_exact(&mut length[..length_bytes]).context("its header is cut off")?;
    let header_bytes = u64::from(u32::from_le_bytes(length));
    let mut header = Vec::new();
    from.by_ref().take(header_bytes).read_to_end(&mut header)?;
    let [rows, columns] = shape(&String::from_utf8_lossy(&header))?;

    let here = bytes.saturating_sub(8 + length_bytes as u64 + header_bytes);
    let row_bytes = columns.checked_mul(4).filter(|&bytes| bytes > 0).context("its rows are empty")?;
    ensure!(
        rows.checked_mul(row_bytes) == usize::try_from(here).ok(),
        "its header promises {rows} rows of {row_bytes} bytes, and {here} bytes follow it"
    );
    let mut row = vec![0; row_bytes];
    (0..rows)
        .map(|_| {
            from.read_exact(&mut row)?;
            Ok(row.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        })
        .collect()
}

/// Reads the numbers of rows and columns from a header. The elements must be float32, stored by rows.
fn shape(header: &str) -> anyhow::Result<[usize; 2]> {
    let value = |key: &str| {
        let (_, rest) = header.split_once(&format!("'{key}':")).with_context(|| format!("its header has no {key}"))?;
        anyhow::Ok(rest.trim_start())
    };
    let descr = value("descr")?;
    if !descr.starts_with("'<f4'") {
        let kind = descr.split(',').next().unwrap_or_default();
        bail!("its elements are {kind}, and must be '<f4', float32");
    }
    ensure!(value("fortran_order")?.starts_with("False"), "it is stored by columns, and must be stored by rows");
    let numbers = value("shape")?.trim_start_matches('(').split_once(')').context("the shape has no end")?.0;
    let sizes: Vec<Option<usize>> =
        numbers.split(',').map(str::trim).filter(|size| !size.is_empty()).map(|size| size.parse().ok()).collect();
    match sizes[..] {
        [Some(rows), Some(columns)] => Ok([rows, columns]),
        _ => bail!("its shape is ({numbers}), and must be (rows, columns)"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use half::f16;
    use proptest::prelude::*;

    use super::*;

    fn written(rows: &[Vec<f32>]) -> Vec<u8> {
        let mut npy = Npy::new(Cursor::new(Vec::new()), Element::F32);
        rows.iter().for_each(|row| npy.push(&Values::F32(row.clone())).unwrap());
        npy.finish().unwrap().into_inner()
    }

    fn failure(bytes: &[u8]) -> String {
        format!("{:#}", rows(bytes, bytes.len() as u64).unwrap_err())
    }

    #[test]
    fn the_header_is_numpys_to_the_byte() {
        let mut expected =
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }".to_vec();
        expected.resize(127, b' ');
        expected.extend(b"\n\x00\x00\x80\x3f\x00\x00\x00\xc0");
        assert_eq!(written(&[vec![1.0, -2.0]]), expected);
    }

    #[test]
    fn the_header_has_room_for_any_shape() {
        let mut npy = Npy { out: Cursor::new(Vec::new()), element: Element::Bits, row_bytes: usize::MAX, rows: 0 };
        npy.write_header(u64::MAX).unwrap();
        let longest = npy.out.into_inner();
        assert!(longest.len() == HEADER_BYTES && longest.ends_with(b" \n"));
    }

    #[test]
    fn an_unfinished_file_is_an_array_of_no_rows() {
        let mut npy = Npy::new(Cursor::new(Vec::new()), Element::F16);
        npy.push(&Values::F16(vec![f16::ONE.to_bits()])).unwrap();
        let bytes = npy.out.into_inner();
        assert!(String::from_utf8_lossy(&bytes).contains("'<f2', 'fortran_order': False, 'shape': (0, 1)"));
    }

    #[test]
    fn missing_vectors_keep_their_rows_before_the_first_vector_too() {
        let mut npy = Npy::new(Cursor::new(Vec::new()), Element::F32);
        npy.push_missing().unwrap();
        npy.push(&Values::F32(vec![1.0, 2.0])).unwrap();
        npy.push_missing().unwrap();
        let bytes = npy.finish().unwrap().into_inner();
        let all = rows(&bytes[..], bytes.len() as u64).unwrap();
        assert!(all.len() == 3 && all[1] == [1.0, 2.0] && all[0].iter().chain(&all[2]).all(|x| x.is_nan()), "{all:?}");
        let mut none = Npy::new(Cursor::new(Vec::new()), Element::F32);
        none.push_missing().unwrap();
        assert!(none.finish().is_err());
    }

    #[test]
    fn rows_of_another_kind_or_length_are_refused() {
        let mut npy = Npy::new(Cursor::new(Vec::new()), Element::Bits);
        npy.push(&Values::Binary { bytes: vec![1, 128], dimensions: 9 }).unwrap();
        assert!(npy.push(&Values::Binary { bytes: vec![1], dimensions: 8 }).is_err());
        assert!(npy.push(&Values::F32(vec![0.0; 2])).is_err());
        assert!(npy.push(&Values::Int8 { bytes: vec![1, 2], scale: 1.0 }).is_err());
    }

    proptest! {
        #[test]
        fn written_rows_are_read(values in prop::collection::vec(prop::num::f32::NORMAL, 1..60), columns in 1usize..6) {
            let all: Vec<Vec<f32>> = values.chunks_exact(columns).map(<[f32]>::to_vec).collect();
            prop_assume!(!all.is_empty());
            let bytes = written(&all);
            prop_assert_eq!(rows(&bytes[..], bytes.len() as u64).unwrap(), all);
        }

        #[test]
        fn any_bytes_are_an_array_or_an_error(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [b"\x93NUMPY\x01\x00".as_slice(), &tail].concat();
            let _ = rows(&bytes[..], bytes.len() as u64);
        }
    }

    #[test]
    fn a_header_of_the_second_version_is_read() {
        let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n";
        bytes.extend((header.len() as u32).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend([1f32, 2.0].iter().flat_map(|x| x.to_le_bytes()));
        assert_eq!(rows(&bytes[..], bytes.len() as u64).unwrap(), [[1.0, 2.0]]);
    }

    #[test]
    fn other_arrays_are_refused_with_what_they_are() {
        let whole = written(&[vec![1.0, 2.0]]);
        let half = String::from_utf8_lossy(&whole[10..HEADER_BYTES]).replace("<f4", "<f2");
        assert!(shape(&half).unwrap_err().to_string().contains("its elements are '<f2'"));
        assert!(failure(b"{\"text\": \"one\"}").contains("not an .npy file"));
        assert!(failure(&whole[..whole.len() - 1]).contains("1 rows of 8 bytes, and 7"));
        for (shape, reason) in
            [("(5,)", "its shape is (5,)"), ("(2, 3, 4)", "its shape is (2, 3, 4)"), ("(2", "no end")]
        {
            let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
            let header = if reason == "no end" { header.replace(')', "") } else { header };
            assert!(super::shape(&header).unwrap_err().to_string().contains(reason), "{header}");
        }
        let columns = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }";
        assert!(super::shape(columns).unwrap_err().to_string().contains("by columns"));
    }
}
