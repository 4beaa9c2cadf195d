//! Counts the HTTP/2 frames that pass through a connection, so that a flood of them ends it.
//!
//! h2 bounds what frames cost in memory, and answers as many PING and SETTINGS as come. Here each kind that asks for
//! work without bringing any is paid for from an allowance, which real work earns: a stream that is opened, bytes that
//! are sent. Invariant: bytes pass unchanged; once the allowance is used up, nothing more is read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Frames without work that a connection may send at once, and each second. A client that reads a large answer sends
/// many WINDOW_UPDATE and some PING, which the bytes of the answer earn.
const CONTROL: Rate = Rate { burst: 2000.0, each_second: 100.0 };
/// What a stream earns: window updates for its answer, a ping, a priority.
const EARNED_BY_STREAM: f64 = 4.0;
/// Bytes sent that earn one frame: clients confirm each DATA frame twice, and the shortest have about 100 bytes.
const BYTES_FOR_A_FRAME: f64 = 256.0;

/// Streams that may be reset at once, and each second, by either side. Clients reset what they cancel.
const RESETS: Rate = Rate { burst: 2000.0, each_second: 400.0 };

/// What a client sends before its first frame.
const PREFACE_BYTES: usize = 24;
/// The head of each frame: length, kind, flags, stream.
const HEAD_BYTES: usize = 9;

/// Kinds of frames (RFC 9113, section 6).
mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const CONTINUATION: u8 = 9;
}
/// The flag of DATA that ends a stream.
const END_STREAM: u8 = 1;

/// What has been seen, for whoever drives the connection.
#[derive(Debug)]
pub struct Seen {
    begun: Instant,
    frames: AtomicU64,
    last_read_ms: AtomicU64,
    flooded: AtomicBool,
}

impl Seen {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            frames: AtomicU64::new(0),
            last_read_ms: AtomicU64::new(0),
            flooded: AtomicBool::new(false),
        }
    }

    /// The client has sent a frame.
    pub fn any_frame(&self) -> bool {
        self.frames.load(Ordering::Relaxed) > 0
    }

    /// The client has sent more frames without work than it may: nothing more is read.
    pub fn flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    /// How long nothing has been read.
    pub fn silent_for(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last_read_ms.load(Ordering::Relaxed)))
    }
}

/// A connection whose frames are counted.
#[derive(Debug)]
pub struct Counted<IO> {
    io: IO,
    seen: Arc<Seen>,
    incoming: Walker,
    outgoing: Walker,
    control: Allowance,
    resets: Allowance,
}

