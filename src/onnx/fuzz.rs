//! Fuzz target: graphs of any bytes, before a runtime sees them.

use std::io::Cursor;

use super::precheck::read;

/// Checks bytes as the file of a graph.
pub(crate) fn graph(bytes: &[u8]) {
    let _ = read(Cursor::new(bytes), bytes.len() as u64);
    // The stated length differs from that of the bytes, as with a file that is being written.
    let _ = read(Cursor::new(bytes), bytes.len() as u64 + 9);
}

/// Returns a valid graph to start from.
pub(crate) fn graphs() -> Vec<Vec<u8>> {
    // ir_version 8, opset 13, and a graph with one node that has a tensor for an attribute.
    let tensor = [vec![0x08, 2, 0x10, 1, 0x4a, 8], vec![0; 8]].concat();
    let attribute = [vec![0x0a, 1, b'v', 0x2a, tensor.len() as u8], tensor].concat();
    let node =
        [vec![0x12, 1, b'y', 0x22, 8], b"Constant".to_vec(), vec![0x2a, attribute.len() as u8], attribute].concat();
    let graph = [vec![0x0a, node.len() as u8], node, vec![0x12, 1, b'g']].concat();
    vec![[vec![0x08, 8, 0x42, 2, 0x10, 13, 0x3a, graph.len() as u8], graph].concat()]
}
