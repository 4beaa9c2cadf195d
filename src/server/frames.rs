//! Counts the HTTP/2 frames of a connection, and ends it if they are a flood.
//!
//! h2 limits the memory that frames cost, but it answers any number of PING and SETTINGS frames. Here each frame that
//! causes work without carrying a request spends from an allowance. Real work earns it back: an opened stream, and
//! bytes that are sent. Invariant: bytes pass unchanged; once the allowance is used up, nothing more is read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Control frames that a connection may send at once, and in each second. A client that reads a large answer sends many
/// WINDOW_UPDATE and some PING frames; the bytes of the answer earn those.
const CONTROL: Rate = Rate { burst: 2000.0, each_second: 100.0 };
/// Frames that a stream earns: window updates for its answer, a ping, a priority.
const EARNED_BY_STREAM: f64 = 4.0;
/// Frames that a DATA frame of an answer earns, however short: clients acknowledge each of them. grpc-core and grpc-go
/// send a WINDOW_UPDATE for the stream, one for the connection, and a PING that measures the bandwidth.
const EARNED_BY_DATA: f64 = 3.0;
/// Bytes sent that earn one frame more: clients that take a long frame in pieces acknowledge the pieces.
const BYTES_FOR_A_FRAME: f64 = 256.0;

/// Stream resets at once, and in each second, by either side. Clients reset the streams that they cancel.
const RESETS: Rate = Rate { burst: 2000.0, each_second: 400.0 };

/// Bytes that a client sends before its first frame (the preface).
const PREFACE_BYTES: usize = 24;
/// Bytes of the header of each frame: length, type, flags, stream.
const HEADER_BYTES: usize = 9;

/// Types of frames (RFC 9113, section 6).
mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const CONTINUATION: u8 = 9;
}
/// The flag of DATA that ends a stream.
const END_STREAM: u8 = 1;

/// The counts of a connection, for the task that drives it.
#[derive(Debug)]
pub struct Seen {
    begun: Instant,
    frames: AtomicU64,
    last_read_ms: AtomicU64,
    flooded: AtomicBool,
    /// The time when the head of a request began to arrive, in milliseconds counted from 1; 0: none is incomplete.
    head_ms: AtomicU64,
}

