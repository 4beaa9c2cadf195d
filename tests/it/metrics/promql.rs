//! The names that PromQL queries use: metrics and labels. It knows the words of the language that our queries use, and
//! no more of its grammar than brackets.

use std::collections::BTreeSet;

use super::exposition::Scrape;

/// Words before a list of labels.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Other words of the language, and functions.
const WORDS: [&str; 13] = [
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "sum",
    "min",
    "max",
    "rate",
    "increase",
    "histogram_quantile",
    "time",
    "Inf",
];
/// A metric that Prometheus itself makes, and labels that it adds to all.
const OF_PROMETHEUS: &str = "up";
const ADDED_LABELS: [&str; 2] = ["job", "instance"];

/// All queries of a dashboard, those of its variables included.
pub fn of_dashboard(value: &serde_json::Value) -> Vec<String> {
    let mut queries = Vec::new();
    collect(value, &mut queries);
    queries
}

fn collect(value: &serde_json::Value, queries: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(query) if name == "expr" || query.starts_with("label_values(") => {
                        queries.push(query.to_owned())
                    }
                    _ => collect(value, queries),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, queries)),
        _ => {}
    }
}

/// The queries of a file of rules, each on a line of its own.
pub fn of_rules(yaml: &str) -> Vec<String> {
    yaml.lines().filter_map(|line| line.trim().strip_prefix("expr: ").map(str::to_owned)).collect()
}

/// A token of a query.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text,
    Sign(char),
}

fn tokens(query: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = query.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                while chars.next().unwrap_or_else(|| panic!("a text has no end: {query}")) != '"' {}
                tokens.push(Token::Text);
            }
            // A range: a duration, or a variable of Grafana.
            '[' => while chars.next().unwrap_or_else(|| panic!("a range has no end: {query}")) != ']' {},
            c if c.is_ascii_alphabetic() || c == '_' => {
                let mut word = c.to_string();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':')) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            c if c.is_ascii_digit() => while chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '.').is_some() {},
            c if c.is_whitespace() => {}
            c => tokens.push(Token::Sign(c)),
        }
    }
    tokens
}

/// The names in a query that a scrape does not have, as sentences.
pub fn faults(query: &str, scrape: &Scrape) -> Vec<String> {
    let mut faults = Vec::new();
    let (metrics, lists) = names(query);
    let mut all_labels: BTreeSet<&str> = ADDED_LABELS.into();
    for (metric, matchers) in &metrics {
        if metric != OF_PROMETHEUS && !scrape.knows(metric) {
            faults.push(format!("no metric {metric}: {query}"));
            continue;
        }
        let labels = scrape.labels(metric);
        for label in matchers.iter().filter(|label| !labels.contains(&***label) && !is_added(label)) {
            faults.push(format!("{metric} has no label {label}: {query}"));
        }
        all_labels.extend(labels);
    }
    if metrics.is_empty() {
        faults.push(format!("no metric at all: {query}"));
    }
    faults.extend(
        lists
            .iter()
            .filter(|label| !all_labels.contains(&***label))
            .map(|label| format!("no metric has the label {label}: {query}")),
    );
    faults
}

fn is_added(label: &str) -> bool {
    ADDED_LABELS.contains(&label)
}

/// A metric of a query, with the labels that it is chosen by.
type Selected = (String, Vec<String>);

/// The metrics of a query, and the labels that it groups or joins by.
fn names(query: &str) -> (Vec<Selected>, Vec<String>) {
    let (mut metrics, mut lists) = (Vec::<Selected>::new(), Vec::new());
    let mut open = Vec::new();
    let tokens = tokens(query);
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Word(word) if BEFORE_LABELS.contains(&word.as_str()) => {
                assert_eq!(tokens.get(at + 1), Some(&Token::Sign('(')), "{word} has no list: {query}");
                at += 2;
                while tokens[at] != Token::Sign(')') {
                    if let Token::Word(label) = &tokens[at] {
                        lists.push(label.clone());
                    }
                    at += 1;
                }
            }
            Token::Word(word) if word == "label_values" => {
                // Grafana's own: a selector and a label.
                let Some(Token::Word(label)) = tokens.get(tokens.len() - 2) else { panic!("no label: {query}") };
                lists.push(label.clone());
                let end = tokens.len() - 3;
                assert_eq!(tokens[end], Token::Sign(','), "{query}");
                let selector: String = query["label_values(".len()..].rsplit_once(',').unwrap().0.to_owned();
                metrics.extend(names(&selector).0);
                return (metrics, lists);
            }
            Token::Word(word) if WORDS.contains(&word.as_str()) => {}
            Token::Word(word) => {
                let mut labels = Vec::new();
                if tokens.get(at + 1) == Some(&Token::Sign('{')) {
                    at += 2;
                    while tokens[at] != Token::Sign('}') {
                        if let Token::Word(label) = &tokens[at] {
                            labels.push(label.clone());
                        }
                        at += 1;
                    }
                }
                metrics.push((word.clone(), labels));
            }
            Token::Sign('(') => open.push('('),
            Token::Sign(')') => assert_eq!(open.pop(), Some('('), "a bracket too many: {query}"),
            Token::Sign('{' | '}' | '[' | ']') => panic!("a bracket out of its place: {query}"),
            Token::Sign(_) | Token::Text => {}
        }
        at += 1;
    }
    assert!(open.is_empty(), "a bracket has no end: {query}");
    (metrics, lists)
}

#[test]
fn the_names_of_a_query_are_found() {
    let query =
        r#"sum by (a, le) (rate(x_bucket{job="$j", b=~"c|d"}[$__rate_interval])) / on (e) group_left () y > 0.5"#;
    let (metrics, lists) = names(query);
    let labels = vec!["job".to_owned(), "b".to_owned()];
    assert_eq!(metrics, [("x_bucket".to_owned(), labels), ("y".to_owned(), Vec::new())]);
    assert_eq!(lists, ["a", "le", "e"]);
    assert_eq!(
        names(r#"label_values(z{job="x"}, f)"#),
        (vec![("z".to_owned(), vec!["job".to_owned()])], vec!["f".to_owned()])
    );
}

#[test]
#[should_panic(expected = "a bracket has no end")]
fn a_query_whose_brackets_do_not_match_is_a_fault() {
    names("sum(rate(x[5m])");
}

#[test]
fn a_name_that_no_scrape_has_is_a_fault() {
    let scrape = Scrape::parse("# HELP x A number.\n# TYPE x gauge\nx{a=\"b\"} 1\n# EOF\n");
    let is_faulty = |query: &str| !faults(query, &scrape).is_empty();
    assert!(!is_faulty("sum by (a, job) (x{a=\"c\"})") && !is_faulty("up == 0"));
    assert!(is_faulty("y") && is_faulty("x{b=\"c\"}") && is_faulty("sum by (b) (x)") && is_faulty("x_total"));
}
