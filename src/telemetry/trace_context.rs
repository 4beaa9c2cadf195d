//! The trace that a caller names (W3C Trace Context, `traceparent`), and the choice of the calls that are traced.
//!
//! Invariant: a caller whom nobody knows cannot decide that its calls are traced. Its sampled flag is ignored, and it
//! cannot choose a trace id that a ratio keeps.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;

/// The id of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The span of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceParent {
    pub trace: TraceId,
    pub span: u64,
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads `traceparent`. A header that is not one is ignored, as the standard asks.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get("traceparent")?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let hex = |at: std::ops::Range<usize>| {
            let digits = text.get(at)?;
            let all = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            all.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
        };
        let dashes = [2, 35, 52].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        let (version, trace, span, flags) = (hex(0..2)?, hex(3..35)?, hex(36..52)?, hex(53..55)?);
        // Later versions may have more fields behind these.
        let ends = text.len() == 55 || (version > 0 && text.as_bytes().get(55) == Some(&b'-'));
        let is_sound = dashes && ends && version != 0xff && trace != 0 && span != 0;
        is_sound.then_some(Self { trace: TraceId(trace), span: span as u64, is_sampled: flags & 1 == 1 })
    }
}

/// The choice for a call that no caller decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Root {
    /// All calls are traced.
    Always,
    /// None is.
    Never,
    /// This share of them is, from 0 to 1.
    Ratio(f64),
}

/// The choice of calls.
#[derive(Debug)]
pub(super) struct Sampling {
    root: Root,
    /// An authenticated caller decides by its sampled flag.
    follows_caller: bool,
    /// A secret of this process, so that nobody can tell which trace ids a ratio keeps.
    secret: RandomState,
    calls: AtomicU64,
}

impl Sampling {
    pub(super) fn new(root: Root, follows_caller: bool) -> Self {
        Self { root, follows_caller, secret: RandomState::new(), calls: AtomicU64::new(0) }
    }

    /// Decides about a call with this parent.
    pub(super) fn keeps(&self, parent: Option<TraceParent>, is_authenticated: bool) -> bool {
        match (parent, self.root) {
            (Some(parent), _) if is_authenticated && self.follows_caller => parent.is_sampled,
            (_, Root::Always) => true,
            (_, Root::Never) => false,
            // Every service that has this ratio chooses the same traces.
            (Some(parent), Root::Ratio(ratio)) if is_authenticated => is_below(ratio, parent.trace.0 as u64),
            (Some(parent), Root::Ratio(ratio)) => is_below(ratio, self.secret.hash_one(parent.trace.0)),
            (None, Root::Ratio(ratio)) => {
                is_below(ratio, self.secret.hash_one(self.calls.fetch_add(1, Ordering::Relaxed)))
            }
        }
    }
}

/// True for `ratio` of all `bits`. OpenTelemetry's samplers compare the lower 63 bits of the trace id in this way.
fn is_below(ratio: f64, bits: u64) -> bool {
    bits >> 1 < (ratio * (1_u64 << 63) as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let parent = TraceParent::parse(SAMPLED).unwrap();
        assert_eq!(parent.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((parent.span, parent.is_sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert!(!TraceParent::parse(&SAMPLED.replace("-01", "-02")).unwrap().is_sampled);
        assert!(TraceParent::parse(&format!("01{}-more", &SAMPLED[2..])).is_some());
        let wrong = [
            String::new(),
            SAMPLED[..54].to_owned(),
            format!("{SAMPLED}-more"),
            SAMPLED.to_uppercase(),
            SAMPLED.replace('-', "_"),
            SAMPLED.replace("00f067aa0ba902b7", "0000000000000000"),
            SAMPLED.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            format!("ff{}", &SAMPLED[2..]),
            SAMPLED.replace("4bf9", "é9"),
        ];
        for text in wrong {
            assert_eq!(TraceParent::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn only_an_authenticated_caller_decides_that_its_call_is_traced() {
        let parent = |is_sampled| Some(TraceParent { trace: TraceId(1), span: 1, is_sampled });
        let never = Sampling::new(Root::Never, true);
        assert!(never.keeps(parent(true), true) && !never.keeps(parent(false), true));
        assert!(!never.keeps(parent(true), false));
        let always = Sampling::new(Root::Always, true);
        assert!(always.keeps(parent(false), false) && !always.keeps(parent(false), true));
        assert!(Sampling::new(Root::Always, false).keeps(parent(false), true), "it does not follow callers");
    }

    #[test]
    fn a_ratio_keeps_its_share_and_strangers_cannot_choose_an_id_that_it_keeps() {
        let sampling = Sampling::new(Root::Ratio(0.25), false);
        let parent = |n: u64| Some(TraceParent { trace: TraceId(u128::from(n)), span: 1, is_sampled: true });
        let kept = |keeps: &dyn Fn(u64) -> bool| (0..4000).filter(|n| keeps(*n)).count();
        for kept in [kept(&|_| sampling.keeps(None, false)), kept(&|n| sampling.keeps(parent(n), false))] {
            assert!((800..1200).contains(&kept), "{kept} of 4000");
        }
        assert_eq!(kept(&|n| sampling.keeps(parent(n), true)), 4000, "small ids are kept by every service");
        let ends = [(0.0, 0), (1.0, 4000)];
        for (ratio, expected) in ends {
            let sampling = Sampling::new(Root::Ratio(ratio), false);
            assert_eq!(kept(&|n| sampling.keeps(parent(n), false)), expected);
        }
    }
}
