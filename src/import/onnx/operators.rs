//! ONNX's operators, and what each becomes: the one table behind refusals, `hiosc inspect` and
//! `docs/operators.md`.
//!
//! `import/lower/` decides what a node becomes, after tract has typed the model and folded
//! constants. So an operator of any row is accepted if it is folded away. An operator that is
//! lowered may still be refused for its types, its attributes or a shape that is not static.

use std::fmt::Write as _;

use super::tidy::{NEWEST, OLDEST};

/// What becomes of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is computed.
    Lowered {
        /// Element types of what is computed.
        types: &'static str,
        /// The operators of hiosc that it becomes.
        how: &'static str,
        /// What is refused; empty if nothing is.
        limits: &'static str,
    },
    /// It is supported only if its value is known when the model is compiled.
    Folded {
        /// Why.
        why: &'static str,
    },
    /// It is refused.
    Refused {
        /// Why.
        why: &'static str,
    },
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Empty for ONNX itself.
    pub domain: &'static str,
    /// ONNX's name.
    pub name: &'static str,
    /// The first opset that has it.
    pub since: u32,
    /// What becomes of it.
    pub support: Support,
}

const ALL: &str = "all";
const NUMBERS: &str = "numbers";
const FLOATS: &str = "f16, f32, f64";
const F32: &str = "f32";
const BOOL: &str = "bool";
const INTEGERS: &str = "integers";

const fn row(name: &'static str, since: u32, types: &'static str, how: &'static str, limits: &'static str) -> Row {
    Row { domain: "", name, since, support: Support::Lowered { types, how, limits } }
}

const fn scalar(name: &'static str, since: u32, types: &'static str) -> Row {
    row(name, since, types, "elementwise", "")
}

const fn folded(name: &'static str, since: u32, why: &'static str) -> Row {
    Row { domain: "", name, since, support: Support::Folded { why } }
}

const fn refused(name: &'static str, since: u32, why: &'static str) -> Row {
    Row { domain: "", name, since, support: Support::Refused { why } }
}

const fn in_domain(domain: &'static str, row: Row) -> Row {
    Row { domain, ..row }
}

const RANDOM: &str = "random numbers: a plan gives the same outputs for the same inputs";
const DATA: &str = "the shape of its result depends on its input's values";
const SEQUENCE: &str = "sequences and optional values are not tensors";
const STRING: &str = "strings are not supported";
const LOSS: &str = "a loss is for training: export the model for inference";
const TRAINING: &str = "hiosc compiles inference, not training";
const UNKNOWN: &str = "not supported yet";
const CLASSICAL: &str = "classical machine learning is not supported";
const FIXED: &str = "its inputs must be constants";
const ML: &str = "ai.onnx.ml";
const MICROSOFT: &str = "com.microsoft";
const PREVIEW: &str = "ai.onnx.preview.training";

