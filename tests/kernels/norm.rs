//! Normalisation over all kinds of axes, with one thread, warp or block per row.

use hiosc::graph::{Binary, Expr, Norm, OpKind, Unary};

use super::common::{assert_used, case};
use crate::support::harness::{Random, check};
use crate::support::operators::two;

#[test]
fn normalisations() {
    let mut r = Random(23);
    let scaled = two(Binary::Mul);
    let affine = Expr::binary(Binary::Add, scaled.clone(), Expr::Input(2));
    let mut cases = Vec::new();
    let mut add = |shape: &[usize], axes: &[usize], epilogue: &Expr, more: &[&[usize]], special: Option<f32>| {
        for centred in [false, true] {
            let mut inputs = vec![r.tensor(shape)];
            inputs[0].floats_mut().iter_mut().for_each(|v| *v += 3.0); // a mean that is not 0
            if let Some(value) = special {
                inputs[0].floats_mut()[0] = value;
            }
            inputs.extend(more.iter().map(|shape| r.tensor(shape)));
            let norm = Norm { centred, axes: axes.to_vec(), epsilon: 1e-5, epilogue: epilogue.clone() };
            cases.push(case(OpKind::Norm(norm), inputs, shape, |_, v| 1e-5 * (v.f64().abs() + 2.0)));
        }
    };
    let plain = Expr::identity();
    add(&[3, 40], &[1], &plain, &[], None);
    add(&[197, 192], &[1], &affine, &[&[1, 192], &[1, 192]], None);
    add(&[2, 3, 700], &[2], &scaled, &[&[1, 1, 700]], None);
    // Vectors of four and of two, with lanes that have none; and where they would not be aligned.
    add(&[5, 768], &[1], &affine, &[&[1, 768], &[5, 1]], None);
    add(&[3, 1024], &[1], &affine, &[&[3, 1024], &[1, 1]], None);
    add(&[3, 4, 36], &[2], &affine, &[&[1, 4, 36], &[3, 1, 36]], None);
    add(&[4, 132], &[1], &scaled, &[&[1, 132]], None);
    add(&[4, 130], &[1], &scaled, &[&[1, 130]], None);
    add(&[600, 256], &[1], &plain, &[], None);
    add(&[2, 3000], &[1], &affine, &[&[1, 3000], &[2, 1]], None);
    add(&[5, 3], &[1], &plain, &[], None);
    add(&[4, 1], &[1], &plain, &[], None); // rows of one element: variance 0
    add(&[2, 8, 5, 5], &[2, 3], &affine, &[&[1, 8, 1, 1], &[1, 8, 1, 1]], None); // InstanceNorm
    // GroupNorm
    add(&[2, 3, 4, 5, 5], &[2, 3, 4], &affine, &[&[1, 3, 4, 1, 1], &[1, 3, 4, 1, 1]], None);
    add(&[3, 40, 7, 7], &[1], &affine, &[&[1, 40, 1, 1], &[3, 1, 7, 7]], None); // over channels
    add(&[1, 9, 60, 60], &[1], &plain, &[], None); // many rows side by side
    add(&[6, 5, 4], &[0, 2], &plain, &[], None);
    add(&[1, 1, 64], &[0, 1, 2], &Expr::Input(0).then(Unary::Gelu), &[], None);
    add(&[2, 50], &[1], &plain, &[], Some(f32::NAN));
    add(&[2, 50], &[1], &plain, &[], Some(f32::INFINITY));
    let names = check("normalisations", cases);
    assert_used(&names, &["thread", "warp", "block", "rmsnorm"]);
}
