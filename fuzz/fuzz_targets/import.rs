//! libFuzzer's entry point for [`hiosc_fuzz::import`].
#![no_main]

libfuzzer_sys::fuzz_target!(init: hiosc_fuzz::let_panics_be_caught(), |data: &[u8]| hiosc_fuzz::import(data));