/// All rows, by domain and name.
pub static ROWS: &[Row] = &[
    scalar("Abs", 1, NUMBERS),
    scalar("Acos", 7, FLOATS),
    scalar("Acosh", 9, FLOATS),
    scalar("Add", 1, NUMBERS),
    row("AffineGrid", 20, FLOATS, "matmul", "its size must be a constant"),
    scalar("And", 1, BOOL),
    row("ArgMax", 1, NUMBERS, "reduce", ""),
    row("ArgMin", 1, NUMBERS, "reduce", ""),
    scalar("Asin", 7, FLOATS),
    scalar("Asinh", 9, FLOATS),
    scalar("Atan", 7, FLOATS),
    scalar("Atanh", 9, FLOATS),
    row("Attention", 23, "f16, f32, f64", "attention, or matmul, elementwise and softmax", ""),
    row("AveragePool", 1, FLOATS, "pool, pool_nd", ""),
    row("BatchNormalization", 1, FLOATS, "elementwise; folded into a convolution before it", "not in training mode"),
    refused("Bernoulli", 15, RANDOM),
    refused("BitCast", 26, UNKNOWN),
    scalar("BitShift", 11, INTEGERS),
    scalar("BitwiseAnd", 18, INTEGERS),
    scalar("BitwiseNot", 18, INTEGERS),
    scalar("BitwiseOr", 18, INTEGERS),
    scalar("BitwiseXor", 18, INTEGERS),
    folded("BlackmanWindow", 17, FIXED),
    row("Cast", 1, ALL, "elementwise", "no strings, 8-bit floats or 4-bit integers"),
    row("CastLike", 15, ALL, "elementwise", "as for Cast"),
    row("CausalConvWithState", 27, FLOATS, "concat, conv_nd, slice", ""),
    scalar("Ceil", 1, FLOATS),
    scalar("Celu", 12, FLOATS),
    row("CenterCropPad", 18, ALL, "slice, pad", "its shape must be a constant"),
    row("Clip", 1, NUMBERS, "elementwise", ""),
    refused("Col2Im", 18, UNKNOWN),
    folded("Compress", 9, DATA),
    row("Concat", 1, ALL, "concat, or no copy where its inputs can be written side by side", ""),
    refused("ConcatFromSequence", 11, SEQUENCE),
    row("Constant", 1, ALL, "a weight", ""),
    folded("ConstantOfShape", 9, "its shape must be a constant"),
    row("Conv", 1, NUMBERS, "conv, conv_nd", ""),
    row("ConvInteger", 10, "i8, u8", "elementwise, conv_nd", ""),
    row("ConvTranspose", 1, NUMBERS, "conv_transpose", ""),
    scalar("Cos", 7, FLOATS),
    scalar("Cosh", 9, FLOATS),
    row("CumProd", 26, NUMBERS, "reduce", "the axis must be constant, and at most 1024 long"),
    row("CumSum", 11, NUMBERS, "cumsum", "the axis must be constant"),
    row("DFT", 17, FLOATS, "matmul", "at most 1024 points"),
    refused("DeformConv", 19, UNKNOWN),
    row("DepthToSpace", 1, ALL, "transpose between two views", ""),
    row("DequantizeLinear", 10, "i8, u8, i16, u16, i32, constant i4 and u4", "elementwise", ""),
    refused("Det", 11, UNKNOWN),
    scalar("Div", 1, NUMBERS),
    row("Dropout", 1, ALL, "nothing", "not in training mode: export the model for inference"),
    row("DynamicQuantizeLinear", 11, F32, "reduce, elementwise", ""),
    row("Einsum", 12, NUMBERS, "matmul, transpose, reduce, slice, elementwise", ""),
    scalar("Elu", 1, FLOATS),
    scalar("Equal", 1, ALL),
    scalar("Erf", 9, FLOATS),
    scalar("Exp", 1, FLOATS),
    row("Expand", 8, ALL, "a broadcast: elementwise", "its shape must be a constant"),
    row("EyeLike", 9, ALL, "a weight", ""),
    row("Flatten", 1, ALL, "a view", ""),
    scalar("Floor", 1, FLOATS),
    row("GRU", 1, "f16, f32", "matmul and cell, step by step", "steps times operators at most 10000"),
    row("Gather", 1, ALL, "gather, slice", "an index outside the axis reads the nearest element"),
    row("GatherElements", 11, ALL, "gather", "an index outside the axis reads the nearest element"),
    row("GatherND", 11, ALL, "gather", "an index outside the axis reads the nearest element"),
    row("Gelu", 20, FLOATS, "elementwise", ""),
    row("Gemm", 1, NUMBERS, "matmul", ""),
    row("GlobalAveragePool", 1, FLOATS, "reduce", ""),
    row("GlobalLpPool", 1, FLOATS, "reduce between elementwise", ""),
    row("GlobalMaxPool", 1, NUMBERS, "reduce", ""),
    scalar("Greater", 1, NUMBERS),
    scalar("GreaterOrEqual", 12, NUMBERS),
    row("GridSample", 16, F32, "grid_sample", "cubic over two axes only"),
    row("GroupNormalization", 18, FLOATS, "norm", ""),
    folded("HammingWindow", 17, FIXED),
    folded("HannWindow", 17, FIXED),
    scalar("HardSigmoid", 1, FLOATS),
    scalar("HardSwish", 14, FLOATS),
    row("Hardmax", 1, NUMBERS, "reduce, elementwise", ""),
    row("Identity", 1, ALL, "nothing", ""),
    row(
        "If",
        1,
        ALL,
        "the branch that is taken; if that is known only at run time, both, and a selection",
        "both branches must then give the same shapes",
    ),
    refused("ImageDecoder", 20, UNKNOWN),
    row("InstanceNormalization", 1, FLOATS, "norm", ""),
    scalar("IsInf", 10, FLOATS),
    scalar("IsNaN", 9, FLOATS),
    row("LRN", 1, F32, "lrn", ""),
    row("LSTM", 1, "f16, f32", "matmul and cell, step by step", "steps times operators at most 10000"),
    row("LayerNormalization", 17, FLOATS, "norm", ""),
    scalar("LeakyRelu", 1, FLOATS),
    scalar("Less", 1, NUMBERS),
    scalar("LessOrEqual", 12, NUMBERS),
    scalar("Log", 1, FLOATS),
    row("LogSoftmax", 1, FLOATS, "log_softmax", ""),
    row(
        "Loop",
        1,
        ALL,
        "its body, step by step",
        "the number of steps must be known when the model is compiled; steps times operators at most 10000",
    ),
    row("LpNormalization", 1, FLOATS, "reduce, elementwise", ""),
    row("LpPool", 1, FLOATS, "pool between elementwise", ""),
    row("MatMul", 1, NUMBERS, "matmul", ""),
    row("MatMulInteger", 10, "i8, u8", "elementwise, matmul", ""),
    scalar("Max", 1, NUMBERS),
    row("MaxPool", 1, NUMBERS, "pool, pool_nd, pool_indices", ""),
    refused("MaxRoiPool", 1, UNKNOWN),
    refused("MaxUnpool", 9, UNKNOWN),
    scalar("Mean", 1, FLOATS),
    row("MeanVarianceNormalization", 9, FLOATS, "reduce, elementwise", ""),
    folded("MelWeightMatrix", 17, FIXED),
    scalar("Min", 1, NUMBERS),
    scalar("Mish", 18, FLOATS),
    scalar("Mod", 10, NUMBERS),
    scalar("Mul", 1, NUMBERS),
    refused("Multinomial", 7, RANDOM),
    scalar("Neg", 1, NUMBERS),
    refused("NegativeLogLikelihoodLoss", 12, LOSS),
    refused("NonMaxSuppression", 10, DATA),
    folded("NonZero", 9, DATA),
    scalar("Not", 1, BOOL),
    row("OneHot", 9, ALL, "elementwise", "depth and values must be constant"),
    refused("Optional", 15, SEQUENCE),
    refused("OptionalGetElement", 15, SEQUENCE),
    refused("OptionalHasElement", 15, SEQUENCE),
    scalar("Or", 1, BOOL),
    scalar("PRelu", 1, FLOATS),
    row("Pad", 1, ALL, "pad, slice where pads are negative", "pads must be constants"),
    scalar("Pow", 1, NUMBERS),
    row("QLinearConv", 10, "i8, u8", "elementwise, conv_nd", ""),
    row("QLinearMatMul", 10, "i8, u8", "elementwise, matmul", ""),
    row("QuantizeLinear", 10, "f16, f32, i32 to i8, u8, i16, u16", "elementwise", ""),
    row("RMSNormalization", 23, FLOATS, "norm", ""),
    row("RNN", 1, "f16, f32", "matmul, step by step", "steps times operators at most 10000"),
    refused("RandomNormal", 1, RANDOM),
    refused("RandomNormalLike", 1, RANDOM),
    refused("RandomUniform", 1, RANDOM),
    refused("RandomUniformLike", 1, RANDOM),
    folded("Range", 11, FIXED),
    scalar("Reciprocal", 1, FLOATS),
    row("ReduceL1", 1, NUMBERS, "reduce", "axes must be constants"),
    row("ReduceL2", 1, FLOATS, "reduce", "axes must be constants"),
    row("ReduceLogSum", 1, FLOATS, "reduce", "axes must be constants"),
    row("ReduceLogSumExp", 1, FLOATS, "reduce", "axes must be constants"),
    row("ReduceMax", 1, NUMBERS, "reduce", "axes must be constants"),
    row("ReduceMean", 1, FLOATS, "reduce", "axes must be constants"),
    row("ReduceMin", 1, NUMBERS, "reduce", "axes must be constants"),
    row("ReduceProd", 1, NUMBERS, "reduce", "axes must be constants"),
    row("ReduceSum", 1, NUMBERS, "reduce", "axes must be constants"),
    row("ReduceSumSquare", 1, NUMBERS, "reduce", "axes must be constants"),
    refused("RegexFullMatch", 20, STRING),
    scalar("Relu", 1, NUMBERS),
    row("Reshape", 1, ALL, "a view", "its shape must be a constant"),
    row("Resize", 10, ALL, "resample", "sizes, scales and roi must be constants; integers by mode nearest"),
    row("ReverseSequence", 10, ALL, "gather", ""),
    refused("RoiAlign", 10, UNKNOWN),
    row("RotaryEmbedding", 23, FLOATS, "gather, elementwise, concat", ""),
    scalar("Round", 11, FLOATS),
    row("STFT", 17, F32, "matmul", "at most 1024 points per frame; frame step, length and window must be constant"),
    row("Scan", 9, ALL, "its body, step by step", "steps times operators at most 10000"),
    row("Scatter", 9, ALL, "scatter", "an index outside the axis writes nothing"),
    row("ScatterElements", 11, ALL, "scatter", "an index outside the axis writes nothing"),
    row("ScatterND", 11, ALL, "scatter", "an index outside the axis writes nothing"),
    scalar("Selu", 1, FLOATS),
    refused("SequenceAt", 11, SEQUENCE),
    refused("SequenceConstruct", 11, SEQUENCE),
    refused("SequenceEmpty", 11, SEQUENCE),
    refused("SequenceErase", 11, SEQUENCE),
    refused("SequenceInsert", 11, SEQUENCE),
    refused("SequenceLength", 11, SEQUENCE),
    refused("SequenceMap", 17, SEQUENCE),
    row("Shape", 1, "i64", "a weight", ""),
    scalar("Shrink", 9, FLOATS),
    scalar("Sigmoid", 1, FLOATS),
    scalar("Sign", 9, NUMBERS),
    row("SimplifiedLayerNormalization", 1, FLOATS, "norm", "written by ONNX Runtime's optimiser"),
    scalar("Sin", 7, FLOATS),
    scalar("Sinh", 9, FLOATS),
    row("Size", 1, "i64", "a weight", ""),
    row("Slice", 1, ALL, "slice", "bounds, axes and steps must be constants"),
    row("Softmax", 1, FLOATS, "softmax", ""),
    refused("SoftmaxCrossEntropyLoss", 12, LOSS),
    scalar("Softplus", 1, FLOATS),
    scalar("Softsign", 1, FLOATS),
    row("SpaceToDepth", 1, ALL, "transpose between two views", ""),
    row("Split", 1, ALL, "slice", "sizes must be constants"),
    refused("SplitToSequence", 11, SEQUENCE),
    scalar("Sqrt", 1, FLOATS),
    row("Squeeze", 1, ALL, "a view", "axes must be constants"),
    refused("StringConcat", 20, STRING),
    refused("StringNormalizer", 10, STRING),
    refused("StringSplit", 20, STRING),
    scalar("Sub", 1, NUMBERS),
    scalar("Sum", 1, FLOATS),
    scalar("SwiGLU", 28, FLOATS),
    scalar("Swish", 24, FLOATS),
    scalar("Tan", 7, FLOATS),
    scalar("Tanh", 1, FLOATS),
    row("TensorScatter", 24, ALL, "scatter", ""),
    refused("TfIdfVectorizer", 9, STRING),
    scalar("ThresholdedRelu", 10, FLOATS),
    row("Tile", 1, ALL, "a broadcast: elementwise", "repetitions must be constants"),
    row("TopK", 1, NUMBERS, "topk", "k must be constant; rows are ranked by comparing all pairs"),
    row("Transpose", 1, ALL, "transpose, or a view", ""),
    row("Trilu", 14, ALL, "trilu", "the diagonal must be constant"),
    refused("Unique", 11, DATA),
    row("Unsqueeze", 1, ALL, "a view", "axes must be constants"),
    row("Upsample", 7, ALL, "resample", "scales must be constants; integers by mode nearest"),
    scalar("Where", 9, ALL),
    scalar("Xor", 1, BOOL),
    in_domain(ML, row("ArrayFeatureExtractor", 1, ALL, "gather", "")),
    in_domain(ML, refused("Binarizer", 1, CLASSICAL)),
    in_domain(ML, refused("CastMap", 1, CLASSICAL)),
    in_domain(ML, refused("CategoryMapper", 1, CLASSICAL)),
    in_domain(ML, refused("DictVectorizer", 1, CLASSICAL)),
    in_domain(ML, refused("FeatureVectorizer", 1, CLASSICAL)),
    in_domain(ML, refused("Imputer", 1, CLASSICAL)),
    in_domain(ML, refused("LabelEncoder", 1, CLASSICAL)),
    in_domain(ML, refused("LinearClassifier", 1, CLASSICAL)),
    in_domain(ML, refused("LinearRegressor", 1, CLASSICAL)),
    in_domain(ML, refused("Normalizer", 1, CLASSICAL)),
    in_domain(ML, refused("OneHotEncoder", 1, CLASSICAL)),
    in_domain(ML, refused("SVMClassifier", 1, CLASSICAL)),
    in_domain(ML, refused("SVMRegressor", 1, CLASSICAL)),
    in_domain(ML, refused("Scaler", 1, CLASSICAL)),
    in_domain(ML, refused("TreeEnsemble", 5, CLASSICAL)),
    in_domain(ML, refused("TreeEnsembleClassifier", 1, CLASSICAL)),
    in_domain(ML, refused("TreeEnsembleRegressor", 1, CLASSICAL)),
    in_domain(ML, refused("ZipMap", 1, CLASSICAL)),
    in_domain(PREVIEW, refused("Adagrad", 1, TRAINING)),
    in_domain(PREVIEW, refused("Adam", 1, TRAINING)),
    in_domain(PREVIEW, refused("Gradient", 1, TRAINING)),
    in_domain(PREVIEW, refused("Momentum", 1, TRAINING)),
    in_domain(MICROSOFT, row("Attention", 1, "f16, f32", "matmul, attention", "no rotary positions, no shared cache")),
    in_domain(MICROSOFT, scalar("BiasGelu", 1, FLOATS)),
    in_domain(MICROSOFT, row("DequantizeLinear", 1, "i8, u8, i16, u16, i32", "elementwise", "")),
    in_domain(
        MICROSOFT,
        row("DynamicQuantizeLSTM", 1, F32, "reduce, elementwise and matmul, step by step", "steps times operators at most 10000"),
    ),
    in_domain(MICROSOFT, row("DynamicQuantizeMatMul", 1, F32, "reduce, elementwise, matmul", "")),
    in_domain(MICROSOFT, row("EmbedLayerNormalization", 1, "f16, f32", "gather, norm", "")),
    in_domain(MICROSOFT, scalar("FastGelu", 1, FLOATS)),
    in_domain(MICROSOFT, row("FusedConv", 1, FLOATS, "conv, elementwise", "")),
    in_domain(MICROSOFT, row("FusedGemm", 1, FLOATS, "matmul, elementwise", "")),
    in_domain(MICROSOFT, row("FusedMatMul", 1, FLOATS, "matmul, elementwise", "")),
    in_domain(MICROSOFT, scalar("Gelu", 1, FLOATS)),
    in_domain(
        MICROSOFT,
        row("GroupQueryAttention", 1, "f16, f32", "attention, gather, elementwise", "seqlens_k must be constant, and the cache full"),
    ),
    in_domain(MICROSOFT, row("MatMulIntegerToFloat", 1, "i8, u8", "matmul, elementwise", "")),
    in_domain(MICROSOFT, row("MatMulNBits", 1, "f16, f32", "matmul", "weights must be constants of 4 or 8 bits; they are stored as f32")),
    in_domain(MICROSOFT, row("MultiHeadAttention", 1, "f16, f32", "attention", "no packed operands")),
    in_domain(MICROSOFT, row("QLinearAdd", 1, "i8, u8", "elementwise", "")),
    in_domain(MICROSOFT, row("QLinearAveragePool", 1, "i8, u8", "pool, elementwise", "channels first")),
    in_domain(MICROSOFT, row("QLinearConcat", 1, "i8, u8", "elementwise, concat", "")),
    in_domain(MICROSOFT, row("QLinearGlobalAveragePool", 1, "i8, u8", "reduce, elementwise", "channels first")),
    in_domain(MICROSOFT, row("QLinearLeakyRelu", 1, "i8, u8", "elementwise", "")),
    in_domain(MICROSOFT, row("QLinearMul", 1, "i8, u8", "elementwise", "")),
    in_domain(MICROSOFT, row("QLinearSigmoid", 1, "i8, u8", "elementwise", "")),
    in_domain(MICROSOFT, row("QLinearSoftmax", 1, "i8, u8", "softmax, elementwise", "as of opset 13")),
    in_domain(MICROSOFT, row("QuantizeLinear", 1, "f16, f32 to i8, u8, i16, u16", "elementwise", "")),
    in_domain(MICROSOFT, scalar("QuickGelu", 1, FLOATS)),
    in_domain(MICROSOFT, row("RotaryEmbedding", 1, "f16, f32", "gather, elementwise, concat", "no packed batches, no scale")),
    in_domain(MICROSOFT, row("SimplifiedLayerNormalization", 1, "f16, f32", "norm", "")),
    in_domain(MICROSOFT, row("SkipLayerNormalization", 1, "f16, f32", "elementwise, norm", "")),
    in_domain(MICROSOFT, row("SkipSimplifiedLayerNormalization", 1, "f16, f32", "elementwise, norm", "")),
    in_domain(MICROSOFT, row("TransposeMatMul", 1, FLOATS, "matmul, elementwise", "")),
];

