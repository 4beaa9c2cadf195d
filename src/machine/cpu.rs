//! The CPU instructions of this machine, detected once, so that all kernels use the same.
//!
//! Invariant: [`level`] never returns a level that the machine lacks. The `unsafe` calls of the kernels rely on it.

#[cfg(target_arch = "x86_64")]
mod amx;

use std::fmt;
use std::sync::OnceLock;

use thiserror::Error;

/// A set of vector instructions for which kernels exist. In one architecture a later level includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Any machine: plain Rust as compiled.
    Portable,
    /// aarch64: 128-bit NEON.
    Neon,
    /// x86-64: 256-bit AVX2 with fused multiply-add.
    Avx2Fma,
    /// AVX2 with the byte dot product of AVX-VNNI.
    AvxVnni,
    /// x86-64: 512-bit AVX-512 (F, BW, DQ, VL).
    Avx512,
    /// AVX-512 with the byte dot product of AVX512_VNNI.
    Avx512Vnni,
    /// AVX512_VNNI with AMX: tiles of bytes and bf16.
    Amx,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Level; 7] =
        [Level::Portable, Level::Neon, Level::Avx2Fma, Level::AvxVnni, Level::Avx512, Level::Avx512Vnni, Level::Amx];

    /// Returns true if this machine has the instructions of the level.
    pub fn is_supported(self) -> bool {
        match self {
            Level::Portable => true,
            Level::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2Fma => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => Level::Avx2Fma.is_supported() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => Level::Avx512.is_supported() && is_x86_feature_detected!("avx512vnni"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2Fma.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Amx => Level::Avx512Vnni.is_supported() && amx::is_usable(),
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2Fma | Level::AvxVnni | Level::Avx512 | Level::Avx512Vnni | Level::Amx => false,
        }
    }

    /// The levels of this machine, lowest first.
    pub fn supported() -> impl Iterator<Item = Level> {
        Level::ALL.into_iter().filter(|level| level.is_supported())
    }

    /// The name of the level, which [`Level::from_name`] parses.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Neon => "neon",
            Level::Avx2Fma => "avx2",
            Level::AvxVnni => "avx-vnni",
            Level::Avx512 => "avx512",
            Level::Avx512Vnni => "avx512-vnni",
            Level::Amx => "amx",
        }
    }

    /// The level with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The reason why a level cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ForceError {
    /// The machine lacks the instructions of the level.
    #[error("this machine has no {asked}: use {best}, its best level, or a lower one")]
    Unsupported { asked: Level, best: Level },
    /// A kernel has already run at another level.
    #[error("kernels already run at level {active}, too late for {asked}")]
    TooLate { asked: Level, active: Level },
}

static ACTIVE: OnceLock<Level> = OnceLock::new();

/// The level of all kernels: the machine's best, unless [`force`] chose a lower one before.
#[inline]
pub fn level() -> Level {
    *ACTIVE.get_or_init(best)
}

/// Makes all kernels use `asked`, to compare levels or to avoid a faulty instruction. Call it at the start: once a
/// kernel has run, the level is fixed.
pub fn force(asked: Level) -> Result<(), ForceError> {
    if !asked.is_supported() {
        return Err(ForceError::Unsupported { asked, best: best() });
    }
    match *ACTIVE.get_or_init(|| asked) {
        active if active == asked => Ok(()),
        active => Err(ForceError::TooLate { asked, active }),
    }
}

fn best() -> Level {
    Level::supported().last().unwrap_or(Level::Portable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_active_level_is_one_the_machine_has() {
        assert!(level().is_supported());
        assert!(Level::supported().any(|l| l == Level::Portable));
    }

    #[test]
    fn forcing_the_active_level_again_is_allowed_and_another_is_too_late() {
        let active = level();
        assert_eq!(force(active), Ok(()));
        if active != Level::Portable {
            assert_eq!(force(Level::Portable), Err(ForceError::TooLate { asked: Level::Portable, active }));
        }
    }

    #[test]
    fn a_level_of_another_architecture_is_refused_with_the_best_one_named() {
        let foreign = if cfg!(target_arch = "aarch64") { Level::Avx512 } else { Level::Neon };
        assert_eq!(force(foreign), Err(ForceError::Unsupported { asked: foreign, best: best() }));
    }

    #[test]
    fn names_are_read_back() {
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
        }
        assert_eq!(Level::from_name("sse9"), None);
    }
}
