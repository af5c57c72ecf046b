//! Scalar expressions as C++ types and as parts of names.

use super::OpContext;
use super::spec::{Param, cpp_type};
use crate::Result;
use crate::graph::{Binary, DType, Expr, Unary};

/// `Relu<Add<In<0>, In<1>>>`, a type of `expr.cuh`.
pub(super) fn cpp(expr: &Expr) -> String {
    match expr {
        Expr::Input(i) => format!("In<{i}>"),
        Expr::Const(c) => {
            format!("Const<{}, 0x{:0digits$x}u /* {c} */>", cpp_type(c.dtype()), c.bits(), digits = 2 * c.dtype().bytes() as usize)
        }
        Expr::Cast(to, a) => format!("Cast<{}, {}>", cpp_type(*to), cpp(a)),
        Expr::Unary(op, a) => format!("{}<{}>", unary(*op), cpp(a)),
        Expr::Binary(op, a, b) => format!("{}<{}, {}>", binary(*op), cpp(a), cpp(b)),
        Expr::Select(c, a, b) => format!("Select<{}, {}, {}>", cpp(c), cpp(a), cpp(b)),
    }
}

/// `relu_add_x0_x1`: prefix notation, so that no two expressions share a name.
pub(super) fn name(expr: &Expr) -> String {
    match expr {
        Expr::Input(i) => format!("x{i}"),
        Expr::Const(c) if c.dtype() == DType::F32 => format!("c{:08x}", c.bits()),
        Expr::Const(c) => format!("c{}x{:x}", c.dtype().name(), c.bits()),
        Expr::Cast(to, a) => format!("to{}_{}", to.name(), name(a)),
        Expr::Unary(op, a) => format!("{}_{}", op.name(), name(a)),
        Expr::Binary(op, a, b) => format!("{}_{}_{}", op.name(), name(a), name(b)),
        Expr::Select(c, a, b) => format!("select_{}_{}_{}", name(c), name(a), name(b)),
    }
}

/// Whether the expression becomes multiply-adds of floating-point numbers: a product that is added
/// to something, or a function that needs some.
pub(super) fn multiplies(expr: &Expr) -> bool {
    match expr {
        Expr::Input(_) | Expr::Const(_) => false,
        Expr::Cast(_, a) => multiplies(a),
        Expr::Unary(op, a) => {
            let plain = matches!(op, Unary::Relu | Unary::Neg | Unary::Abs | Unary::Square | Unary::Floor | Unary::Ceil | Unary::Round);
            !plain && !matches!(op, Unary::Sign | Unary::Not) || multiplies(a)
        }
        Expr::Binary(op, a, b) => {
            let product = |e: &Expr| matches!(e, Expr::Binary(Binary::Mul, ..) | Expr::Unary(Unary::Square, _));
            let sum = matches!(op, Binary::Add | Binary::Sub) && (product(a) || product(b));
            sum || matches!(op, Binary::Div | Binary::Pow) || multiplies(a) || multiplies(b)
        }
        Expr::Select(c, a, b) => multiplies(c) || multiplies(a) || multiplies(b),
    }
}

/// The bias and epilogue of a fused operator, as C++, parts of names, and words.
pub(super) struct Epilogue {
    /// The C++ type.
    pub cpp: String,
    /// Appended to the signature: `_b_relu`; empty if there is neither bias nor epilogue.
    pub suffix: String,
    /// Ends the sentence of the comment:
    /// `, plus bias, then add(x0, x1) of that sum x0 and x1 of y's shape`.
    pub words: String,
    /// The kernel's parameters: the two operands, `bias`, `x1`, ..., `y`.
    pub params: Vec<Param>,
    /// The template's argument for the bias.
    pub bias_argument: &'static str,
    /// `, x1, x2`: the template's last arguments.
    pub more_arguments: String,
}

