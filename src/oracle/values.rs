//! Values of tensors that are compared.

use std::collections::BTreeMap;

use crate::graph::{DType, Scalar};

/// Values of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Type of the elements.
    pub dtype: DType,
    /// Extent of each axis.
    pub shape: Vec<usize>,
    /// The elements, little-endian, in row-major order.
    pub bytes: Vec<u8>,
}

/// Values of tensors, by key (`in:NAME`, `out:NAME`).
pub type NamedValues = BTreeMap<String, Values>;

impl Values {
    /// The same values as `dtype`; `None` if that is not how rten may have read them. It computes
    /// f16, bf16 and f64 as f32, and all integers but i8 and u8, and booleans, as i32.
    pub fn converted(&self, dtype: DType) -> Option<Values> {
        if dtype == self.dtype {
            return Some(self.clone());
        }
        let read_as = match dtype {
            _ if dtype.is_float() => DType::F32,
            DType::I8 | DType::U8 => dtype,
            _ => DType::I32,
        };
        if read_as != self.dtype {
            return None;
        }
        let size = dtype.bytes() as usize;
        let mut bytes = Vec::with_capacity(self.bytes.len() / self.dtype.bytes() as usize * size);
        for value in self.dtype.numbers(&self.bytes) {
            let converted = Scalar::from_f64(dtype, value);
            // an integer must fit
            if !dtype.is_float() && converted.number() != value {
                return None;
            }
            bytes.extend_from_slice(&converted.bits().to_le_bytes()[..size]);
        }
        Some(Values { dtype, shape: self.shape.clone(), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Element;

    #[test]
    fn conversions_from_the_types_that_rten_has() {
        let ints = Values { dtype: DType::I32, shape: vec![3], bytes: i32::bytes(&[0, 1, -7]).to_vec() };
        assert_eq!(ints.converted(DType::I64).map(|v| i64::values(&v.bytes)), Some(vec![0, 1, -7]));
        assert_eq!(ints.converted(DType::U16), None); // -7 is none
        assert_eq!(ints.converted(DType::F32), None);
        let flags = Values { dtype: DType::I32, shape: vec![2], bytes: i32::bytes(&[0, 1]).to_vec() };
        assert_eq!(flags.converted(DType::Bool).map(|v| v.bytes), Some(vec![0, 1]));
        let floats = Values { dtype: DType::F32, shape: vec![2], bytes: f32::bytes(&[1.0, 65504.0]).to_vec() };
        assert_eq!(floats.converted(DType::F16).map(|v| u16::values(&v.bytes)), Some(vec![0x3c00, 0x7bff]));
        assert_eq!(floats.converted(DType::F64).map(|v| f64::values(&v.bytes)), Some(vec![1.0, 65504.0]));
        assert_eq!(floats.converted(DType::I32), None);
    }
}
