//! Recognises the caller of a call by its headers and its certificate, before the body is read.
//!
//! Invariants: with keys, only health checks are answered for everybody, and what the settings make public. A caller
//! that is not recognised learns nothing more; the log says the reason at the level debug, without the key. The key
//! goes no further than this file.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap};

use super::methods::Method;
use super::peer::Peer;
use crate::compute;
use crate::identity::{Credentials, Keys, Principal, Rejected};
use crate::rpc::status::Failure;
use crate::wire;

/// The service that is open to everybody.
const HEALTH: &str = "grpc.health.v1.Health";

/// The settings of authentication.
#[derive(Debug, Clone, Default)]
pub struct Authentication {
    /// The keys; `None`: everybody may do everything.
    pub keys: Option<Arc<Keys>>,
    /// `Info` answers callers without a key too. It tells them versions, models and limits.
    pub public_info: bool,
    /// Reflection answers callers without a key too. It tells them the contract of the API, which is public.
    pub public_reflection: bool,
}

/// A caller that was recognised, or that need not be.
pub struct Recognised {
    /// The principal.
    pub principal: Arc<Principal>,
    /// The caller whose share of the machine the call uses.
    pub caller: compute::Caller,
    /// The limits of the caller, and its use of them; `None`: it has no name.
    pub allowance: Option<Arc<compute::Allowance>>,
    /// The end of its rights.
    pub end: EndOfRights,
}

/// Resolves when the key of a call is no longer valid.
pub struct EndOfRights(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl EndOfRights {
    /// Waits for the end. The call ends then, so it is not asked again.
    pub async fn reached(&mut self) {
        match &mut self.0 {
            Some(over) => over.as_mut().await,
            None => pending().await,
        }
    }
}

impl Authentication {
    /// Recognises the caller of `method`, and checks its role. Takes the key out of the headers.
    pub fn recognise(&self, method: Method, peer: &Peer, headers: &mut HeaderMap) -> Result<Recognised, Failure> {
        let of_connection = |principal| Recognised {
            principal,
            caller: compute::Caller::of_connection(peer.id),
            allowance: None,
            end: EndOfRights(None),
        };
        let Some(keys) = &self.keys else { return Ok(of_connection(Principal::anyone())) };
        if method.service() == HEALTH {
            return Ok(of_connection(Principal::nobody()));
        }
        let sent = headers.get_all(AUTHORIZATION);
        let authorization = sent.iter().next().map(|first| (first.as_bytes(), sent.iter().count()));
        let credentials = Credentials { authorization, certificate: peer.certificate_names() };
        let admitted = keys.authenticate(credentials);
        headers.remove(AUTHORIZATION);
        let admitted = match admitted {
            Ok(admitted) => admitted,
            // A key that was sent is never ignored.
            Err(Rejected::Missing | Rejected::Certificate(0)) if self.is_public(method) => {
                return Ok(of_connection(Principal::nobody()));
            }
            Err(rejected) => {
                tracing::debug!(method = method.name(), connection = peer.id, reason = %rejected, "not authenticated");
                return Err(Failure::Unauthenticated);
            }
        };
        Ok(Recognised {
            principal: admitted.principal,
            caller: admitted.caller,
            allowance: admitted.allowance,
            end: EndOfRights(Some(Box::pin(admitted.validity.over()))),
        })
    }

    fn is_public(&self, method: Method) -> bool {
        match method.service() {
            wire::SERVICE => self.public_info && method.name() == "Info",
            service => self.public_reflection && service.starts_with("grpc.reflection."),
        }
    }
}
