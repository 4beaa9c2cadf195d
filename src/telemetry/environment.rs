//! The variables of OpenTelemetry that switch traces on and set them.
//!
//! Invariant: a variable of traces has its effect or is refused by name. The exporter reads the headers, the time-outs,
//! the compression and the limits itself, and falls back to a default where it cannot read one; so their form is
//! checked here. Variables of metrics and logs are not of this program.

use std::path::PathBuf;

use super::trace_context::Root;

/// The most spans that may wait for the collector: about 1 KiB each.
const MOST_QUEUED: u64 = 65_536;

/// The settings of traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The address of the collector.
    pub(super) endpoint: String,
    /// The name of this service; `None`: its own, or the one among the attributes of the resource.
    pub(super) service_name: Option<String>,
    /// The certificates of authorities that the collector's certificate is checked with; `None`: those of the system.
    pub(super) authorities: Option<PathBuf>,
    /// The certificate and the key that the collector checks.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    /// The calls that are traced.
    pub(super) root: Root,
    /// An authenticated caller decides by its sampled flag.
    pub(super) follows_caller: bool,
    /// A call continues the trace of its caller.
    pub(super) continues_caller: bool,
}

/// Variables without effect here, which would be silently ignored.
const UNSUPPORTED: [(&str, &str); 8] = [
    ("OTEL_BSP_EXPORT_TIMEOUT", "use OTEL_EXPORTER_OTLP_TIMEOUT"),
    ("OTEL_ATTRIBUTE_COUNT_LIMIT", "use OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "no attribute is long"),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "no attribute is long"),
    ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "spans have no events"),
    ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "links have no attributes"),
    ("OTEL_CONFIG_FILE", "use the other variables"),
    ("OTEL_EXPERIMENTAL_CONFIG_FILE", "use the other variables"),
];

/// Variables of whole numbers, and the most of each.
const NUMBERS: [(&str, u64); 8] = [
    ("OTEL_BSP_SCHEDULE_DELAY", 3_600_000),
    ("OTEL_BSP_MAX_QUEUE_SIZE", MOST_QUEUED),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", MOST_QUEUED),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", 3_600_000),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", 3_600_000),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", 1024),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", 1024),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", 1024),
];

impl Traces {
    /// Reads the variables; `None` if they switch no traces on. The error has all mistakes.
    pub fn from_environment(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, Vec<String>> {
        let mut variables = Variables { env, mistakes: Vec::new() };
        let traces = variables.traces();
        if variables.mistakes.is_empty() { Ok(traces) } else { Err(variables.mistakes) }
    }
}

/// The environment, and the mistakes that were found in it.
struct Variables<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    mistakes: Vec<String>,
}

