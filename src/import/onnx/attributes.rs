//! The attributes and optional inputs of each operator that is computed, and which are read.
//!
//! ONNX adds attributes to operators from opset to opset. One that is dropped gives wrong numbers
//! without a word, so a node with an attribute or input that is not in this table is refused.
//! `tests/tool/attributes.rs` compares the table with ONNX's own schemas.
//!
//! Words of a row:
//!
//! | word | meaning |
//! |---|---|
//! | `axis` | it is read |
//! | `precision=0` | refused unless it has this value |
//! | `momentum*` | it does not change the result |
//! | `sparse_value!` | refused |

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;

/// One row: the operator, its attributes, its optional inputs.
pub struct Row {
    /// ONNX's name, with the domain if that is not ONNX itself.
    pub operator: &'static str,
    /// Its attributes at all opsets that are read.
    pub attributes: &'static str,
    /// Its optional inputs.
    pub inputs: &'static str,
}

const fn row(operator: &'static str, attributes: &'static str, inputs: &'static str) -> Row {
    Row { operator, attributes, inputs }
}

/// An operator that broadcast by attributes before opset 7.
const fn binary(operator: &'static str) -> Row {
    row(operator, "axis broadcast", "")
}

const fn reduction(operator: &'static str) -> Row {
    row(operator, "axes keepdims noop_with_empty_axes", "axes")
}

const fn plain(operator: &'static str) -> Row {
    row(operator, "", "")
}

const WINDOW: &str = "auto_pad dilations group kernel_shape pads strides";
const POOL: &str = "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides";

