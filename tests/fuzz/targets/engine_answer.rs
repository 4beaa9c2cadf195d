#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cognate::fuzz::read("engine_answer", bytes));
