//! The peak memory of `hiosc --no-check`: at most 1.5 times the size of a model whose weights
//! dominate, beyond what a tiny model takes. Weights are in memory once, so 1.0 is usual, and a
//! second copy fails.
//!
//! The peak is what Linux reports in `/proc` while the program runs. Elsewhere the test says that
//! it is skipped.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::support::cli::Bench;
use crate::support::onnx::{Attr, Model};
use crate::support::{random, skipped};

/// Adds a weight of random values, and writes what it needs into the folder.
type AddWeight = fn(&Bench, Model, &str, &[i64]) -> Model;

fn bytes(name: &str, shape: &[i64]) -> Vec<u8> {
    let seed = name.bytes().fold(7, |seed: u64, b| seed.wrapping_mul(31) + u64::from(b));
    random(seed, shape.iter().product::<i64>() as usize).into_iter().flat_map(f32::to_le_bytes).collect()
}

fn raw(_: &Bench, model: Model, name: &str, shape: &[i64]) -> Model {
    model.raw_weight(name, shape, bytes(name, shape))
}

fn floats(_: &Bench, model: Model, name: &str, shape: &[i64]) -> Model {
    model.random_weight(name, shape)
}

fn external(bench: &Bench, model: Model, name: &str, shape: &[i64]) -> Model {
    bench.write(name, bytes(name, shape));
    model.external_weight(name, shape, name)
}

fn constant(_: &Bench, model: Model, name: &str, shape: &[i64]) -> Model {
    model.constant(name, shape, bytes(name, shape))
}

/// Products by matrices of `side` rows and columns.
fn products(bench: &Bench, add: AddWeight, layers: usize, side: i64) -> Model {
    let mut model = Model::new().input("r0", &[1, side]);
    for i in 0..layers {
        model = add(bench, model, &format!("w{i}"), &[side, side]);
        model = add(bench, model, &format!("b{i}"), &[side]);
        model = model.node("MatMul", &[&format!("r{i}"), &format!("w{i}")], &format!("m{i}"), &[]);
        model = model.node("Add", &[&format!("m{i}"), &format!("b{i}")], &format!("a{i}"), &[]);
        model = model.node("Relu", &[&format!("a{i}")], &format!("r{}", i + 1), &[]);
    }
    model.output(&format!("r{layers}"), &[1, side])
}

/// Convolutions, each with a batch normalisation, which changes its weights.
fn convolutions(bench: &Bench, add: AddWeight, layers: usize, side: i64) -> Model {
    let channels = side / 4;
    let mut model = Model::new().input("r0", &[1, channels, 4, 4]);
    for i in 0..layers {
        model = add(bench, model, &format!("w{i}"), &[channels, channels, 3, 3]);
        let statistics = ["scale", "bias", "mean", "deviation"].map(|what| format!("{what}{i}"));
        model = statistics.iter().fold(model, |model, name| add(bench, model, name, &[channels]));
        model = model.node("Conv", &[&format!("r{i}"), &format!("w{i}")], &format!("c{i}"), &[Attr::Ints("pads", &[1; 4])]);
        let [scale, bias, mean, deviation] = statistics;
        model = model.node("Abs", &[&deviation], &format!("v{i}"), &[]);
        model = model.node("BatchNormalization", &[&format!("c{i}"), &scale, &bias, &mean, &format!("v{i}")], &format!("n{i}"), &[]);
        model = model.node("Relu", &[&format!("n{i}")], &format!("r{}", i + 1), &[]);
    }
    model.output(&format!("r{layers}"), &[1, channels, 4, 4])
}

/// The peak resident set of hiosc on `model`, in bytes.
fn peak(bench: &Bench, model: Model) -> u64 {
    model.save(bench.path(), "model");
    let mut child = bench.command(&["model.onnx", "-o", "out", "--no-check"]).stdout(Stdio::null()).spawn().expect("hiosc starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let code = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix(" kB")); // none once it has ended
        peak = line.map_or(peak, |kib| kib.trim().parse::<u64>().expect("a number") << 10);
        if let Some(code) = child.try_wait().expect("a child") {
            break code;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(code.success(), "{code}");
    peak
}

#[test]
fn weights_are_in_memory_once() {
    if !cfg!(target_os = "linux") {
        skipped!("SKIPPED: peak memory is measured on Linux only");
        return;
    }
    let network = [products, convolutions];
    for (name, network, add) in [
        ("raw data", network[0], raw as AddWeight),
        ("float data", network[0], floats),
        ("external data", network[0], external),
        ("constants", network[0], constant),
        ("convolutions", network[1], raw),
    ] {
        let (tiny, large) = (Bench::new(), Bench::new());
        let base = peak(&tiny, network(&tiny, add, 4, 64));
        let model = network(&large, add, 4, 2048);
        let peak = peak(&large, model);
        let size = fs::metadata(large.at("out/weights.safetensors")).expect("weights").len();
        assert!(size > 36 << 20, "{name}: the model has only {size} bytes");
        println!("{name}: {size} bytes, peak {peak}, of which {base} for a tiny model");
        assert!(peak <= base + size * 3 / 2, "{name}: {size} bytes take {peak}, and a tiny model {base}");
    }
}
