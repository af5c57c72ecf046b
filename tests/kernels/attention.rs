//! Attention: shared key and value heads, masks, contiguous and packed operands.

use hiosc::graph::OpKind;

use super::common::{assert_used, case};
use crate::support::harness::{KernelCase, Random, TensorValues, check};
use crate::support::number::Number;
use crate::support::operators::attention_of;

/// How far off a kernel may be.
fn tolerance(_: usize, value: Number) -> f64 {
    2e-5 * (value.f64().abs() + 1.0)
}

/// Attention of contiguous operands.
fn attention_case(r: &mut Random, heads: [usize; 3], extents: [usize; 4], causal: bool, mask: Option<[usize; 4]>) -> KernelCase {
    let (attention, shapes, y) = attention_of(heads, extents, causal, mask);
    let mut inputs: Vec<TensorValues> = shapes[..3].iter().map(|shape| r.tensor(shape)).collect();
    if let Some(shape) = mask {
        let mut mask = r.tensor(&shape);
        // masks out every third element, and the whole first row, which gives NaN
        mask.floats_mut().iter_mut().enumerate().filter(|(i, _)| i % 3 == 0 || *i < shape[3]).for_each(|(_, v)| *v = f32::NEG_INFINITY);
        inputs.push(mask);
    }
    case(OpKind::Attention(attention), inputs, &y, tolerance)
}

#[test]
fn attentions() {
    let mut r = Random(26);
    let mut cases = vec![
        attention_case(&mut r, [1, 3, 3], [197, 197, 64, 64], false, None),
        attention_case(&mut r, [2, 2, 2], [4, 6, 8, 8], false, None),
        attention_case(&mut r, [2, 6, 2], [9, 33, 10, 7], false, None), // shared heads, odd extents
        attention_case(&mut r, [1, 2, 1], [40, 40, 16, 16], true, None),
        attention_case(&mut r, [1, 1, 1], [3, 50, 5, 20], true, None), // few new rows, many old columns
        attention_case(&mut r, [1, 2, 2], [6, 4, 8, 8], true, None),   // rows without a visible column
        attention_case(&mut r, [2, 3, 3], [5, 70, 12, 12], false, Some([2, 1, 5, 70])),
        attention_case(&mut r, [2, 2, 2], [5, 7, 12, 12], false, Some([1, 1, 5, 7])),
        attention_case(&mut r, [1, 2, 2], [5, 7, 12, 12], false, Some([1, 2, 1, 7])),
        attention_case(&mut r, [1, 1, 1], [20, 40, 256, 256], false, None),
        attention_case(&mut r, [1, 1, 1], [1, 1, 1, 1], false, None),
    ];
    // q, k and v packed in one tensor `[row, (q k v), head, depth]`, as exporters write them; the
    // result is `[row, head, depth]`
    let [rows, heads, depth] = [21, 3, 8];
    let packed = |x: usize| [0, depth, x * heads * depth, 1];
    let plain = attention_case(&mut r, [1, heads, heads], [rows, rows, depth, depth], false, None);
    let OpKind::Attention(mut attention) = plain.kind else { unreachable!("an attention") };
    (attention.q_strides, attention.k_strides, attention.v_strides, attention.y_strides) = (packed(3), packed(3), packed(3), packed(1));
    let inputs = (0..3).map(|_| r.tensor(&[rows, 3, heads, depth])).collect();
    cases.push(case(OpKind::Attention(attention), inputs, &[rows, heads, depth], tolerance));
    let names = check("attentions", cases);
    assert_used(&names, &["bm32", "bm16", "bm8b", "causal"]);
}
