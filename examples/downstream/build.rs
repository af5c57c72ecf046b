//! Compiles the model into `$OUT_DIR/squeezenet/`, with a `squeezenet.rs` beside it that
//! `src/lib.rs` includes.

use std::error::Error;
use std::path::PathBuf;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/squeezenet1_1.onnx");

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={MODEL}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let compilation = hiosc::Compiler::new(MODEL).device("a40").gpus(2).algorithm(hiosc::Algorithm::HiosLp).compile()?;
    compilation.write_module("squeezenet", &out)?;
    Ok(())
}