/// All rows, by name.
pub static ROWS: &[Row] = &[
    plain("Abs"),
    plain("Acos"),
    plain("Acosh"),
    binary("Add"),
    row("AffineGrid", "align_corners", ""),
    binary("And"),
    row("ArgMax", "axis keepdims select_last_index", ""),
    row("ArgMin", "axis keepdims select_last_index", ""),
    plain("Asin"),
    plain("Asinh"),
    plain("Atan"),
    plain("Atanh"),
    row(
        "Attention",
        "is_causal kv_num_heads left_window_size q_num_heads qk_matmul_output_mode right_window_size scale softcap softmax_precision*",
        "attn_mask past_key past_value nonpad_kv_seqlen",
    ),
    row("AveragePool", POOL, ""),
    row("BatchNormalization", "epsilon is_test=1 momentum* spatial=1 training_mode=0", ""),
    row("BitShift", "direction", ""),
    plain("BitwiseAnd"),
    plain("BitwiseNot"),
    plain("BitwiseOr"),
    plain("BitwiseXor"),
    row("BlackmanWindow", "output_datatype periodic", ""),
    row("Cast", "round_mode* saturate* to", ""),
    row("CastLike", "round_mode* saturate*", ""),
    row("CausalConvWithState", "activation", "bias past_state"),
    plain("Ceil"),
    row("Celu", "alpha", ""),
    row("CenterCropPad", "axes", ""),
    row("Clip", "max min", "min max"),
    row("Compress", "axis", ""),
    row("Concat", "axis", ""),
    row("Constant", "sparse_value! value value_float value_floats value_int value_ints value_string! value_strings!", ""),
    row("ConstantOfShape", "value", ""),
    row("Conv", WINDOW, "B"),
    row("ConvInteger", WINDOW, "x_zero_point w_zero_point"),
    row("ConvTranspose", "auto_pad dilations group kernel_shape output_padding output_shape pads strides", "B"),
    plain("Cos"),
    plain("Cosh"),
    row("CumProd", "exclusive reverse", ""),
    row("CumSum", "exclusive reverse", ""),
    row("DFT", "axis inverse onesided", "dft_length axis"),
    row("DepthToSpace", "blocksize mode", ""),
    row("DequantizeLinear", "axis block_size output_dtype", "x_zero_point"),
    binary("Div"),
    row("Dropout", "is_test=1 ratio* seed*", "ratio training_mode"),
    plain("DynamicQuantizeLinear"),
    row("Einsum", "equation", ""),
    row("Elu", "alpha", ""),
    binary("Equal"),
    plain("Erf"),
    plain("Exp"),
    plain("Expand"),
    row("EyeLike", "dtype k", ""),
    row("Flatten", "axis", ""),
    plain("Floor"),
    row(
        "GRU",
        "activation_alpha activation_beta activations clip direction hidden_size layout linear_before_reset output_sequence*",
        "B sequence_lens initial_h",
    ),
    row("Gather", "axis", ""),
    row("GatherElements", "axis", ""),
    row("GatherND", "batch_dims", ""),
    row("Gelu", "approximate", ""),
    row("Gemm", "alpha beta broadcast* transA transB", "C"),
    plain("GlobalAveragePool"),
    row("GlobalLpPool", "p", ""),
    plain("GlobalMaxPool"),
    binary("Greater"),
    plain("GreaterOrEqual"),
    row("GridSample", "align_corners mode padding_mode", ""),
    row("GroupNormalization", "epsilon num_groups stash_type*", ""),
    row("HammingWindow", "output_datatype periodic", ""),
    row("HannWindow", "output_datatype periodic", ""),
    row("HardSigmoid", "alpha beta", ""),
    plain("HardSwish"),
    row("Hardmax", "axis", ""),
    plain("Identity"),
    row("If", "else_branch then_branch", ""),
    row("InstanceNormalization", "epsilon", ""),
    row("IsInf", "detect_negative detect_positive", ""),
    plain("IsNaN"),
    row("LRN", "alpha beta bias size", ""),
    row(
        "LSTM",
        "activation_alpha activation_beta activations clip direction hidden_size input_forget layout output_sequence*",
        "B sequence_lens initial_h initial_c P",
    ),
    row("LayerNormalization", "axis epsilon stash_type*", "B"),
    row("LeakyRelu", "alpha", ""),
    binary("Less"),
    plain("LessOrEqual"),
    plain("Log"),
    row("LogSoftmax", "axis", ""),
    row("Loop", "body", "M cond"),
    row("LpNormalization", "axis p", ""),
    row("LpPool", "auto_pad ceil_mode dilations kernel_shape p pads strides", ""),
    plain("MatMul"),
    row("MatMulInteger", "", "a_zero_point b_zero_point"),
    plain("Max"),
    row("MaxPool", "auto_pad ceil_mode dilations kernel_shape pads storage_order strides", ""),
    plain("Mean"),
    row("MeanVarianceNormalization", "axes", ""),
    row("MelWeightMatrix", "output_datatype", ""),
    plain("Min"),
    plain("Mish"),
    row("Mod", "fmod", ""),
    binary("Mul"),
    plain("Neg"),
    plain("NonZero"),
    plain("Not"),
    row("OneHot", "axis", ""),
    binary("Or"),
    plain("PRelu"),
    row("Pad", "mode pads value", "constant_value axes"),
    binary("Pow"),
    row("QLinearConv", WINDOW, "B"),
    plain("QLinearMatMul"),
    row("QuantizeLinear", "axis block_size output_dtype precision saturate*", "y_zero_point"),
    row("RMSNormalization", "axis epsilon stash_type*", ""),
    row(
        "RNN",
        "activation_alpha activation_beta activations clip direction hidden_size layout output_sequence*",
        "B sequence_lens initial_h",
    ),
    row("Range", "stash_type*", ""),
    plain("Reciprocal"),
    reduction("ReduceL1"),
    reduction("ReduceL2"),
    reduction("ReduceLogSum"),
    reduction("ReduceLogSumExp"),
    reduction("ReduceMax"),
    reduction("ReduceMean"),
    reduction("ReduceMin"),
    reduction("ReduceProd"),
    reduction("ReduceSum"),
    reduction("ReduceSumSquare"),
    plain("Relu"),
    row("Reshape", "allowzero", ""),
    row(
        "Resize",
        "antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value keep_aspect_ratio_policy mode nearest_mode",
        "sizes roi scales",
    ),
    row("ReverseSequence", "batch_axis time_axis", ""),
    row("RotaryEmbedding", "interleaved num_heads rotary_embedding_dim", "position_ids"),
    plain("Round"),
    row("STFT", "onesided", "window frame_length"),
    row(
        "Scan",
        "body directions! num_scan_inputs scan_input_axes scan_input_directions scan_output_axes scan_output_directions",
        "sequence_lens!",
    ),
    row("Scatter", "axis", ""),
    row("ScatterElements", "axis reduction", ""),
    row("ScatterND", "reduction", ""),
    row("Selu", "alpha gamma", ""),
    row("Shape", "end start", ""),
    row("Shrink", "bias lambd", ""),
    plain("Sigmoid"),
    plain("Sign"),
    row("SimplifiedLayerNormalization", "axis epsilon stash_type*", ""),
    plain("Sin"),
    plain("Sinh"),
    plain("Size"),
    row("Slice", "axes ends starts", "axes steps"),
    row("Softmax", "axis", ""),
    plain("Softplus"),
    plain("Softsign"),
    row("SpaceToDepth", "blocksize mode", ""),
    row("Split", "axis num_outputs split", "split"),
    plain("Sqrt"),
    row("Squeeze", "axes", "axes"),
    binary("Sub"),
    plain("Sum"),
    row("SwiGLU", "alpha", ""),
    row("Swish", "alpha", ""),
    plain("Tan"),
    plain("Tanh"),
    row("TensorScatter", "axis mode", "write_indices"),
    row("ThresholdedRelu", "alpha", ""),
    plain("Tile"),
    row("TopK", "axis k largest sorted*", ""),
    row("Transpose", "perm", ""),
    row("Trilu", "upper", "k"),
    row("Unsqueeze", "axes", ""),
    row("Upsample", "height_scale! mode scales width_scale!", ""),
    plain("Where"),
    binary("Xor"),
    plain("ai.onnx.ml.ArrayFeatureExtractor"),
    row(
        "com.microsoft.Attention",
        "do_rotary mask_filter_value num_heads past_present_share_buffer qkv_hidden_sizes scale unidirectional",
        "",
    ),
    plain("com.microsoft.BiasGelu"),
    row("com.microsoft.DequantizeLinear", "axis block_size", ""),
    row(
        "com.microsoft.DynamicQuantizeLSTM",
        "activation_alpha activation_beta activations clip direction hidden_size input_forget",
        "B sequence_lens initial_h initial_c P",
    ),
    plain("com.microsoft.DynamicQuantizeMatMul"),
    row("com.microsoft.EmbedLayerNormalization", "epsilon mask_index_type*", ""),
    plain("com.microsoft.FastGelu"),
    row("com.microsoft.FusedConv", "activation activation_params auto_pad dilations group kernel_shape pads strides", ""),
    row("com.microsoft.FusedGemm", "activation activation_alpha activation_beta activation_gamma alpha beta transA transB", ""),
    row("com.microsoft.FusedMatMul", "alpha transA transB transBatchA transBatchB", ""),
    plain("com.microsoft.Gelu"),
    row(
        "com.microsoft.GroupQueryAttention",
        "causal=1 do_rotary kv_num_heads local_window_size num_heads qk_output=0 rotary_interleaved scale smooth_softmax=0 softcap",
        "",
    ),
    plain("com.microsoft.MatMulIntegerToFloat"),
    row("com.microsoft.MatMulNBits", "K N accuracy_level* bits block_size", ""),
    row("com.microsoft.MultiHeadAttention", "mask_filter_value num_heads scale unidirectional", ""),
    plain("com.microsoft.QLinearAdd"),
    row("com.microsoft.QLinearAveragePool", "auto_pad ceil_mode channels_last count_include_pad kernel_shape pads strides", ""),
    row("com.microsoft.QLinearConcat", "axis", ""),
    row("com.microsoft.QLinearGlobalAveragePool", "channels_last", ""),
    row("com.microsoft.QLinearLeakyRelu", "alpha", ""),
    plain("com.microsoft.QLinearMul"),
    plain("com.microsoft.QLinearSigmoid"),
    row("com.microsoft.QLinearSoftmax", "axis opset", ""),
    row("com.microsoft.QuantizeLinear", "axis block_size", ""),
    row("com.microsoft.QuickGelu", "alpha", ""),
    row("com.microsoft.RotaryEmbedding", "interleaved is_packed_batching num_heads rotary_embedding_dim scale", ""),
    row("com.microsoft.SimplifiedLayerNormalization", "axis epsilon stash_type*", ""),
    row("com.microsoft.SkipLayerNormalization", "epsilon", ""),
    row("com.microsoft.SkipSimplifiedLayerNormalization", "epsilon", ""),
    row("com.microsoft.TransposeMatMul", "alpha transA transB transBatchA transBatchB", ""),
];

