//! The answer of a call, sent at the speed of its client, in the client's protocol.
//!
//! Invariants: no more of an answer is handed over than the client takes. So the server never waits for a client that
//! takes too little for too long, and can still send it a status. The deadline applies until the last byte.

use std::time::Duration;

use bytes::Bytes;
use futures::future::poll_fn;
use http::Response;
use http::header::HeaderMap;
use http_body::Body as _;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use super::http::exchange::{Gone, Respond, Sink};
use super::http::reply::{End, Reply};
use super::observed::Observed;
use super::request::MIN_PROGRESS;
use super::time_limit::{Ended, TimeLimit};
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;

/// The answer of a call that is about to be sent.
pub struct Answer<'a, 'b> {
    /// Its form.
    pub reply: &'a Reply,
    /// The time limit of the call.
    pub limit: TimeLimit,
    /// The time for a client to take a part.
    pub stall: Duration,
    /// The record of the call.
    pub observed: &'a mut Observed<'b>,
    /// True while a part is sent that a last frame may not interrupt.
    pub in_part: bool,
}

/// Sends the failure of a call that has no answer yet.
pub fn fail(reply: &Reply, observed: &mut Observed<'_>, status: Status, respond: Respond) {
    observed.record.code = status.code();
    let (head, last) = reply.failed(status);
    if last.is_empty() {
        return respond.end(head);
    }
    // An error means that the client has left.
    let Ok(mut sink) = respond.begin(head) else { return };
    observed.sent(last.len());
    let _ = sink.send(last).and_then(|()| sink.end());
}

impl Answer<'_, '_> {
    /// Sends the service's response.
    pub async fn send(mut self, response: Response<Body>, respond: Respond) {
        let (head, body) = response.into_parts();
        if body.is_end_stream() {
            let status = Status::from_header_map(&head.headers).unwrap_or_else(|| Failure::Internal.into());
            return fail(self.reply, self.observed, status, respond);
        }
        if self.reply.is_whole() {
            self.send_whole(body, respond).await;
        } else if let Ok(sink) = respond.begin(self.reply.head(head)) {
            self.send_stream(body, sink).await;
        }
    }

    /// Sends one message, when it and its status are there.
    async fn send_whole(&mut self, mut body: Body, mut respond: Respond) {
        let collected = tokio::select! {
            collected = self.reply.collect(&mut body) => collected,
            failure = self.limit.over() => Err(failure.into()),
            () = respond.gone() => return,
        };
        let whole = match collected {
            Ok(whole) => whole,
            Err(status) => return fail(self.reply, self.observed, status, respond),
        };
        let Ok(mut sink) = respond.begin(self.reply.head_of_whole(&whole)) else { return };
        self.observed.record.messages_out = 1;
        match self.send_data(whole.data, &mut sink).await {
            Ok(()) => {
                self.observed.record.code = Code::Ok;
                let _ = sink.end();
            }
            Err(ended) => {
                if let Ended::Failed(failure) = ended {
                    self.observed.record.code = Status::from(failure).code();
                }
                sink.cut_off();
            }
        }
    }

    async fn send_stream(&mut self, body: Body, mut sink: Sink) {
        match self.send_all(body, &mut sink).await {
            Ok(()) => {}
            Err(Ended::Gone) => sink.cut_off(),
            Err(Ended::Failed(failure)) => {
                let mut trailers = HeaderMap::new();
                let written = Status::from(failure).add_header(&mut trailers).is_ok();
                self.observed.told(&trailers);
                let interrupts = self.in_part && !self.reply.has_trailers();
                if !written || interrupts || self.end(trailers, &mut sink).is_err() {
                    sink.cut_off();
                }
            }
        }
    }

    async fn send_all(&mut self, mut body: Body, sink: &mut Sink) -> Result<(), Ended> {
        loop {
            let frame = tokio::select! {
                frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
                failure = self.limit.over() => return Err(Ended::Failed(failure)),
                () = sink.gone() => return Err(Ended::Gone),
            };
            let frame = match frame {
                None => return sink.end().map_err(|Gone| Ended::Gone),
                // tonic writes errors into trailers; a body that breaks off has no other way to report one.
                Some(Err(_)) => return Err(Ended::Failed(Failure::Internal)),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    self.observed.answered(&data);
                    let data = match self.reply.passes() {
                        true => data,
                        false => self.reply.part(data).await.map_err(Ended::Failed)?.data,
                    };
                    self.send_data(data, sink).await?;
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.observed.told(&trailers);
                        return self.end(trailers, sink).map_err(|Gone| Ended::Gone);
                    }
                }
            }
        }
    }

    /// Sends the end. It needs no room, so a client that takes nothing still gets it.
    fn end(&mut self, trailers: HeaderMap, sink: &mut Sink) -> Result<(), Gone> {
        match self.reply.end(trailers) {
            End::Trailers(trailers) => sink.trailers(trailers),
            End::Data(last) => {
                if !last.is_empty() {
                    self.observed.sent(last.len());
                    sink.send(last)?;
                }
                sink.end()
            }
        }
    }

    /// Hands over `data` at the speed of the client.
    async fn send_data(&mut self, mut data: Bytes, sink: &mut Sink) -> Result<(), Ended> {
        let (mut stalled_at, mut sent) = (None, 0);
        self.in_part = true;
        while !data.is_empty() {
            let room = match sink.room(data.len()) {
                0 => {
                    let since = *stalled_at.get_or_insert_with(Instant::now);
                    self.limit.progress.waits();
                    self.room(since + self.stall, sink).await?
                }
                room => room,
            };
            let piece = data.split_to(room.min(data.len()));
            self.observed.sent(piece.len());
            sent += piece.len();
            self.limit.progress.moved();
            if sent >= MIN_PROGRESS {
                (stalled_at, sent) = (None, 0);
            }
            sink.send(piece).map_err(|Gone| Ended::Gone)?;
        }
        self.in_part = false;
        Ok(())
    }

    /// Waits until the client takes more data, or until `stalled`.
    async fn room(&mut self, stalled: Instant, sink: &mut Sink) -> Result<usize, Ended> {
        tokio::select! {
            room = sink.wait_for_room() => room.map_err(|Gone| Ended::Gone),
            failure = self.limit.over() => Err(Ended::Failed(failure)),
            () = tokio::time::sleep_until(stalled) => {
                Err(Ended::Failed(Failure::Transport(Refusal::AnswerStalled { timeout: self.stall })))
            }
        }
    }
}
