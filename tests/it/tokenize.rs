//! `Tokenize` and `TokenizeStream`: the tokens of whole texts, their places, and errors in their own place.

use cognate::wire::{EmbedRequest, EmbedResponse, TokenizeRequest, TokenizeResult};
use tonic::Code;

use crate::harness::{Server, wrong_fields};

fn request(texts: &[&str]) -> TokenizeRequest {
    TokenizeRequest { texts: texts.iter().map(|text| (*text).to_owned()).collect(), ..Default::default() }
}

fn places(result: &TokenizeResult) -> Vec<(&str, bool, u32, u32)> {
    result.tokens.iter().map(|token| (token.text.as_str(), token.special, token.start, token.end)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_becomes_the_tokens_that_the_model_counts_with_their_places() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let long = "one boat, ".repeat(300);
    let texts = ["Zürich unbelievably", "", &long];
    let results = client.tokenize(request(&texts)).await.unwrap().into_inner().results;
    // The model reads without accents and in lower case; the places are those in the text.
    let expected = [
        ("[CLS]", true, 0, 0),
        ("Zürich", false, 0, 7),
        ("un", false, 8, 10),
        ("bel", false, 10, 13),
        ("ie", false, 13, 15),
        ("va", false, 15, 17),
        ("bly", false, 17, 20),
        ("[SEP]", true, 0, 0),
    ];
    assert_eq!(places(&results[0]), expected);
    assert_eq!((results[0].tokens[0].id, results[0].tokens[7].id), (101, 102));
    let embed = EmbedRequest { texts: texts.map(str::to_owned).into(), ..Default::default() };
    let EmbedResponse { results: counted } = client.embed(embed).await.unwrap().into_inner();
    let counts: Vec<_> = results.iter().map(|result| result.tokens.len()).collect();
    // Of a long text, Embed counts as far as it matters.
    assert_eq!(counts, [counted[0].tokens as usize, counted[1].tokens as usize, 902]);
    assert!(counted[2].truncated && counted[2].tokens_total > 256);
    let bare = TokenizeRequest { without_special_tokens: true, ..request(&texts) };
    let bare = client.tokenize(bare).await.unwrap().into_inner().results;
    assert_eq!(bare.iter().map(|result| result.tokens.len()).collect::<Vec<_>>(), [counts[0] - 2, 0, 900]);
    assert!(bare[2].tokens.iter().all(|token| long[token.start as usize..token.end as usize] == token.text));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_text_fails_alone_and_too_many_or_too_large_ones_fail_the_call() {
    let server =
        Server::start(&["--max-texts", "3", "--max-text-bytes", "20000", "--max-message-bytes", "64KiB"]).await;
    let mut client = server.client().await;
    let large = "x".repeat(20_001);
    let results = client.tokenize(request(&["a", &large, "b"])).await.unwrap().into_inner().results;
    assert_eq!(results.iter().map(|result| result.tokens.len()).collect::<Vec<_>>(), [3, 0, 3]);
    let error = results[1].error.as_ref().unwrap();
    assert!(error.code == Code::InvalidArgument as i32 && error.message.starts_with("texts[1]"), "{error:?}");
    for wrong in [&[][..], &["a"; 4]] {
        assert_eq!(wrong_fields(&client.tokenize(request(wrong)).await.unwrap_err()), ["texts"]);
    }
    // Each character is a token, so the answer would be larger than a message.
    let dots = ".".repeat(10_000);
    let status = client.tokenize(request(&[&dots])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");

    let requests = [request(&["one", "two"]), request(&["a"; 4]), request(&["three"])];
    let mut answers = client.tokenize_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut failed = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        failed.push(answer.results.iter().map(|result| result.error.is_some()).collect::<Vec<_>>());
    }
    assert_eq!(failed, [vec![false; 2], vec![true; 4], vec![false]]);
}