/// The row of an operator; `ai.onnx` is ONNX itself.
pub fn find(domain: &str, name: &str) -> Option<&'static Row> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    // the domain may be a prefix of the name, see `tidy.rs`
    let (domain, name) = if domain.is_empty() { name.rsplit_once('.').unwrap_or(("", name)) } else { (domain, name) };
    let index = ROWS.binary_search_by(|row| (row.domain, row.name).cmp(&(domain, name))).ok()?;
    ROWS.get(index)
}

impl Row {
    /// Its name, with the domain as a prefix if that is not ONNX itself.
    pub fn full_name(&self) -> String {
        if self.domain.is_empty() { self.name.into() } else { format!("{}.{}", self.domain, self.name) }
    }

    /// Why it is refused unless it is folded away; `None` if it is lowered.
    pub fn refusal(&self) -> Option<&'static str> {
        match self.support {
            Support::Lowered { .. } => None,
            Support::Folded { why } | Support::Refused { why } => Some(why),
        }
    }
}

/// The text of `docs/operators.md`. `defined` are the operators that have definitions, each with
/// the reason.
pub fn page(defined: impl IntoIterator<Item = (&'static str, &'static str)>) -> String {
    let lowered = ROWS.iter().filter(|row| matches!(row.support, Support::Lowered { .. })).count();
    let mut text = format!(
        "# Operators

Generated from the table in [`src/import/onnx/operators.rs`](../src/import/onnx/operators.rs), which
refusals and `hiosc inspect` use, too. `HIOSC_BLESS=1 cargo test --release --test tool operators`
rewrites this page.

Shapes are static: whatever a shape depends on must be a constant once the shapes of the inputs are
known. `--shapes` and `--constant` give what the file leaves open. Whatever can be computed at
compile time is folded, whichever operator it is.

*Opsets* is the first opset that has the operator; hiosc reads models of opset {OLDEST} to {NEWEST}. *Types*
are the element types of what is left to compute: *numbers* are integers and floating-point numbers,
*integers* are i8 to i64 and u8 to u64, *all* are numbers and bool. Where f32 is among them, so is
bf16: it is computed in f32, rounded once for each node, and kept in memory as bf16. 8-bit floats,
4-bit integers that are not constants, complex numbers and strings are refused everywhere.

{lowered} of {} operators are lowered. All refusals in a model are reported at once, each with its
operator, node and reason.

## Lowered

| operator | opsets | types | becomes | limits |
|---|---|---|---|---|
",
        ROWS.len()
    );
    for row in ROWS {
        if let Support::Lowered { types, how, limits } = row.support {
            let _ = writeln!(text, "| {} | {}+ | {types} | {how} | {limits} |", row.full_name(), row.since);
        }
    }
    text.push_str("\n## Only where the result is known when the model is compiled\n\n| operator | opsets | because |\n|---|---|---|\n");
    for row in ROWS {
        if let Support::Folded { why } = row.support {
            let _ = writeln!(text, "| {} | {}+ | {why} |", row.name, row.since);
        }
    }
    text.push_str("\n## Refused\n\n| operator | domain | opsets | because |\n|---|---|---|---|\n");
    for row in ROWS {
        if let Support::Refused { why } = row.support {
            let _ = writeln!(text, "| {} | {} | {}+ | {why} |", row.name, row.domain, row.since);
        }
    }
    text.push_str("\n## Defined by other operators\n\nThese become other operators of ONNX before they are typed.\n\n| operator | because |\n|---|---|\n");
    for (operator, reason) in defined {
        let _ = writeln!(text, "| {operator} | {reason} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_so_that_they_are_found() {
        assert!(ROWS.windows(2).all(|pair| (pair[0].domain, pair[0].name) < (pair[1].domain, pair[1].name)));
        assert_eq!(find("ai.onnx", "Conv").map(|row| row.name), Some("Conv"));
        assert!(find("com.example", "Conv").is_none());
    }
}
