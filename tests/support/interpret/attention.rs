//! Scaled dot-product attention, from its definition.

use hiosc::graph::Attention;

use super::{Operands, offset, unravel};
use crate::support::number::Number;

pub fn attention(a: &Attention, of: &Operands) -> Vec<Number> {
    let read = |input: usize, index: [usize; 4], strides: [usize; 4]| of.args[input][offset(index, strides)].f64();
    let mut result = vec![None; of.out.iter().product()];
    for i in 0..a.batch * a.heads * a.rows {
        let [b, h, row] = unravel(i, &[a.batch, a.heads, a.rows])[..] else { panic!("three axes") };
        let shared = h / (a.heads / a.kv_heads);
        let score = |column: usize| {
            let product = |d: usize| read(0, [b, h, row, d], a.q_strides) * read(1, [b, shared, column, d], a.k_strides);
            let mut score = f64::from(a.scale) * (0..a.depth).map(product).sum::<f64>();
            if let Some(strides) = a.mask_strides {
                score += read(3, [b, h, row, column], strides);
            }
            if a.causal && column + a.rows > row + a.columns { score + f64::from(f32::MIN) } else { score }
        };
        let scores: Vec<f64> = (0..a.columns).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // a row that is hidden as a whole gives 0
        let hidden = largest == f64::NEG_INFINITY;
        let weights: Vec<f64> = scores.iter().map(|s| if hidden { 0.0 } else { (s - largest).exp() }).collect();
        let total: f64 = if hidden { 1.0 } else { weights.iter().sum() };
        for d in 0..a.value_depth {
            let value = |column: usize| weights[column] * read(2, [b, shared, column, d], a.v_strides);
            result[offset([b, h, row, d], a.y_strides)] = Some(of.float((0..a.columns).map(value).sum::<f64>() / total));
        }
    }
    result.into_iter().map(|v| v.expect("every output is computed")).collect()
}
