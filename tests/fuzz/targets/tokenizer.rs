#![no_main]

libfuzzer_sys::fuzz_target!(
    // The library may panic on damaged files; the product catches that and returns an error. Without this, the first
    // such panic would end the run. A panic that nobody catches still does.
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| cognate::fuzz::read("tokenizer", bytes)
);
