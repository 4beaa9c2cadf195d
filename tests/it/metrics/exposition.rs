//! A strict reader of the text format of OpenMetrics, as far as the server uses it.

use std::collections::{BTreeMap, BTreeSet};

/// A scrape, whose form was checked.
pub struct Scrape {
    /// The type of each family, by the name that its `TYPE` line has.
    types: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// The suffixes of the samples of a type.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "histogram" => &["_bucket", "_count", "_sum"],
        "info" => &["_info"],
        "gauge" => &[""],
        other => panic!("the type {other}"),
    }
}

impl Scrape {
    /// Reads a scrape. Panics if its form is wrong.
    pub fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
        let (mut types, mut samples) = (BTreeMap::new(), Vec::<Sample>::new());
        let mut family = (String::new(), String::new());
        let (mut helped, mut seen) = (String::new(), BTreeSet::new());
        for line in body.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a help text");
                assert!(help.ends_with('.') || help.ends_with(')') || help.len() > 10, "{line}");
                helped = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert_eq!(name, helped, "the help text comes before the type");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
                family = (name.to_owned(), kind.to_owned());
            } else if let Some(unit) = line.strip_prefix("# UNIT ") {
                let (name, unit) = unit.split_once(' ').expect("a unit");
                assert!(name == family.0 && name.ends_with(&format!("_{unit}")), "{line}");
            } else {
                let sample = Sample::parse(line);
                let (name, kind) = &family;
                let suffix =
                    sample.name.strip_prefix(name.as_str()).unwrap_or_else(|| panic!("{line} is not in {name}"));
                assert!(suffixes(kind).contains(&suffix), "{line} is no sample of a {kind}");
                assert!(sample.value.is_finite() && sample.value >= 0.0, "{line}");
                assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "{line} comes twice");
                samples.push(sample);
            }
        }
        let scrape = Self { types, samples };
        scrape.check_buckets();
        scrape
    }

    /// Checks that buckets are cumulative, and that the last one counts everything.
    fn check_buckets(&self) {
        let mut last: Option<(&Sample, BTreeMap<String, String>)> = None;
        for sample in self.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
            let mut series = sample.labels.clone();
            let bound = series.remove("le").expect("a bucket has a bound");
            if let Some((before, of)) = &last
                && (*of == series && before.name == sample.name)
            {
                assert!(before.value <= sample.value, "{} {series:?}", sample.name);
            }
            if bound == "+Inf" {
                let count = sample.name.replace("_bucket", "_count");
                let same = |other: &&Sample| other.name == count && other.labels == series;
                let count = self.samples.iter().find(same).expect("a count").value;
                assert_eq!(count, sample.value, "{} {series:?}", sample.name);
            }
            last = Some((sample, series));
        }
    }

    /// This scrape with the samples of another one, for questions about names.
    pub fn and(mut self, other: Self) -> Self {
        self.types.extend(other.types);
        self.samples.extend(other.samples);
        self
    }

    /// The names of the families as their samples have them, without the suffixes of histograms, and their types.
    pub fn families(&self) -> impl Iterator<Item = (String, &str)> {
        self.types.iter().map(|(name, kind)| {
            let suffix = if kind == "histogram" { "" } else { suffixes(kind)[0] };
            (format!("{name}{suffix}"), kind.as_str())
        })
    }

    /// True if a sample may have this name, whether or not there is one now.
    pub fn knows(&self, name: &str) -> bool {
        self.types.iter().any(|(family, kind)| suffixes(kind).iter().any(|suffix| format!("{family}{suffix}") == name))
    }

    /// The names of the labels of samples of this name.
    pub fn labels(&self, name: &str) -> BTreeSet<&str> {
        let samples = self.samples.iter().filter(|sample| sample.name == name);
        samples.flat_map(|sample| sample.labels.keys().map(String::as_str)).collect()
    }

    /// The value of the only sample of this name with these labels, beside others.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.find(name, labels);
        let value = found.next().map(|sample| sample.value);
        assert!(found.next().is_none(), "several samples are {name} {labels:?}");
        value
    }

    /// The sum of the samples of this name with these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).map(|sample| sample.value).sum()
    }

    fn find(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        let matches = |sample: &&Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|other| other == value))
        };
        self.samples.iter().filter(move |sample| sample.name == name).filter(matches)
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number in {line}"));
        let Some((name, labels)) = series.split_once('{') else {
            return Self { name: series.to_owned(), labels: BTreeMap::new(), value };
        };
        let mut rest = labels.strip_suffix('}').unwrap_or_else(|| panic!("no }} in {line}"));
        let mut labels = BTreeMap::new();
        while let Some((label, value)) = rest.split_once("=\"") {
            // No value of the tests has a quote or a backslash in it.
            let (value, after) = value.split_once('"').unwrap_or_else(|| panic!("no end of a value in {line}"));
            assert!(labels.insert(label.to_owned(), value.to_owned()).is_none(), "{label} comes twice in {line}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        assert!(rest.is_empty(), "{rest} in {line}");
        Self { name: name.to_owned(), labels, value }
    }
}
