//! Puts the external data of an ONNX model into the model itself:
//! `cargo run --release --example embed_weights -- IN.onnx OUT.onnx`.
//!
//! It made `testdata/squeezenet1_1.onnx`, so that the model is one file.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use prost::Message;
use tract_onnx::pb;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    ensure!(args.len() == 2, "usage: embed_weights IN.onnx OUT.onnx");
    let folder = Path::new(&args[0]).parent().unwrap_or(Path::new(""));
    let mut model = pb::ModelProto::decode(std::fs::read(&args[0])?.as_slice())?;
    let graph = model.graph.as_mut().context("the model has no graph")?;
    for tensor in &mut graph.initializer {
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.clone());
        let Some(location) = entry("location") else { continue };
        let data = std::fs::read(folder.join(&location)).context(location)?;
        let offset: usize = entry("offset").map_or(Ok(0), |o| o.parse())?;
        let length: usize = entry("length").map_or(Ok(data.len() - offset), |l| l.parse())?;
        tensor.raw_data = data.get(offset..offset + length).context("external data is too short")?.to_vec();
        tensor.external_data.clear();
        tensor.data_location = None;
    }
    std::fs::write(&args[1], model.encode_to_vec())?;
    Ok(())
}