impl Epilogue {
    /// The epilogue of `ctx`. `operands` are the names of the first two inputs. Checks the further
    /// inputs against the output.
    pub fn new(ctx: &OpContext, operands: [&str; 2], bias: bool, channels: usize, expr: &Expr) -> Result<Epilogue> {
        let first = 2 + usize::from(bias);
        ctx.require(ctx.inputs.len() >= first, "an operand or the bias is missing")?;
        if bias {
            ctx.require(ctx.inputs[2].elements() == channels as u64, "the bias must have one number per channel")?;
        }
        let more: Vec<String> = (1..=ctx.inputs.len() - first).map(|i| format!("x{i}")).collect();
        ctx.require(expr.inputs() <= more.len() + 1, "the epilogue reads an input that the operator does not have")?;
        ctx.require(
            ctx.inputs[first..].iter().all(|t| t.elements() == ctx.output.elements()),
            "an input of the epilogue differs from the output in size",
        )?;

        let mut suffix = String::new();
        let mut words = String::new();
        if bias {
            suffix += "_b";
            words += ", plus bias";
        }
        match expr {
            expr if expr.is_identity() => {}
            Expr::Unary(op, x) if x.is_identity() => suffix += &format!("_{}", op.name()),
            _ => suffix += &format!("_{}", name(expr)),
        }
        if !expr.is_identity() {
            words += &format!(", then {expr} of that sum x0");
        }
        if more.len() + 1 > expr.inputs().max(1) {
            suffix += &format!("_i{}", more.len()); // inputs that nothing reads are still parameters
        }
        if !more.is_empty() {
            words += &format!(" and {} of y's shape", more.join(", "));
        }
        Ok(Epilogue {
            cpp: cpp(expr),
            suffix,
            words,
            bias_argument: if bias { "bias" } else { "nullptr" },
            more_arguments: more.iter().map(|x| format!(", {x}")).collect(),
            params: ctx
                .params(&operands.into_iter().chain(bias.then_some("bias")).chain(more.iter().map(String::as_str)).collect::<Vec<_>>()),
        })
    }
}

fn unary(op: Unary) -> &'static str {
    match op {
        Unary::Relu => "Relu",
        Unary::Neg => "Neg",
        Unary::Abs => "Abs",
        Unary::Exp => "Exp",
        Unary::Log => "Log",
        Unary::Sqrt => "Sqrt",
        Unary::Rsqrt => "Rsqrt",
        Unary::Recip => "Recip",
        Unary::Sigmoid => "Sigmoid",
        Unary::Tanh => "Tanh",
        Unary::Square => "Square",
        Unary::HardSwish => "HardSwish",
        Unary::Silu => "Silu",
        Unary::Gelu => "Gelu",
        Unary::Erf => "Erf",
        Unary::Floor => "Floor",
        Unary::Ceil => "Ceil",
        Unary::Round => "Round",
        Unary::Sign => "Sign",
        Unary::Sin => "Sin",
        Unary::Cos => "Cos",
        Unary::Tan => "Tan",
        Unary::Asin => "Asin",
        Unary::Acos => "Acos",
        Unary::Atan => "Atan",
        Unary::Sinh => "Sinh",
        Unary::Cosh => "Cosh",
        Unary::Asinh => "Asinh",
        Unary::Acosh => "Acosh",
        Unary::Atanh => "Atanh",
        Unary::Not => "Not",
    }
}

fn binary(op: Binary) -> &'static str {
    match op {
        Binary::Add => "Add",
        Binary::Sub => "Sub",
        Binary::Mul => "Mul",
        Binary::Div => "Div",
        Binary::Max => "Max",
        Binary::Min => "Min",
        Binary::Pow => "Pow",
        Binary::Less => "Less",
        Binary::LessEqual => "LessEqual",
        Binary::Equal => "Equal",
        Binary::Rem => "Rem",
        Binary::And => "And",
        Binary::Or => "Or",
        Binary::Xor => "Xor",
        Binary::ShiftLeft => "ShiftLeft",
        Binary::ShiftRight => "ShiftRight",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_that_is_added_becomes_a_multiply_add() {
        let product = Expr::binary(Binary::Mul, Expr::Input(0), Expr::Input(1));
        assert!(!multiplies(&Expr::identity()) && !multiplies(&product.clone().then(Unary::Relu)));
        assert!(multiplies(&Expr::binary(Binary::Add, product.clone(), Expr::Input(2))));
        assert!(multiplies(&Expr::binary(Binary::Max, Expr::Input(2), product.then(Unary::Exp))));
    }

    #[test]
    fn expressions_become_types_and_names() {
        let e = Expr::binary(Binary::Add, Expr::Input(0), Expr::number(1.5)).then(Unary::Relu);
        assert_eq!(cpp(&e), "Relu<Add<In<0>, Const<float, 0x3fc00000u /* 1.5 */>>>");
        assert_eq!(name(&e), "relu_add_x0_c3fc00000");
        let e = Expr::binary(Binary::Rem, Expr::Input(0).cast(DType::I64), Expr::Const(7.into()));
        assert_eq!(cpp(&e), "Rem<Cast<long long, In<0>>, Const<long long, 0x0000000000000007u /* 7i64 */>>");
        assert_eq!(name(&e), "rem_toi64_x0_ci64x7");
    }
}
