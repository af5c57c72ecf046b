//! libFuzzer's entry point for [`hiosc_fuzz::graph`].
#![no_main]

libfuzzer_sys::fuzz_target!(init: hiosc_fuzz::let_panics_be_caught(), |data: &[u8]| hiosc_fuzz::graph(data));
