//! The arguments of `cognate copy`.

use std::path::PathBuf;

use crate::cli::connection::Access;

/// Copies a collection to another server, with its vectors and settings
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Both servers run the model of the collection; nothing is embedded again. If the copy is interrupted, \
the same command continues it. Documents that are stored or deleted meanwhile may be missing in the copy, or still be \
there. At the end the numbers of documents are compared. Exit status: 0 all copied, 1 some refused or the numbers \
differ, 2 failed, 129, 130 or 143 interrupted.

The flags of TLS and the key are for both servers; --to-tls-ca and --to-key-file if they differ.

Examples:
  cognate copy words --from localhost:50051 --to localhost:50052
  cognate copy words --from localhost:50051 --to localhost:50051 --as words-2
  cognate copy words --from https://old:50051 --key-file old.key --to https://new:50051 --to-key-file new.key"
)]
pub struct Args {
    /// Collection to copy
    #[arg(value_name = "COLLECTION")]
    pub(super) collection: String,
    /// Server that has the collection: HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    pub(super) from: String,
    /// Server that gets the copy
    #[arg(long, value_name = "ADDRESS")]
    pub(super) to: String,
    /// Name of the copy [default: the same]
    #[arg(long = "as", value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Copy into a collection that has documents already. Those with the same ids are replaced
    #[arg(long)]
    pub(super) merge: bool,
    /// Authorities of the certificate of --to, in PEM, if they are others
    #[arg(long, value_name = "FILE")]
    pub(super) to_tls_ca: Option<PathBuf>,
    /// File with the API key for --to, if it is another
    #[arg(long, value_name = "FILE")]
    pub(super) to_key_file: Option<PathBuf>,
    /// Directory where the progress is kept [default: the user's directory for state]
    #[arg(long, env = "COGNATE_STATE_DIR", value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) access: Access,
    /// Print one JSON object, for other programs
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    /// The name of the copy.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.collection)
    }
}
