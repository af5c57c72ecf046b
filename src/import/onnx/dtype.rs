//! ONNX's codes of element types, and our type for each.

use tract_onnx::pb;

use crate::graph::DType;

/// ONNX's code for one of our element types.
pub fn onnx_type(dtype: DType) -> pb::tensor_proto::DataType {
    use pb::tensor_proto::DataType;
    match dtype {
        DType::Bool => DataType::Bool,
        DType::I8 => DataType::Int8,
        DType::I16 => DataType::Int16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::U8 => DataType::Uint8,
        DType::U16 => DataType::Uint16,
        DType::U32 => DataType::Uint32,
        DType::U64 => DataType::Uint64,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::F32 => DataType::Float,
        DType::F64 => DataType::Double,
    }
}

/// Our element type for one of ONNX's.
pub fn dtype_of(code: pb::tensor_proto::DataType) -> Option<DType> {
    DType::ALL.into_iter().find(|&dtype| onnx_type(dtype) == code)
}
