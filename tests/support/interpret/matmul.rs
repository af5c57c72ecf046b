//! Matrix products, from their definition.

use hiosc::graph::MatMul;

use super::{Operands, offset, one, sum, unravel};
use crate::support::number::Number;

pub fn matmul(m: &MatMul, of: &Operands) -> Vec<Number> {
    let mut result = vec![None; of.out.iter().product()];
    for index in (0..m.batch * m.m * m.n).map(|i| unravel(i, &[m.batch, m.m, m.n])) {
        let [b, i, j] = index[..] else { panic!("three axes") };
        let term = |k: usize| (of.args[0][offset([b, i, k], m.a_strides)], of.args[1][offset([b, k, j], m.b_strides)]);
        let bias = m.bias.then(|| (of.args[2][j], one(of.dtype)));
        let sum = sum(of.dtype, (0..m.k).map(term).chain(bias));
        let at = offset([b, i, j], m.c_strides);
        result[at] = Some(of.finish(&m.epilogue, sum, 2 + usize::from(m.bias), at));
    }
    result.into_iter().map(|v| v.expect("every output is computed")).collect()
}