impl Seen {
    /// The counts of a connection that begins now.
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            frames: AtomicU64::new(0),
            last_read_ms: AtomicU64::new(0),
            flooded: AtomicBool::new(false),
            head_ms: AtomicU64::new(0),
        }
    }

    /// Notes that bytes of a head have arrived, over HTTP/1.1.
    pub fn head_begins(&self) {
        let now = self.begun.elapsed().as_millis() as u64 + 1;
        // Fails if it began before.
        let _ = self.head_ms.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes that a head is complete, over HTTP/1.1.
    pub fn head_ends(&self) {
        self.head_ms.store(0, Ordering::Relaxed);
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    /// The time since the head of a request began to arrive, if one is incomplete.
    pub fn head_open_for(&self) -> Option<Duration> {
        let since = self.head_ms.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.begun.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    /// Returns true if the client has sent a frame, or the head of a request.
    pub fn any_frame(&self) -> bool {
        self.frames.load(Ordering::Relaxed) > 0
    }

    /// Returns true if the client has sent more control frames than it may. Nothing more is read then.
    pub fn flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    /// The time since the last bytes were read.
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
    /// Counts the frames of `io`, the server's end of a connection, in `seen`.
    pub fn new(io: IO, seen: Arc<Seen>) -> Self {
        Self {
            io,
            seen,
            incoming: Walker { skip: PREFACE_BYTES, ..Walker::default() },
            outgoing: Walker::default(),
            control: Allowance::new(CONTROL),
            resets: Allowance::new(RESETS),
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        let Self { seen, incoming, control, resets, .. } = self;
        let now = Instant::now();
        seen.last_read_ms.store(now.duration_since(seen.begun).as_millis() as u64, Ordering::Relaxed);
        let mut frames = 0;
        incoming.walk(bytes, |header| {
            frames += 1;
            match header.kind {
                kind::HEADERS => control.earn(EARNED_BY_STREAM),
                kind::DATA if header.length > 0 || header.flags & END_STREAM != 0 => {}
                // h2 limits the number of them in one list of headers.
                kind::CONTINUATION => {}
                kind::RST_STREAM => resets.spend(),
                _ => control.spend(),
            }
        });
        seen.frames.fetch_add(frames, Ordering::Relaxed);
        self.check(now);
    }

    fn written(&mut self, bytes: &[u8]) {
        let Self { outgoing, control, resets, .. } = self;
        outgoing.walk(bytes, |header| match header.kind {
            kind::RST_STREAM => resets.spend(),
            kind::DATA if header.length > 0 => control.earn(EARNED_BY_DATA),
            _ => {}
        });
        control.earn(bytes.len() as f64 / BYTES_FOR_A_FRAME);
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
            // The task that drives the connection sees the flag too and ends the connection, so nothing needs to be
            // woken.
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

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    length: usize,
    kind: u8,
    flags: u8,
}

/// Finds the headers of frames in bytes that arrive in pieces of any size.
#[derive(Debug, Default)]
struct Walker {
    /// Bytes to skip until the next header.
    skip: usize,
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that have arrived.
    have: usize,
}

impl Walker {
    fn walk(&mut self, mut bytes: &[u8], mut each: impl FnMut(Header)) {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            let more = (HEADER_BYTES - self.have).min(bytes.len());
            self.header[self.have..self.have + more].copy_from_slice(&bytes[..more]);
            self.have += more;
            bytes = &bytes[more..];
            if self.have < HEADER_BYTES {
                return;
            }
            let [a, b, c, kind, flags, ..] = self.header;
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            (self.skip, self.have) = (length, 0);
            each(Header { length, kind, flags });
        }
    }
}

/// A number of events that are allowed at once, and in each second.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: f64,
    each_second: f64,
}

/// The rest of a [`Rate`].
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
        frame.resize(HEADER_BYTES + payload, 7);
        frame
    }

    #[test]
    fn frames_are_found_in_pieces_of_any_size() {
        let frames = [(0, 0, 20_000), (6, 1, 8), (1, 4, 0), (4, 0, 6)];
        let bytes: Vec<u8> = frames.iter().flat_map(|&(kind, flags, length)| frame(kind, flags, length)).collect();
        for cut in [1, 2, 5, 9, 13, 4096, bytes.len()] {
            let (mut walker, mut found) = (Walker::default(), Vec::new());
            bytes.chunks(cut).for_each(|part| walker.walk(part, |header| found.push(header)));
            let expected = frames.map(|(kind, flags, length)| Header { length, kind, flags });
            assert_eq!(found, expected, "pieces of {cut}");
        }
    }

    /// Returns true if `n` of the frame, sent at once, are a flood.
    async fn flooded_by(frame: &[u8], n: usize) -> bool {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let seen = Arc::new(Seen::new());
        let mut counted = Counted::new(server, Arc::clone(&seen));
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
    async fn frames_without_work_are_a_flood_and_frames_with_work_are_not() {
        for kind in [2, 3, 4, 6, 7, 8, 200] {
            assert!(flooded_by(&frame(kind, 0, 8), 30_000).await, "frames of kind {kind}");
        }
        assert!(flooded_by(&frame(kind::DATA, 0, 0), 30_000).await, "DATA without data");
        assert!(!flooded_by(&frame(kind::DATA, 0, 1), 30_000).await);
        // A stream, its end, and the frames that a client sends about its answer.
        let call = [frame(1, 4, 50), frame(0, 1, 0), frame(8, 0, 4), frame(8, 0, 4), frame(6, 0, 8)].concat();
        assert!(!flooded_by(&call, 30_000).await);
    }

    #[tokio::test]
    async fn answers_earn_the_frames_that_acknowledge_them_however_short_they_are() {
        // An `UploadResponse` has 20 bytes; clients answer each frame with up to three.
        assert!(!flooded_by_acknowledging(20, 3).await);
        assert!(!flooded_by_acknowledging(1500, 6).await);
        assert!(flooded_by_acknowledging(20, 6).await);
        assert!(flooded_by_acknowledging(0, 1).await, "DATA without data earns nothing");
    }

    /// Returns true if a client floods that answers each of 5,000 DATA frames of `bytes` with `frames` of its own.
    async fn flooded_by_acknowledging(bytes: usize, frames: usize) -> bool {
        let (client, server) = tokio::io::duplex(1 << 20);
        let (mut reader, mut writer) = tokio::io::split(client);
        let seen = Arc::new(Seen::new());
        let mut counted = Counted::new(server, Arc::clone(&seen));
        writer.write_all(&[0; PREFACE_BYTES]).await.unwrap();
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..5000 {
            if seen.flooded() {
                return true;
            }
            counted.write_all(&frame(kind::DATA, 0, bytes)).await.unwrap();
            let _ = reader.read(&mut buffer).await.unwrap();
            writer.write_all(&frame(8, 0, 4).repeat(frames)).await.unwrap();
            let _ = counted.read(&mut buffer).await.unwrap();
        }
        seen.flooded()
    }
}