/// The row of an operator.
pub fn find(operator: &str) -> Option<&'static Row> {
    ROWS.binary_search_by(|row| row.operator.cmp(operator)).ok().and_then(|index| ROWS.get(index))
}

/// The name in a word of a row.
pub fn name_in(word: &str) -> &str {
    word.split(['=', '*', '!']).next().unwrap_or(word)
}

/// Why `node` is refused for one of its attributes; `None` if it is not, or has no row.
pub fn refusal(node: &pb::NodeProto) -> Option<String> {
    let row = find(&node.op_type)?;
    node.attribute.iter().find_map(|attribute| {
        let name = &attribute.name;
        let Some(word) = row.attributes.split_whitespace().find(|word| name_in(word) == name) else {
            return Some(format!("its attribute {:?} is not known", name.escape_debug().to_string()));
        };
        match word.split_once('=') {
            Some((_, only)) if value(attribute) != only => {
                let training = if matches!(name.as_str(), "training_mode" | "is_test") { ": export the model for inference" } else { "" };
                Some(format!("its attribute {name} is {}, of which only {only} is supported{training}", value(attribute)))
            }
            _ if word.ends_with('!') => Some(format!("its attribute {name} is not supported")),
            _ => None,
        }
    })
}

/// The value of an attribute as a text.
fn value(attribute: &pb::AttributeProto) -> String {
    match AttributeType::try_from(attribute.r#type) {
        Ok(AttributeType::Float) => attribute.f.to_string(),
        Ok(AttributeType::String) => String::from_utf8_lossy(&attribute.s).escape_debug().to_string(),
        _ => attribute.i.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_so_that_they_are_found() {
        assert!(ROWS.windows(2).all(|pair| pair[0].operator < pair[1].operator));
        assert!(find("Conv").is_some() && find("com.example.Conv").is_none());
    }
}
