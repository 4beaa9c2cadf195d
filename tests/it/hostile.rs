//! Clients that send invalid data or vanish: each gets its answer, and the server stays healthy.

use std::io::Write;
use std::marker::PhantomData;
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use cognate::wire::{EmbedRequest, ListCollectionsRequest, UploadRequest};
use prost::Message;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

use crate::harness::{Server, document, new_texts, upload};

/// A codec that sends the given bytes as a message, and reads any answer as bytes.
#[derive(Default)]
pub struct Raw(PhantomData<()>);

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

async fn raw(server: &Server, rpc: &str, message: impl Into<Bytes>) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(server.channel().await.unwrap());
    grpc.ready().await.unwrap();
    let path = format!("/cognate.v1.Cognate/{rpc}").parse().unwrap();
    Ok(grpc.unary(Request::new(message.into()), path, Raw::default()).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_the_callers_fault() {
    let server = Server::start(&[]).await;
    let invalid_utf8 = [&[0x0a, 4][..], &[0xff, 0xfe, 0x80, 0x41]].concat();
    let longer_than_it_is = vec![0x0a, 0x7f, b'a'];
    let no_tag = vec![0xff; 12];
    for bytes in [invalid_utf8, longer_than_it_is, no_tag] {
        let status = raw(&server, "Embed", bytes.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bytes:?} gave {status:?}");
        assert!(status.message().starts_with("the message cannot be read"), "{status:?}");
    }
    let fine = EmbedRequest { texts: vec!["fine".into()], ..Default::default() };
    assert!(raw(&server, "Embed", fine.encode_to_vec()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_later_version_are_ignored() {
    let server = Server::start(&[]).await;
    let mut bytes = EmbedRequest { texts: vec!["fine".into()], ..Default::default() }.encode_to_vec();
    bytes.extend([0xfa, 0x06, 3, 1, 2, 3]); // field 111, three bytes
    assert!(raw(&server, "Embed", bytes).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nesting_without_end_is_refused() {
    let server = Server::start(&[]).await;
    // TopKRequest.filter = 10, then Filter.not = 3, again and again.
    let mut filter = Vec::new();
    for _ in 0..5000 {
        let mut outer = vec![0x1a];
        prost::encoding::encode_varint(filter.len() as u64, &mut outer);
        outer.extend(&filter);
        filter = outer;
    }
    let mut request = vec![0x52];
    prost::encoding::encode_varint(filter.len() as u64, &mut request);
    request.extend(filter);
    assert_eq!(raw(&server, "TopK", request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_above_the_limit_is_refused_compressed_or_not() {
    let server = Server::start(&["--max-message-bytes", "64KiB"]).await;
    let request = EmbedRequest { texts: vec!["a".repeat(1 << 20)], ..Default::default() };
    let status = server.client().await.embed(request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    // A megabyte of one letter is a kilobyte compressed.
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let status = server.client().await.send_compressed(encoding).embed(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{encoding:?}: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_requests_are_understood() {
    let server = Server::start(&[]).await;
    let request = EmbedRequest { texts: vec!["a train".into()], ..Default::default() };
    let plain = server.client().await.embed(request.clone()).await.unwrap().into_inner();
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let compressed = server.client().await.send_compressed(encoding).embed(request.clone()).await.unwrap();
        assert_eq!(compressed.into_inner(), plain, "{encoding:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish_leave_a_healthy_server() {
    let server = Server::start(&[]).await;
    for round in 0..3 {
        // During a unary call …
        let long = EmbedRequest { texts: new_texts(200, 250), ..Default::default() };
        let mut client = server.client().await;
        let call = tokio::spawn(async move { client.embed(long).await });
        // … a stream of texts …
        let mut client = server.client().await;
        let texts = || EmbedRequest { texts: new_texts(50, 100), ..Default::default() };
        let stream = tokio::spawn(async move {
            let mut responses =
                client.embed_stream(tokio_stream::iter(std::iter::repeat_with(texts).take(50))).await?.into_inner();
            while responses.next().await.is_some() {}
            Ok::<_, Status>(())
        });
        // … an upload whose client keeps sending but reads nothing …
        let mut client = server.client().await;
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let upload_stream = tokio::spawn(async move {
            let _responses = client.upload(ReceiverStream::new(receive)).await?;
            std::future::pending::<()>().await;
            Ok::<_, Status>(())
        });
        for n in 0..5 {
            let documents = (0..50).map(|d| document(&format!("{round}-{n}-{d}"), "a text")).collect();
            let message = UploadRequest { collection: "c".into(), documents };
            tokio::time::timeout(Duration::from_secs(5), send.send(message)).await.ok();
        }
        // … and a handshake.
        let mut half_open = TcpStream::connect(server.addr).unwrap();
        half_open.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0").unwrap();
        call.abort();
        stream.abort();
        upload_stream.abort();
        drop(half_open);
    }
    let mut garbage = TcpStream::connect(server.addr).unwrap();
    garbage.write_all(&[0xa5; 4096]).unwrap();
    let mut client = server.client().await;
    assert_eq!(upload(&mut client, "after", vec![document("a", "a text")]).await.committed, 1);
    assert!(client.list_collections(ListCollectionsRequest::default()).await.is_ok());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_half_closed_is_answered_to_its_end() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let none = client.embed_stream(tokio_stream::empty()).await.unwrap().into_inner();
    assert_eq!(none.collect::<Vec<_>>().await.len(), 0);
    let requests = vec![EmbedRequest { texts: vec!["a".into(); 300], ..Default::default() }; 3];
    let answers = client.embed_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.collect::<Result<_, _>>().await.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.results.len()).sum::<usize>(), 900);
}
