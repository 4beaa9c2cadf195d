//! `--cpu`: instruction sets below the machine's best, as other machines have them.

use std::process::Command;

use cognate::machine::cpu::Level;

use crate::embed::assert_agrees_with_the_reference;
use crate::harness::Server;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow where instructions are low; .ci/run has a step for it"]
async fn every_lower_level_of_instructions_gives_the_same_vectors() {
    let levels: Vec<Level> = Level::supported().collect();
    let (_best, lower) = levels.split_last().expect("every machine has the portable level");
    for level in lower {
        let server = Server::start(&["--cpu", level.name()]).await;
        assert_agrees_with_the_reference(&server).await;
        server.has_logged(&format!("cpu={level}")).await;
    }
}

#[test]
fn missing_instructions_end_the_start_with_those_that_the_machine_has() {
    let foreign = if cfg!(target_arch = "aarch64") { Level::Avx512 } else { Level::Neon };
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    let ended =
        command.args(["serve", "--in-memory", "--addr", "127.0.0.1:0", "--cpu", foreign.name()]).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{told}");
    for part in [format!("cpu is {foreign}"), "this machine has portable".to_owned()] {
        assert!(told.contains(&part), "{told}");
    }
    assert!(ended.stdout.is_empty(), "it listened before it knew");
}
