//! Runs the steps of `clients/SCENARIO.md` against a server: `cargo run --example scenario HOST:PORT`. This file has
//! the list of the steps, and what they share.

mod documents;
mod embeddings;
mod failures;
mod search;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use cognate_client::wire::Hit;
use cognate_client::{Client, Code, Options, Refusal, connect};

const COLLECTION: &str = "scenario";
const DIMENSIONS: usize = 384;
const MAX_MESSAGE_BYTES: usize = 16 << 20;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Fails with the rest, formatted, if the condition does not hold.
macro_rules! check {
    ($holds:expr, $($found:tt)+) => {{
        let holds: bool = $holds;
        if !holds {
            return Err(format!($($found)+).into());
        }
    }};
}
pub(crate) use check;

/// The state that one step leaves to the next.
struct Scenario {
    address: String,
    client: Client,
    /// Document 42 with its vector, as topk-text finds it.
    found: Hit,
}

impl Scenario {
    async fn run(&mut self) -> Result<(), (&'static str, Box<dyn Error>)> {
        macro_rules! steps {
            ($($name:literal $step:ident)+) => {$(
                let step = tokio::time::timeout(Duration::from_secs(120), self.$step());
                step.await.unwrap_or_else(|late| Err(late.into())).map_err(|error| ($name, error))?;
                println!("ok {}", $name);
            )+};
        }
        steps! {
            "info" info
            "embed" embed
            "embed-int8" embed_int8
            "embed-stream" embed_stream
            "similarity" similarity
            "upload" upload
            "topk-text" top_k_text
            "topk-vector" top_k_vector
            "topk-id" top_k_id
            "filter" filter
            "candidates" candidates
            "list" list
            "export" export
            "delete" delete
            "bad-request" bad_request
            "resource-info" resource_info
            "retry-info" retry_info
            "deadline" deadline
            "cancel" cancel
            "message-size" message_size
            "drop" drop_collection
        }
        if std::env::var_os("SCENARIO_TLS").is_none() {
            println!("skipped tls-key");
            return Ok(());
        }
        steps! { "tls-key" tls_key }
        Ok(())
    }
}

/// Demands that a refusal is INVALID_ARGUMENT and names this field alone.
fn check_field(refusal: &Refusal, field: &str) -> Outcome {
    check!(refusal.code == Code::InvalidArgument, "{refusal}");
    let fields: Vec<_> = refusal.violations().iter().map(|violation| violation.field.as_str()).collect();
    check!(fields == [field], "{field} was expected, and found: {fields:?}");
    Ok(())
}

/// Returns the refusal of a call that must be refused.
fn refused<T>(answer: Result<T, cognate_client::Error>) -> Outcome<Refusal> {
    match answer {
        Err(cognate_client::Error::Refused(refusal)) => Ok(refusal),
        Err(error) => Err(error.into()),
        Ok(_) => Err("the call was answered".into()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: scenario HOST:PORT");
        return ExitCode::from(2);
    };
    let client = match connect(&address, &Options::default()).await {
        Ok(client) => client,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match (Scenario { address, client, found: Hit::default() }).run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err((step, error)) => {
            eprintln!("{step}: {error}");
            ExitCode::FAILURE
        }
    }
}
