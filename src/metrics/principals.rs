//! Callers with names: their calls by code, their tokens, and what they store beside their limits.
//!
//! Invariants: however many callers there are, at most as many have series of their own as the settings allow: those
//! that called, or stored something, first. They keep them, because a counter must not jump. The others are one series,
//! [`OTHERS`]. A name is one of the file of keys, and never of a message. Without keys a call costs nothing here; with
//! them, a lock that is held for a look-up.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::families::{Families, Family, Labels};
use crate::collection::Usage;
use crate::compute::{Limit, Limits};
use crate::rpc::Engine;
use crate::server::{CODES, CallObserver, CallRecord, Method};

/// The label of all callers without series of their own. No caller has this name.
const OTHERS: &str = "(others)";

/// The label of a series with the name of a caller.
const LABEL: &str = "principal";

/// The calls of each caller.
pub struct Principals {
    /// The callers that may have series of their own.
    most: usize,
    named: RwLock<HashMap<Arc<str>, Arc<Calls>>>,
    others: Arc<Calls>,
}

/// The calls of a caller that ended, by code.
#[derive(Default)]
struct Calls([AtomicU64; CODES.len()]);

impl CallObserver for Principals {
    fn began(&self, _: Method) {}

    fn ended(&self, record: &CallRecord) {
        if let Some(name) = &record.principal
            && let Some(counter) = self.calls(name).0.get(record.code as usize)
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The use of the models and of the store by a caller, or by several together.
#[derive(Default)]
struct Figures {
    tokens: u64,
    stored: Usage,
    /// Those of one caller; several have none together.
    limits: Limits,
}

impl Principals {
    /// At most `most` callers get series of their own.
    pub fn new(most: usize) -> Self {
        Self { most, named: RwLock::default(), others: Arc::default() }
    }

    /// The calls of a caller, which gets a series of its own if there is room.
    fn calls(&self, name: &Arc<str>) -> Arc<Calls> {
        let find = |named: &HashMap<Arc<str>, Arc<Calls>>| match named.get(name) {
            Some(calls) => Some(Arc::clone(calls)),
            None => (named.len() >= self.most).then(|| Arc::clone(&self.others)),
        };
        // Nothing panics while it holds the lock.
        if let Some(calls) = find(&self.named.read().unwrap_or_else(PoisonError::into_inner)) {
            return calls;
        }
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        find(&named).unwrap_or_else(|| Arc::clone(named.entry(Arc::clone(name)).or_default()))
    }

    /// The label of a caller: its name, if it has series of its own.
    fn label(&self, name: &Arc<str>) -> Arc<str> {
        if Arc::ptr_eq(&self.calls(name), &self.others) { OTHERS.into() } else { Arc::clone(name) }
    }

    /// Writes the family of calls.
    pub fn write_calls(&self, families: &mut Families<'_>) -> fmt::Result {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: Vec<(Arc<str>, Arc<Calls>)> = named.into_iter().collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.push((OTHERS.into(), Arc::clone(&self.others)));
        let series = all.iter().flat_map(|(name, calls)| {
            let counted = CODES.iter().zip(&calls.0).map(|(code, counter)| (*code, counter.load(Ordering::Relaxed)));
            counted.filter(|(_, n)| *n > 0).map(move |(code, n)| {
                let mut labels = labels(name);
                labels.push(("grpc_code", code.into()));
                (labels, n)
            })
        });
        families.counters(Family::of("cognate_principal_calls", "Calls that ended, by caller and code."), series)
    }

    /// Writes the families of what callers use of the engine.
    pub fn write_use(&self, families: &mut Families<'_>, engine: &Engine) -> fmt::Result {
        let mut each: BTreeMap<Arc<str>, Figures> = BTreeMap::new();
        for allowance in engine.pools.allowances.all() {
            let (tokens, limits) = (allowance.submitted(), allowance.limits());
            each.insert(Arc::clone(allowance.name()), Figures { tokens, limits, ..Figures::default() });
        }
        let local = engine.store.unguarded().local();
        for (owner, stored) in local.map(|store| store.used_by_owners()).unwrap_or_default() {
            each.entry(owner).or_default().stored = stored;
        }
        let mut all: BTreeMap<Arc<str>, Figures> = BTreeMap::new();
        for (name, figures) in each {
            if figures.tokens == 0 && figures.stored == Usage::default() && figures.limits == Limits::default() {
                continue;
            }
            let label = self.label(&name);
            let is_alone = label == name;
            let sum = all.entry(label).or_default();
            sum.tokens += figures.tokens;
            sum.stored += figures.stored;
            if is_alone {
                sum.limits = figures.limits;
            }
        }
        write_figures(families, &all)
    }
}

fn write_figures(families: &mut Families<'_>, all: &BTreeMap<Arc<str>, Figures>) -> fmt::Result {
    let each = |value: fn(&Figures) -> u64| all.iter().map(move |(name, figures)| (labels(name), value(figures)));
    let limit =
        |limit: Limit| all.iter().filter_map(move |(name, figures)| Some((labels(name), figures.limits.get(limit)?)));
    families.counters(
        Family::of("cognate_principal_tokens", "Tokens that the models were given, by caller."),
        each(|figures| figures.tokens),
    )?;
    families.gauges(
        Family::of("cognate_principal_documents", "Documents of the collections that a caller created."),
        each(|figures| figures.stored.documents as u64),
    )?;
    families.gauges(
        Family::of("cognate_principal_documents_limit", "Documents that they may have (documents of the key)."),
        limit(Limit::Documents),
    )?;
    families.gauges(
        Family::bytes("cognate_principal_stored", "Memory of the collections that a caller created."),
        each(|figures| figures.stored.bytes as u64),
    )?;
    families.gauges(
        Family::bytes("cognate_principal_stored_limit", "Memory that they may take (stored_bytes of the key)."),
        limit(Limit::StoredBytes),
    )
}

fn labels(name: &str) -> Labels {
    vec![(LABEL, name.to_owned().into())]
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::{DescriptorEncoder, text};
    use prometheus_client::registry::Registry;

    use super::*;

    #[derive(Debug)]
    struct Written(Arc<Principals>);

    impl fmt::Debug for Principals {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Principals")
        }
    }

    impl Collector for Written {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            self.0.write_calls(&mut Families::new(encoder))
        }
    }

    /// The samples of a scrape after one call of each of these callers.
    fn samples(most: usize, names: &[&str]) -> Vec<String> {
        let principals = Arc::new(Principals::new(most));
        for name in names {
            principals.calls(&Arc::from(*name)).0[0].fetch_add(1, Ordering::Relaxed);
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Written(principals)));
        let mut written = String::new();
        text::encode(&mut written, &registry).unwrap();
        written.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    fn sample(name: &str, n: u64) -> String {
        format!("cognate_principal_calls_total{{principal=\"{name}\",grpc_code=\"OK\"}} {n}")
    }

    #[test]
    fn the_first_callers_have_series_of_their_own_and_all_others_have_one() {
        let names = ["b", "a", "c", "d", "a", "c", "b"];
        assert_eq!(samples(2, &names), [sample("a", 2), sample("b", 2), sample("(others)", 3)]);
        assert_eq!(samples(9, &names).len(), 4);
        assert_eq!(samples(0, &names), [sample("(others)", 7)]);
    }

    #[test]
    fn a_name_cannot_break_out_of_its_label() {
        assert_eq!(samples(2, &["a\"} 1\nx\\"]), [sample("a\\\"} 1\\nx\\\\", 1)]);
    }
}