impl Variables<'_> {
    fn traces(&mut self) -> Option<Traces> {
        let disabled = self.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let exporter = self.get("OTEL_TRACES_EXPORTER");
        let endpoint = self.of_traces("ENDPOINT");
        if disabled || exporter.as_deref() == Some("none") || (endpoint.is_none() && exporter.is_none()) {
            return None;
        }
        self.one_of("OTEL_TRACES_EXPORTER", &["otlp"]);
        for name in ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] {
            self.one_of(name, &["grpc"]);
        }
        for name in ["OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"] {
            self.one_of(name, &["none", "gzip"]);
        }
        for name in ["OTEL_EXPORTER_OTLP_INSECURE", "OTEL_EXPORTER_OTLP_TRACES_INSECURE"] {
            self.one_of(name, &["true", "false"]);
        }
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
            self.headers(name);
        }
        for (name, most) in NUMBERS {
            self.number(name, most);
        }
        for (name, instead) in UNSUPPORTED {
            if self.get(name).is_some() {
                self.mistakes.push(format!("{name} has no effect here: remove it ({instead})"));
            }
        }
        let (root, follows_caller) = self.sampler();
        Some(Traces {
            endpoint: endpoint.unwrap_or_else(|| "http://localhost:4317".to_owned()),
            service_name: self.get("OTEL_SERVICE_NAME"),
            authorities: self.of_traces("CERTIFICATE").map(PathBuf::from),
            identity: self.identity(),
            root,
            follows_caller,
            continues_caller: self.propagators(),
        })
    }

    fn sampler(&mut self) -> (Root, bool) {
        let names = ["always_on", "always_off", "traceidratio"];
        let name = self.get("OTEL_TRACES_SAMPLER").unwrap_or_else(|| "parentbased_always_on".to_owned());
        let (own, follows_caller) = match name.strip_prefix("parentbased_") {
            Some(own) => (own, true),
            None => (name.as_str(), false),
        };
        if !names.contains(&own) {
            self.wrong("OTEL_TRACES_SAMPLER", &name, &format!("{}, or parentbased_ before one", names.join(", ")));
        }
        let root = match own {
            "always_off" => Root::Never,
            "traceidratio" => Root::Ratio(self.ratio()),
            _ => Root::Always,
        };
        (root, follows_caller)
    }

    fn ratio(&mut self) -> f64 {
        let name = "OTEL_TRACES_SAMPLER_ARG";
        let Some(value) = self.get(name) else { return 1.0 };
        match value.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            _ => {
                self.wrong(name, &value, "a number from 0 to 1");
                1.0
            }
        }
    }

    /// True if a call continues the trace of its caller. Nothing here reads baggage.
    fn propagators(&mut self) -> bool {
        let name = "OTEL_PROPAGATORS";
        let Some(value) = self.get(name) else { return true };
        let list: Vec<&str> = value.split(',').map(str::trim).collect();
        if list.iter().any(|one| !["tracecontext", "baggage", "none"].contains(one)) {
            self.wrong(name, &value, "tracecontext, baggage or none");
        }
        list.contains(&"tracecontext")
    }

    fn identity(&mut self) -> Option<(PathBuf, PathBuf)> {
        match (self.of_traces("CLIENT_CERTIFICATE"), self.of_traces("CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => {
                let reason = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY belong together: \
                              set both or none";
                self.mistakes.push(reason.to_owned());
                None
            }
        }
    }

    /// Checks a list of headers. Its values are secrets, so no message has them.
    fn headers(&mut self, name: &str) {
        let Some(value) = self.get(name) else { return };
        let is_sound = |pair: &str| {
            let sound = |(key, value): (&str, &str)| {
                http::HeaderName::try_from(key.trim()).is_ok() && http::HeaderValue::from_str(value.trim()).is_ok()
            };
            pair.split_once('=').is_some_and(sound)
        };
        if let Some(at) = value.split(',').position(|pair| !is_sound(pair)) {
            self.mistakes.push(format!("{name}: entry {} is not name=value: expected name=value,name=value", at + 1));
        }
    }

    fn number(&mut self, name: &str, most: u64) {
        let Some(value) = self.get(name) else { return };
        if !value.parse().is_ok_and(|number: u64| (1..=most).contains(&number)) {
            self.wrong(name, &value, &format!("a whole number from 1 to {most}"));
        }
    }

    fn one_of(&mut self, name: &str, expected: &[&str]) {
        let Some(value) = self.get(name) else { return };
        if !expected.contains(&value.as_str()) {
            self.wrong(name, &value, &expected.join(" or "));
        }
    }

    fn wrong(&mut self, name: &str, value: &str, expected: &str) {
        self.mistakes.push(format!("{name} is {value:?}: expected {expected}"));
    }

    /// The variable of the exporter for traces, or the one for all signals.
    fn of_traces(&self, name: &str) -> Option<String> {
        let own = self.get(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
        own.or_else(|| self.get(&format!("OTEL_EXPORTER_OTLP_{name}")))
    }

    /// A variable. An empty one counts as not given.
    fn get(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Traces>, Vec<String>> {
        let get = |name: &str| Some(variables.iter().find(|(key, _)| *key == name)?.1.to_owned());
        Traces::from_environment(&get)
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    #[test]
    fn an_endpoint_switches_traces_on_and_three_variables_switch_them_off() {
        assert_eq!(read(&[]), Ok(None));
        let traces = read(&[ENDPOINT]).unwrap().unwrap();
        assert_eq!((traces.endpoint.as_str(), traces.root), ("http://collector:4317", Root::Always));
        assert!(traces.follows_caller && traces.continues_caller);
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(read(&[ENDPOINT, off]), Ok(None));
        }
        assert_eq!(read(&[("OTEL_TRACES_EXPORTER", "otlp")]).unwrap().unwrap().endpoint, "http://localhost:4317");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces:4317");
        assert_eq!(read(&[ENDPOINT, own]).unwrap().unwrap().endpoint, "https://traces:4317");
    }

    #[test]
    fn samplers_are_those_of_the_standard() {
        let sampler = |name, argument| {
            let traces =
                read(&[ENDPOINT, ("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)]).unwrap();
            traces.map(|traces| (traces.root, traces.follows_caller))
        };
        assert_eq!(sampler("always_off", ""), Some((Root::Never, false)));
        assert_eq!(sampler("parentbased_always_off", ""), Some((Root::Never, true)));
        assert_eq!(sampler("traceidratio", "0.01"), Some((Root::Ratio(0.01), false)));
        assert_eq!(sampler("parentbased_traceidratio", ""), Some((Root::Ratio(1.0), true)));
    }

    #[test]
    fn every_variable_that_would_have_no_effect_is_refused_by_name() {
        let wrong = [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "perhaps"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_PROPAGATORS", "b3"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "1000000000"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "5"),
        ];
        for (name, value) in wrong {
            let mistakes = read(&[ENDPOINT, (name, value)]).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].contains(name), "{name}: {mistakes:?}");
        }
        let ratio = [ENDPOINT, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "5%")];
        assert!(read(&ratio).unwrap_err()[0].contains("OTEL_TRACES_SAMPLER_ARG"));
    }

    #[test]
    fn a_mistake_in_headers_does_not_show_them() {
        let mistakes = read(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,s3cret")]).unwrap_err();
        assert!(mistakes[0].contains("entry 2") && !mistakes[0].contains("s3cret"), "{mistakes:?}");
        assert!(read(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, b=c")]).is_ok());
    }
}