impl<IO> Counted<IO> {
    /// Counts the frames of the server's end `io`.
    pub fn new(io: IO) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::new());
        let counted = Self {
            io,
            seen: Arc::clone(&seen),
            incoming: Walker { skip: PREFACE_BYTES, ..Walker::default() },
            outgoing: Walker::default(),
            control: Allowance::new(CONTROL),
            resets: Allowance::new(RESETS),
        };
        (counted, seen)
    }

    fn count(&mut self, bytes: &[u8]) {
        let Self { seen, incoming, control, resets, .. } = self;
        let now = Instant::now();
        seen.last_read_ms.store(now.duration_since(seen.begun).as_millis() as u64, Ordering::Relaxed);
        let mut frames = 0;
        incoming.walk(bytes, |head| {
            frames += 1;
            match head.kind {
                kind::HEADERS => control.earn(EARNED_BY_STREAM),
                kind::DATA if head.length > 0 || head.flags & END_STREAM != 0 => {}
                // h2 limits how many make up one list of headers.
                kind::CONTINUATION => {}
                kind::RST_STREAM => resets.spend(),
                _ => control.spend(),
            }
        });
        seen.frames.fetch_add(frames, Ordering::Relaxed);
        self.check(now);
    }

    fn written(&mut self, bytes: &[u8]) {
        let Self { outgoing, resets, .. } = self;
        outgoing.walk(bytes, |head| {
            if head.kind == kind::RST_STREAM {
                resets.spend();
            }
        });
        self.control.earn(bytes.len() as f64 / BYTES_FOR_A_FRAME);
    }

    fn check(&mut self, now: Instant) {
        // Both are brought up to date.
        let used_up = [self.control.used_up(now), self.resets.used_up(now)];
        if used_up.contains(&true) {
            self.seen.flooded.store(true, Ordering::Relaxed);
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.seen.flooded() {
            // Whoever drives the connection sees it as well, and ends it: nobody waits to be woken.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.count(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.written(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        let mut left = n;
        for buf in bufs {
            let part = left.min(buf.len());
            self.written(&buf[..part]);
            left -= part;
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
}

/// Finds the heads of frames in bytes that come in any pieces.
#[derive(Debug, Default)]
struct Walker {
    /// Bytes to pass over until the next head.
    skip: usize,
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that are there.
    have: usize,
}

impl Walker {
    fn walk(&mut self, mut bytes: &[u8], mut each: impl FnMut(Head)) {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            let more = (HEAD_BYTES - self.have).min(bytes.len());
            self.head[self.have..self.have + more].copy_from_slice(&bytes[..more]);
            self.have += more;
            bytes = &bytes[more..];
            if self.have < HEAD_BYTES {
                return;
            }
            let [a, b, c, kind, flags, ..] = self.head;
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            (self.skip, self.have) = (length, 0);
            each(Head { length, kind, flags });
        }
    }
}

/// How many of something are allowed.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: f64,
    each_second: f64,
}

/// What is left of a [`Rate`].
#[derive(Debug)]
struct Allowance {
    rate: Rate,
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(rate: Rate) -> Self {
        Self { rate, left: rate.burst, at: Instant::now() }
    }

    fn spend(&mut self) {
        self.left -= 1.0;
    }

    fn earn(&mut self, n: f64) {
        self.left = (self.left + n).min(self.rate.burst);
    }

    fn used_up(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.rate.each_second;
        self.at = now;
        self.earn(earned);
        self.left < 0.0
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD_BYTES + payload, 7);
        frame
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let frames = [(0, 0, 20_000), (6, 1, 8), (1, 4, 0), (4, 0, 6)];
        let bytes: Vec<u8> = frames.iter().flat_map(|&(kind, flags, length)| frame(kind, flags, length)).collect();
        for cut in [1, 2, 5, 9, 13, 4096, bytes.len()] {
            let (mut walker, mut found) = (Walker::default(), Vec::new());
            bytes.chunks(cut).for_each(|part| walker.walk(part, |head| found.push(head)));
            let expected = frames.map(|(kind, flags, length)| Head { length, kind, flags });
            assert_eq!(found, expected, "pieces of {cut}");
        }
    }

    /// Whether so many of the frame, sent at once, are a flood.
    async fn flooded_by(frame: &[u8], n: usize) -> bool {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let (mut counted, seen) = Counted::new(server);
        client.write_all(&[0; PREFACE_BYTES]).await.unwrap();
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..n {
            if seen.flooded() {
                return true;
            }
            client.write_all(frame).await.unwrap();
            let _ = counted.read(&mut buffer).await.unwrap();
        }
        seen.flooded()
    }

    #[tokio::test]
    async fn frames_that_bring_no_work_are_a_flood_and_those_that_do_are_not() {
        for kind in [2, 3, 4, 6, 7, 8, 200] {
            assert!(flooded_by(&frame(kind, 0, 8), 30_000).await, "frames of kind {kind}");
        }
        assert!(flooded_by(&frame(kind::DATA, 0, 0), 30_000).await, "DATA without data");
        assert!(!flooded_by(&frame(kind::DATA, 0, 1), 30_000).await);
        // A stream, its end, and what a client sends about its answer.
        let call = [frame(1, 4, 50), frame(0, 1, 0), frame(8, 0, 4), frame(8, 0, 4), frame(6, 0, 8)].concat();
        assert!(!flooded_by(&call, 30_000).await);
    }

    #[tokio::test]
    async fn what_is_sent_earns_what_clients_send_about_it() {
        let (client, server) = tokio::io::duplex(1 << 20);
        let (mut reader, mut writer) = tokio::io::split(client);
        let (mut counted, seen) = Counted::new(server);
        writer.write_all(&[0; PREFACE_BYTES]).await.unwrap();
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..5000 {
            counted.write_all(&frame(kind::DATA, 0, 1500)).await.unwrap();
            let _ = reader.read(&mut buffer).await.unwrap();
            writer.write_all(&[frame(8, 0, 4), frame(8, 0, 4)].concat()).await.unwrap();
            let _ = counted.read(&mut buffer).await.unwrap();
        }
        assert!(!seen.flooded());
    }
}
