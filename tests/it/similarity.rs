//! `Similarity`: the matrix of cosines.

use cognate::wire::SimilarityRequest;
use tonic::Code;

use crate::harness::{Server, wrong_fields};

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn meaning_decides_the_score() {
    let server = Server::start(&[]).await;
    let request = SimilarityRequest {
        a: texts(&["A man is eating food.", "The girl is carrying a baby."]),
        b: texts(&["A man is eating a piece of bread.", "A cheetah is running behind its prey."]),
        ..Default::default()
    };
    let rows = server.client().await.similarity(request).await.unwrap().into_inner().rows;
    assert_eq!(rows.iter().map(|row| row.scores.len()).collect::<Vec<_>>(), [2, 2]);
    // The model card's own example gives 0.76 for the first pair.
    assert!((rows[0].scores[0] - 0.76).abs() < 0.02, "{rows:?}");
    assert!(rows[0].scores[0] > 0.5 && rows[0].scores[1] < 0.3 && rows[1].scores[1] < 0.3, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_list_is_compared_with_itself() {
    let server = Server::start(&[]).await;
    let request = SimilarityRequest { a: texts(&["a train", "a plane", "joy"]), ..Default::default() };
    let rows = server.client().await.similarity(request).await.unwrap().into_inner().rows;
    for i in 0..3 {
        assert!((rows[i].scores[i] - 1.0).abs() < 1e-6);
        for j in 0..3 {
            assert_eq!(rows[i].scores[j], rows[j].scores[i]);
            assert!((-1.0..=1.0).contains(&rows[i].scores[j]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_text_fails_the_call_by_name() {
    let server = Server::start(&["--max-text-bytes", "10", "--max-texts", "3"]).await;
    let mut client = server.client().await;
    for (a, b, field) in [
        (texts(&[]), texts(&["b"]), "a"),
        (texts(&["1", "2", "3", "4"]), texts(&[]), "a"),
        (texts(&["a"]), texts(&["1", "2", "3", "4"]), "b"),
        (texts(&["a", "eleven bytes"]), texts(&["b"]), "a[1]"),
        (texts(&["a"]), texts(&["b", "c", "eleven bytes"]), "b[2]"),
    ] {
        let status = client.similarity(SimilarityRequest { a, b, ..Default::default() }).await.unwrap_err();
        assert_eq!((status.code(), wrong_fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
}
