//! What the test programs share: ONNX models made in the test, a plain interpreter of graphs, kernels run on the CPU, the shared models where they are there, and this
//! program started once more. Each program takes all of it by `#[path = "../support/mod.rs"] mod support;`.
#![allow(dead_code)] // each test program uses a part

use hiosc::device::{DeviceModel, device};
use hiosc::graph::Constant;

pub mod cli;
pub mod harness;
pub mod indexed;
pub mod interpret;
pub mod networks;
pub mod number;
pub mod onnx;
pub mod operators;
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

/// `n` values in [-1, 1), the same for the same seed.
pub fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// The largest difference, as a share of the largest expected value; infinite where types or lengths differ, or values that are not floating-point numbers.
pub fn relative_error(found: &Constant, expected: &Constant) -> f64 {
    assert_eq!((found.dtype(), found.len()), (expected.dtype(), expected.len()));
    let (difference, scale) = found.dtype().difference(found.bytes(), expected.bytes());
    if found.dtype().is_float() || difference == 0.0 { difference / scale.max(f64::MIN_POSITIVE) } else { f64::INFINITY }
}
