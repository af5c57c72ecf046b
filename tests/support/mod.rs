//! What the test programs share: a builder of ONNX models, a plain interpreter of graphs, kernels
//! run on the CPU, the shared models if present, and test programs that run themselves again. Each
//! program includes all of it with `#[path = "../support/mod.rs"] mod support;`.
#![allow(dead_code)] // each test program uses a part

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hiosc::device::{DeviceModel, device};
use hiosc::graph::Constant;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

pub mod cli;
pub mod harness;
pub mod interpret;
pub mod networks;
pub mod number;
pub mod onnx;
pub mod operators;
pub mod random_model;
pub mod reference;
pub mod sanitized;
pub mod scenario;
pub mod shared;
pub mod skip;
pub mod small;

pub(crate) use skip::skipped;

/// The GPU that kernels are chosen for, where a test does not care which.
pub fn a40() -> DeviceModel {
    device("a40").expect("a device model")
}

/// The target folder that this program was built in, for tests that call cargo.
pub fn target_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo makes it inside the target folder").to_path_buf()
}

/// Runs `work` on the items, started in order, on as many threads as there are processors. Fails if
/// one of them fails.
pub fn side_by_side<T: Send>(items: impl IntoIterator<Item = T, IntoIter: Send>, work: impl Fn(T) + Sync) {
    let waiting = Mutex::new(items.into_iter());
    let next = || waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                while let Some(item) = next() {
                    work(item);
                }
            });
        }
    });
}

/// `n` values in [-1, 1), the same for the same seed.
pub fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = SplitMix64::seed_from_u64(seed);
    let next = || (rng.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
    std::iter::repeat_with(next).take(n).collect()
}

/// The largest difference, as a share of the largest expected value. Infinite if values differ that
/// are not floating-point numbers. Types and lengths must be the same.
pub fn relative_error(found: &Constant, expected: &Constant) -> f64 {
    assert_eq!((found.dtype(), found.len()), (expected.dtype(), expected.len()));
    let (difference, scale) = found.dtype().difference(found.bytes(), expected.bytes());
    if found.dtype().is_float() || difference == 0.0 { difference / scale.max(f64::MIN_POSITIVE) } else { f64::INFINITY }
}

/// The tensors of a safetensors file as an npz file.
pub fn npz(path: &Path, safetensors: &[u8]) {
    use npyz::WriterBuilder;
    let file = safetensors::SafeTensors::deserialize(safetensors).expect("tensors");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).expect("a file"));
    for (name, view) in file.tensors() {
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let shape: Vec<u64> = view.shape().iter().map(|&d| d as u64).collect();
        let name = format!("{}.npy", name.replace('/', "_"));
        archive.start_file(name, zip::write::SimpleFileOptions::default()).expect("an entry");
        let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut archive).begin_nd().expect("a header");
        writer.extend(values).and_then(|()| writer.finish()).expect("values");
    }
    archive.finish().expect("an archive");
}
