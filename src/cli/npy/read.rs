//! Reads a NumPy array of float32 in rows, as [`super::Npy`] writes it and `numpy.save` does.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// The rows of a file's array, each of the same length.
pub fn read(path: &Path) -> anyhow::Result<Vec<Vec<f32>>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let bytes = file.metadata().with_context(|| format!("cannot read {shown}"))?.len();
    rows(BufReader::new(file), bytes).with_context(|| shown.to_string())
}

/// `bytes`: of the whole file.
fn rows(mut from: impl Read, bytes: u64) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut begin = [0; 8];
    from.read_exact(&mut begin).context("it is no .npy file: it has no header")?;
    ensure!(begin.starts_with(b"\x93NUMPY"), "it is no .npy file: it does not begin as one");
    // Version 1 has two bytes for the header's length, the later ones have four.
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
        "its header names {rows} rows of {row_bytes} bytes, and it has {here} bytes of them"
    );
    let mut row = vec![0; row_bytes];
    (0..rows)
        .map(|_| {
            from.read_exact(&mut row)?;
            Ok(row.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        })
        .collect()
}

/// Rows and columns that a header names, if it is one of float32 in rows.
fn shape(header: &str) -> anyhow::Result<[usize; 2]> {
    let value = |key: &str| {
        let (_, rest) = header.split_once(&format!("'{key}':")).with_context(|| format!("its header has no {key}"))?;
        anyhow::Ok(rest.trim_start())
    };
    let descr = value("descr")?;
    if !descr.starts_with("'<f4'") {
        let kind = descr.split(',').next().unwrap_or_default();
        bail!("its elements are {kind}, and '<f4', float32, is needed");
    }
    ensure!(value("fortran_order")?.starts_with("False"), "it is stored by columns, and rows are needed");
    let numbers = value("shape")?.trim_start_matches('(').split_once(')').context("the shape has no end")?.0;
    let sizes: Option<Vec<usize>> =
        numbers.split(',').map(str::trim).filter(|size| !size.is_empty()).map(|size| size.parse().ok()).collect();
    match sizes.as_deref() {
        Some(&[rows, columns]) => Ok([rows, columns]),
        _ => bail!("its shape is ({numbers}), and (rows, columns) is needed"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::super::{Element, Npy};
    use super::*;
    use crate::wire::vector::Values;

    fn written(element: Element, rows: &[Vec<f32>]) -> Vec<u8> {
        let mut npy = Npy::new(Cursor::new(Vec::new()), element, rows.first().map_or(1, Vec::len)).unwrap();
        rows.iter().for_each(|row| npy.push(&Values::F32(row.clone())).unwrap());
        npy.finish().unwrap().into_inner()
    }

    fn failure(bytes: &[u8]) -> String {
        format!("{:#}", rows(bytes, bytes.len() as u64).unwrap_err())
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(values in prop::collection::vec(prop::num::f32::NORMAL, 1..60), columns in 1usize..6) {
            let all: Vec<Vec<f32>> = values.chunks_exact(columns).map(<[f32]>::to_vec).collect();
            prop_assume!(!all.is_empty());
            let bytes = written(Element::F32, &all);
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
        assert!(failure(&written(Element::F16, &[])).contains("its elements are '<f2'"));
        assert!(failure(b"{\"text\": \"one\"}").contains("no .npy file"));
        let whole = written(Element::F32, &[vec![1.0, 2.0]]);
        assert!(failure(&whole[..whole.len() - 1]).contains("1 rows of 8 bytes, and it has 7"));
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
