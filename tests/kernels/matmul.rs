//! Matrix products of row-major and column-major operands.

use hiosc::graph::{Binary, DType, Expr, MatMul, OpKind, Scalar, Unary};

use super::common::{assert_used, positive, typed_case};
use crate::support::harness::{KernelCase, Random, check};
use crate::support::operators::MatrixLayout::{self, Columns, Rows};
use crate::support::operators::{matmul_of, number_types, relu, two};
use crate::support::reference;

pub(super) fn matmul_case(r: &mut Random, extents: [usize; 4], layouts: [MatrixLayout; 3], bias: bool, epilogue: Expr) -> KernelCase {
    let (matmul, [a, b, out]) = matmul_of(extents, layouts, bias, epilogue);
    let mut inputs = vec![r.tensor(&a), r.tensor(&b)];
    if bias {
        inputs.push(r.tensor(&[matmul.n]));
    }
    (1..matmul.epilogue.inputs()).for_each(|_| inputs.push(r.tensor(&out)));
    let expected = reference::matmul(&matmul, &inputs, &out);
    KernelCase { kind: OpKind::MatMul(matmul), inputs, out, expected }
}

#[test]
fn matrix_products() {
    let mut r = Random(3);
    let none = Expr::identity;
    let mut cases = vec![
        matmul_case(&mut r, [1, 1, 1000, 512], [Rows, Columns, Rows], true, none()),
        matmul_case(&mut r, [1, 1, 37, 130], [Rows, Columns, Rows], true, relu()),
        matmul_case(&mut r, [1, 1, 100, 77], [Rows, Rows, Rows], false, relu()),
        matmul_case(&mut r, [2, 1, 33, 65], [Rows, Rows, Rows], true, two(Binary::Add)),
        matmul_case(&mut r, [1, 3, 50, 64], [Rows, Columns, Rows], true, none()),
        matmul_case(&mut r, [1, 70, 1, 40], [Rows, Columns, Rows], true, none()),
        matmul_case(&mut r, [3, 70, 2, 41], [Columns, Rows, Rows], true, relu()),
        matmul_case(&mut r, [1, 1, 1, 1], [Rows, Rows, Rows], false, none()),
        matmul_case(&mut r, [1, 64, 64, 64], [Rows, Rows, Rows], false, none()),
        matmul_case(&mut r, [1, 65, 67, 63], [Rows, Rows, Rows], true, relu()),
        matmul_case(&mut r, [2, 40, 36, 20], [Columns, Columns, Columns], true, none()),
        matmul_case(&mut r, [5, 12, 20, 8], [Rows, Columns, Rows], false, two(Binary::Add).then(Unary::Relu)),
        matmul_case(&mut r, [3, 17, 9, 25], [Columns, Rows, Rows], true, none()),
        matmul_case(&mut r, [1, 300, 320, 12], [Rows, Columns, Rows], true, none()),
    ];
    // One matrix for the whole batch: a stride of zero.
    let shared = MatMul {
        batch: 3,
        m: 6,
        n: 10,
        k: 7,
        a_strides: [42, 7, 1],
        b_strides: [0, 10, 1],
        c_strides: [60, 10, 1],
        bias: false,
        epilogue: none(),
    };
    let inputs = vec![r.tensor(&[3, 6, 7]), r.tensor(&[7, 10])];
    let out = vec![3, 6, 10];
    cases.push(KernelCase { expected: reference::matmul(&shared, &inputs, &out), kind: OpKind::MatMul(shared), inputs, out });
    // Up to eight vectors, all at once or one by one: sums of whole steps, of less than one, and of
    // several and a rest; the vectors are rows of a or columns of b.
    for (vectors, k) in [(2, 7), (4, 128), (5, 300), (7, 1030), (8, 2048)] {
        for layout in [Columns, Rows] {
            cases.push(matmul_case(&mut r, [1, vectors, 45, k], [Rows, layout, Rows], true, relu()));
            cases.push(matmul_case(&mut r, [2, 45, vectors, k], [layout, Columns, Rows], true, two(Binary::Add)));
        }
    }
    cases.push(matmul_case(&mut r, [1, 9, 45, 64], [Rows, Rows, Rows], false, none()));
    let names = check("matrix products", cases);
    assert_used(&names, &["gemv_warp1", "gemv_warp8", "gemv_lines1t1024", "gemv_lines7t256", "bm"]);
}

#[test]
fn matrix_products_of_every_type() {
    let mut r = Random(24);
    let mut cases = Vec::new();
    for dtype in number_types() {
        let below = Expr::binary(Binary::Less, Expr::Input(0), Expr::Const(Scalar::from_f64(dtype, 20.0)));
        for (bias, epilogue) in [(false, Expr::identity()), (true, two(Binary::Add)), (true, below)] {
            let product = MatMul {
                batch: 2,
                m: 5,
                n: 9,
                k: 13,
                a_strides: [65, 13, 1],
                b_strides: [0, 9, 1],
                c_strides: [45, 9, 1],
                bias,
                epilogue: epilogue.clone(),
            };
            let mut x = |shape: &[usize]| positive(&mut r, dtype, shape);
            let mut inputs = vec![x(&[2, 5, 13]), x(&[13, 9])];
            inputs.extend(bias.then(|| x(&[9])));
            inputs.extend((epilogue.inputs() > 1).then(|| x(&[2, 5, 9])));
            cases.push(typed_case(OpKind::MatMul(product), inputs, &[2, 5, 9], 64.0));
        }
    }
    check("matrix products of every type", cases);
}

#[test]
fn integer_products_wrap_around() {
    let mut r = Random(29);
    let mut cases = Vec::new();
    for dtype in [DType::I8, DType::U8, DType::I32, DType::I64, DType::U64] {
        let matmul = MatMul {
            batch: 2,
            m: 4,
            n: 3,
            k: 5,
            a_strides: [20, 5, 1],
            b_strides: [0, 1, 5],
            c_strides: [12, 3, 1],
            bias: dtype == DType::I32,
            epilogue: Expr::identity(),
        };
        let mut inputs = vec![r.typed(dtype, &[2, 4, 5]), r.typed(dtype, &[3, 5])];
        inputs.extend(matmul.bias.then(|| r.typed(dtype, &[3])));
        cases.push(typed_case(OpKind::MatMul(matmul), inputs, &[2, 4, 3], 0.0));
    }
    check("integer products wrap around", cases);
}
