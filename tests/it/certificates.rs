//! Certificates that tests make, and servers and clients that use them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use cognate::client::{self, Client, Options, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use time::OffsetDateTime;

use crate::harness::Server;

/// An authority, and a directory for what it signs.
pub struct Authority {
    pub issuer: CertifiedIssuer<'static, KeyPair>,
    pub directory: tempfile::TempDir,
}

/// The files of a certificate and its key.
#[derive(Clone)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Signs a certificate for a name that is valid until the end of a year.
    pub fn sign(&self, name: &str, year: i32) -> Pair {
        self.sign_until(name, date_time_ymd(year, 12, 31))
    }

    /// Signs a certificate for a name that is valid until then.
    pub fn sign_until(&self, name: &str, end: OffsetDateTime) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // rcgen gives all the same subject. OpenSSL takes a certificate whose subject is its issuer for self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = end;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let file = self.directory.path().join(FILES.fetch_add(1, Ordering::Relaxed).to_string());
        let pair = Pair { certificate: file.with_extension("crt"), key: file.with_extension("key") };
        std::fs::write(&pair.certificate, certificate.pem()).unwrap();
        write_secret(&pair.key, &key.serialize_pem());
        pair
    }

    pub fn valid(&self) -> Pair {
        self.sign("127.0.0.1", 2999)
    }
}

/// Replaces a file at once, readable by its owner alone.
pub fn write_secret(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(new, path).unwrap();
}

impl Pair {
    pub fn flags(&self) -> [String; 4] {
        let [certificate, key] = [&self.certificate, &self.key].map(|path| path.to_str().unwrap().to_owned());
        ["--tls-cert".to_owned(), certificate, "--tls-key".to_owned(), key]
    }

    /// Puts the content of another pair into these files.
    pub fn become_(&self, other: &Self) {
        for (to, from) in [(&self.certificate, &other.certificate), (&self.key, &other.key)] {
            write_secret(to, &std::fs::read_to_string(from).unwrap());
        }
    }
}

/// Starts a server with TLS. It answers health checks from the beginning, so the model is not waited for.
pub fn serve(pair: &Pair, more: &[&str]) -> Server {
    let flags = pair.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Server::spawn(&flags)
}

pub fn trusting(ca: &Path) -> Tls {
    Tls { ca: Some(ca.to_owned()), ..Tls::default() }
}

pub async fn connect(address: &str, tls: Option<Tls>) -> Result<Client, client::Error> {
    client::connect(address, &Options { tls, ..Options::default() }).await
}

/// Connects, and asks for the health. With TLS 1.3 a client learns only by its first call that it is refused.
pub async fn call(server: &Server, tls: Tls) -> Result<(), client::Error> {
    call_at(&server.addr.to_string(), Some(tls)).await
}

pub async fn call_at(address: &str, tls: Option<Tls>) -> Result<(), client::Error> {
    connect(address, tls).await?.health("").await.map(|_| ())
}

pub fn fault(result: Result<(), client::Error>) -> String {
    result.expect_err("the call is refused").to_string()
}
