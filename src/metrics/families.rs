//! Metric families: a name, a help text and series of values with labels.
//!
//! Invariant: a name has its unit at the end, and a counter `_total` behind it, as OpenMetrics demands. The encoder
//! adds both.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::compute::Distribution;

/// The labels of a series: names and values.
pub type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// The name and the help text of a family.
#[derive(Clone)]
pub struct Family {
    /// The name, without its unit.
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
}

impl Family {
    /// A family of plain numbers.
    pub fn of(name: &'static str, help: &'static str) -> Self {
        Self { name, help, unit: None }
    }

    /// A family of bytes.
    pub fn bytes(name: &'static str, help: &'static str) -> Self {
        Self { name, help, unit: Some(Unit::Bytes) }
    }

    /// A family of seconds.
    pub fn seconds(name: &'static str, help: &'static str) -> Self {
        Self { name, help, unit: Some(Unit::Seconds) }
    }

    /// The part of a second, or of one, that a value of a distribution counts.
    fn scale(&self) -> f64 {
        if matches!(self.unit, Some(Unit::Seconds)) { Duration::from_nanos(1).as_secs_f64() } else { 1.0 }
    }
}

/// The families of a scrape, as they are written.
pub struct Families<'a>(DescriptorEncoder<'a>);

impl<'a> Families<'a> {
    /// Writes to `encoder`.
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Writes a family of counters.
    pub fn counters<V: EncodeCounterValue>(
        &mut self,
        family: Family,
        series: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        self.family(family, MetricType::Counter, series, |encoder, value| {
            encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
        })
    }

    /// Writes a family of gauges.
    pub fn gauges<V: EncodeGaugeValue>(
        &mut self,
        family: Family,
        series: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        self.family(family, MetricType::Gauge, series, |encoder, value| encoder.encode_gauge(value))
    }

    /// Writes a counter without labels.
    pub fn counter<V: EncodeCounterValue>(&mut self, family: Family, value: V) -> fmt::Result {
        self.counters(family, [(Labels::new(), value)])
    }

    /// Writes a gauge of a whole number without labels, if it has a value.
    pub fn gauge(&mut self, family: Family, value: impl Into<Option<u64>>) -> fmt::Result {
        self.gauges(family, value.into().map(|value| (Labels::new(), value)))
    }

    /// Writes a family of histograms. The values of a family of seconds are nanoseconds.
    pub fn histograms(
        &mut self,
        family: Family,
        series: impl IntoIterator<Item = (Labels, Distribution)>,
    ) -> fmt::Result {
        let scale = family.scale();
        self.family(family, MetricType::Histogram, series, |encoder, Distribution { bounds, counts, sum }| {
            let bounds = bounds.iter().map(|bound| *bound as f64 * scale).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
            let count = counts.iter().sum();
            encoder.encode_histogram::<NoLabelSet>(*sum as f64 * scale, count, &buckets, None)
        })
    }

    /// Writes facts as labels.
    pub fn infos(&mut self, family: Family, series: impl IntoIterator<Item = Labels>) -> fmt::Result {
        let Family { name, help, .. } = family;
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        series.into_iter().try_for_each(|labels| encoder.encode_info(&labels))
    }

    fn family<V>(
        &mut self,
        Family { name, help, unit }: Family,
        kind: MetricType,
        series: impl IntoIterator<Item = (Labels, V)>,
        encode: impl Fn(&mut MetricEncoder<'_>, &V) -> fmt::Result,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        series.into_iter().try_for_each(|(labels, value)| encode(&mut encoder.encode_family(&labels)?, &value))
    }
}
