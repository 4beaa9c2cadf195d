//! `cognate health`: reports if a server is serving, for people, scripts and a container's health check.

use std::process::ExitCode;
use std::time::Duration;

use super::connection::Connection;
use crate::wire::InfoRequest;

/// Asks a server if it is serving (grpc.health.v1); exits with 0 if it is, and with 1 if it is not
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Service to ask for: nothing for the server as a whole, or "writes" for storing documents
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    service: String,
    /// Seconds to wait for the connection, and again for the answer
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS", value_parser = seconds)]
    timeout: f64,
}

/// Runs the command. A server that cannot be reached counts as not serving: exit code 1.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let answer = async {
        let client = args.connection.open_within(Duration::from_secs_f64(args.timeout)).await?;
        if client.health(&args.service).await? {
            return Ok((true, None));
        }
        // A starting server gives no reason; one whose disk failed does.
        let storage = client.info(InfoRequest {}).await.ok().and_then(|info| info.storage);
        anyhow::Ok((false, storage.map(|s| s.stopped).filter(|reason| !reason.is_empty())))
    };
    let (serving, reason) = match answer.await {
        Ok(answer) => answer,
        Err(error) => (false, Some(format!("{error:#}"))),
    };
    let word = if serving { "serving" } else { "not serving" };
    let because = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let json = serde_json::json!({ "serving": serving, "reason": reason });
    args.connection.print(&json, format_args!("{word}{because}"))?;
    Ok(if serving { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    // One day: far beyond use, and far below the limit of a Duration.
    if seconds > 0.0 && seconds <= 86_400.0 { Ok(seconds) } else { Err("expected more than 0, at most 86400".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_positive_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(0.5));
        for bad in ["0", "-1", "NaN", "inf", "1e9", "soon"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
