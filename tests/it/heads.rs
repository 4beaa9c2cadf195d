//! Heads on the embedding: `cognate train-head` makes them, and they are served beside the vectors that they read.

use std::path::Path;
use std::process::{Command, Output};

use cognate::wire::vector::write;
use cognate::wire::{ClassifyRequest, EmbedRequest, InfoRequest, VectorFormat};

use crate::classify::{classification, request};
use crate::embed::values;
use crate::harness::Server;

/// Sentences about each subject.
const EXAMPLES: [(&str, [&str; 8]); 3] = [
    (
        "billing",
        [
            "I was charged twice this month",
            "The invoice shows the wrong amount",
            "Please refund my payment",
            "My credit card was declined",
            "Why is there a fee on my bill?",
            "I want my money back",
            "The discount was not applied to my order total",
            "Can I pay by bank transfer?",
        ],
    ),
    (
        "shipping",
        [
            "My parcel never arrived",
            "The delivery is a week late",
            "Where is my package?",
            "The courier left it with a neighbour",
            "Can you ship to Norway?",
            "The tracking number does not work",
            "The box was damaged in transit",
            "I need to change the delivery address",
        ],
    ),
    (
        "account",
        [
            "I cannot log in",
            "How do I reset my password?",
            "Please delete my profile",
            "My username is already taken",
            "The two factor code never comes",
            "I want to change my email address",
            "Someone else has access to my account",
            "The sign up page rejects my phone number",
        ],
    ),
];

fn cognate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cognate")).args(args).output().expect("the binary was built with the tests")
}

/// Trains a head by the texts above. Returns the output of the command and the path of the head.
pub fn train(server: &Server, folder: &Path, more: &[&str]) -> (Output, String) {
    let (examples, head) = (folder.join("tickets.csv"), folder.join("head.json"));
    let rows = EXAMPLES.iter().flat_map(|(label, texts)| texts.iter().map(move |text| format!("\"{text}\",{label}\n")));
    std::fs::write(&examples, format!("text,label\n{}", rows.collect::<String>())).unwrap();
    let head = head.display().to_string();
    let addr = server.addr.to_string();
    let fixed = ["train-head", examples.to_str().unwrap(), "--output", &head, "--addr", &addr];
    (cognate(&[&fixed, more].concat()), head)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_examples_make_a_classifier_that_shares_the_pass_of_the_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = Server::start(&[]).await;
    let (output, head) = train(&teacher, folder.path(), &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    let accuracy = report["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.75, "of texts that were held out: {report}");
    assert!((report["baseline"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9, "{report}");
    drop(teacher);

    let server = Server::start(&["--classifier", &format!("tickets={head}"), "--classifier", "sentiment"]).await;
    let mut client = server.client().await;
    let info = client.info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.classifiers[0].labels, ["account", "billing", "shipping"]);
    assert_eq!((&*info.classifiers[0].runtime, &*info.classifiers[1].name), ("embedding", "sentiment"));

    let texts = ["You billed me two times", "The package is still on its way", "My password does not work"];
    let asked = ClassifyRequest { with_vector: true, ..request("tickets", &texts) };
    let answer = client.classify(asked).await.unwrap().into_inner();
    let labels: Vec<&str> = answer.results.iter().map(|result| classification(result).label.as_str()).collect();
    assert_eq!(labels, ["billing", "shipping", "account"]);
    let embedded = EmbedRequest { texts: texts.map(str::to_owned).to_vec(), ..Default::default() };
    let embedded = client.embed(embedded).await.unwrap().into_inner();
    for (classified, embedded) in answer.results.iter().zip(&embedded.results) {
        let vector = classification(classified).vector.as_ref().expect("it was asked for");
        assert_eq!(vector.values, values(embedded), "one model, one pass");
        assert_eq!((classified.tokens, classified.tokens_total), (embedded.tokens, embedded.tokens_total));
    }
    for format in [VectorFormat::F32Bytes, VectorFormat::F16Bytes, VectorFormat::Int8, VectorFormat::Binary] {
        let vector_format = format.into();
        let asked = ClassifyRequest { with_vector: true, vector_format, ..request("tickets", &texts) };
        let answer = client.classify(asked).await.unwrap().into_inner();
        for (classified, embedded) in answer.results.iter().zip(&embedded.results) {
            assert_eq!(classification(classified).vector, Some(write(values(embedded), format)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn training_again_makes_the_same_head_and_people_see_what_it_confuses() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[]).await;
    let (first, head) = train(&server, folder.path(), &[]);
    let shown = String::from_utf8(first.stdout).unwrap();
    for part in ["24 texts, 3 labels", "macro F1", "billing", "→ shipping", "--classifier NAME="] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    let before = std::fs::read(&head).unwrap();
    train(&server, folder.path(), &[]);
    assert_eq!(std::fs::read(&head).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_another_models_vectors_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[]).await;
    let (_, head) = train(&server, folder.path(), &[]);
    let classifier = format!("tickets={head}");
    let start = |more: &[&str]| {
        let fixed =
            ["serve", "--in-memory", "--addr", "127.0.0.1:0", "--precision", "int8", "--classifier", &classifier];
        cognate(&[&fixed, more].concat())
    };
    let output = start(&[]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("tickets cannot be served") && text.contains("all-MiniLM-L6-v2"), "{text}");
    // Near vectors suffice for a head if the user wants that.
    let mixed =
        Server::start(&["--precision", "int8", "--allow-precision-mix", "true", "--classifier", &classifier]).await;
    let answer = mixed.client().await.classify(request("", &["Refund me"])).await.unwrap().into_inner();
    assert_eq!(classification(&answer.results[0]).label, "billing");
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_that_cannot_teach_are_named() {
    let server = Server::start(&[]).await;
    let (folder, addr) = (tempfile::tempdir().unwrap(), server.addr.to_string());
    let head = folder.path().join("head.json").display().to_string();
    for (content, reason) in [
        ("text,label\na,x\nb,x\n", "too few labels: 1"),
        ("text,label\na,x\nb,x\nc,y\n", "\"y\""),
        ("text,label\na,x\nb,\n", "examples.csv:3: there is no label"),
        ("text,kind\na,x\n", "--label-column"),
    ] {
        let examples = folder.path().join("examples.csv");
        std::fs::write(&examples, content).unwrap();
        let output = cognate(&["train-head", examples.to_str().unwrap(), "--output", &head, "--addr", &addr]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{content}");
        assert!(text.contains(reason), "{reason} is not in: {text}");
        assert!(!Path::new(&head).exists(), "nothing is written");
    }
}
