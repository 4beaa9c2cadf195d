//! Vectors with equal codes share one node. As separate nodes they would fill each other's links.
//!
//! Invariant: every vector belongs to exactly one point, and no two points have equal codes.

use std::collections::HashMap;

use super::codes::Codes;

/// Distinct codes, and the vectors that have them.
pub struct Distinct {
    codes: Codes,
    /// The first vector with the codes of each point.
    firsts: Vec<u32>,
    /// The other vectors of a point.
    duplicates: HashMap<u32, Vec<u32>>,
    /// The points that have a digest.
    by_digest: HashMap<u32, Vec<u32>>,
    vectors: u32,
}

impl Distinct {
    /// An empty set, for vectors of `dimensions` components.
    pub fn new(dimensions: usize) -> Distinct {
        let codes = Codes::new(dimensions);
        Distinct { codes, firsts: Vec::new(), duplicates: HashMap::new(), by_digest: HashMap::new(), vectors: 0 }
    }

    /// Adds a vector and returns its point. Vectors are numbered in the order of these calls.
    pub fn push(&mut self, vector: &[f32]) -> u32 {
        let number = self.vectors;
        self.vectors += 1;
        let point = self.codes.push(vector);
        let same = self.by_digest.entry(self.codes.digest(point)).or_default();
        let duplicate = same.iter().copied().find(|&other| self.codes.blocks_of(other) == self.codes.blocks_of(point));
        if let Some(duplicate) = duplicate {
            self.codes.pop();
            self.duplicates.entry(duplicate).or_default().push(number);
            return duplicate;
        }
        same.push(point);
        self.firsts.push(number);
        point
    }

    /// The codes of the points, and the vectors that have them.
    pub fn into_parts(self) -> (Codes, Members) {
        (self.codes, Members { firsts: self.firsts, duplicates: self.duplicates })
    }
}

/// The vectors of each point.
pub struct Members {
    firsts: Vec<u32>,
    duplicates: HashMap<u32, Vec<u32>>,
}

impl Members {
    /// The vectors of a point, at least one.
    pub fn of(&self, point: u32) -> impl Iterator<Item = u32> {
        let duplicates = if self.duplicates.is_empty() { None } else { self.duplicates.get(&point) };
        std::iter::once(self.firsts[point as usize]).chain(duplicates.into_iter().flatten().copied())
    }
}
