//! Element types, and their values as little-endian bytes, the form that they have on a GPU.

use safetensors::Dtype;

/// Element types of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// Boolean: one byte, 0 or 1.
    Bool,
    /// 8-bit signed integer.
    I8,
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit unsigned integer.
    U64,
    /// IEEE half precision. Rust has no such type: values are `u16` bit patterns.
    F16,
    /// The upper 16 bits of single precision (bfloat16). Values are `u16` bit patterns.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl DType {
    /// All element types.
    pub const ALL: [DType; 13] = [
        DType::Bool,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];

    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            DType::Bool | DType::I8 | DType::U8 => 1,
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => 2,
            DType::I32 | DType::U32 | DType::F32 => 4,
            DType::I64 | DType::U64 | DType::F64 => 8,
        }
    }

    /// Its name in text forms: `f32`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::I8 => "i8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
        }
    }

    /// Whether its values are floating-point numbers.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// Whether its values are integers. Booleans are not.
    pub const fn is_integer(self) -> bool {
        !self.is_float() && !matches!(self, DType::Bool)
    }

    /// The same type in safetensors files.
    pub const fn stored(self) -> Dtype {
        match self {
            DType::Bool => Dtype::BOOL,
            DType::I8 => Dtype::I8,
            DType::I16 => Dtype::I16,
            DType::I32 => Dtype::I32,
            DType::I64 => Dtype::I64,
            DType::U8 => Dtype::U8,
            DType::U16 => Dtype::U16,
            DType::U32 => Dtype::U32,
            DType::U64 => Dtype::U64,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
        }
    }

    /// The type of a safetensors tensor, if it is one of these.
    pub fn of_stored(stored: Dtype) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype.stored() == stored)
    }

    /// The elements in `bytes` as numbers, for comparisons and summaries; integers beyond 2^53 are
    /// rounded.
    pub fn numbers(self, bytes: &[u8]) -> Vec<f64> {
        fn list<T: Element>(bytes: &[u8], number: impl Fn(T) -> f64) -> Vec<f64> {
            T::values(bytes).into_iter().map(number).collect()
        }
        match self {
            DType::Bool => list(bytes, |v: bool| f64::from(u8::from(v))),
            DType::I8 => list(bytes, |v: i8| f64::from(v)),
            DType::I16 => list(bytes, |v: i16| f64::from(v)),
            DType::I32 => list(bytes, |v: i32| f64::from(v)),
            DType::I64 => list(bytes, |v: i64| v as f64),
            DType::U8 => list(bytes, |v: u8| f64::from(v)),
            DType::U16 => list(bytes, |v: u16| f64::from(v)),
            DType::U32 => list(bytes, |v: u32| f64::from(v)),
            DType::U64 => list(bytes, |v: u64| v as f64),
            DType::F16 => list(bytes, |v: u16| f64::from(f16_to_f32(v))),
            DType::BF16 => list(bytes, |v: u16| f64::from(bf16_to_f32(v))),
            DType::F32 => list(bytes, |v: f32| f64::from(v)),
            DType::F64 => list(bytes, |v: f64| v),
        }
    }

    /// The largest difference between the elements in `bytes` and those in `reference`, and the
    /// largest finite magnitude of the reference. Equal values, two NaNs and two equal infinities
    /// differ by 0. The difference is infinite if only one side is NaN or infinite, or if the
    /// numbers of elements differ. Unequal integers differ by at least 1.
    pub fn difference(self, bytes: &[u8], reference: &[u8]) -> (f64, f64) {
        let difference = match bytes.len() == reference.len() {
            true => self.differences(bytes, reference).into_iter().fold(0.0, f64::max),
            false => f64::INFINITY,
        };
        (difference, largest(&self.numbers(reference)))
    }

    /// The difference of each element, as [`difference`](Self::difference) counts it. Both have the
    /// same number of elements.
    pub fn differences(self, bytes: &[u8], reference: &[u8]) -> Vec<f64> {
        let (values, expected) = (self.numbers(bytes), self.numbers(reference));
        let size = self.bytes() as usize;
        let apart = |(i, (&value, &expected)): (usize, (&f64, &f64))| {
            let range = i * size..(i + 1) * size;
            let same = if self.is_float() { value == expected } else { bytes[range.clone()] == reference[range] };
            if same || value.is_nan() && expected.is_nan() {
                return 0.0;
            }
            let apart = (value - expected).abs();
            let least = if self.is_float() { 0.0 } else { 1.0 };
            if apart.is_nan() { f64::INFINITY } else { apart.max(least) }
        };
        values.iter().zip(&expected).enumerate().map(apart).collect()
    }
}

/// The largest finite magnitude.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0, f64::max)
}

/// The value of a half-precision bit pattern.
pub fn f16_to_f32(bits: u16) -> f32 {
    let (exponent, mantissa) = (bits >> 10 & 0x1f, f32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => mantissa * 2f32.powi(-24),
        31 if mantissa == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        exponent => (1024.0 + mantissa) * 2f32.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// The half-precision bit pattern nearest to `value`; ties go to the even one.
pub fn f32_to_f16(value: f32) -> u16 {
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let size = value.abs();
    if size.is_nan() {
        return sign | 0x7e00;
    }
    if size >= 65520.0 {
        return sign | 0x7c00;
    }
    // steps between neighbours: 2^-24 below 2^-14, else 2^(exponent - 10); scaling by a power of
    // two is exact
    let exponent = ((size.to_bits() >> 23) as i32 - 127).max(-14);
    let steps = (size * 2f32.powi(10 - exponent)).round_ties_even() as i32;
    sign | ((exponent + 14) * 1024 + steps) as u16
}

/// The value of a bfloat16 bit pattern.
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The bfloat16 bit pattern nearest to `value`; ties go to the even one.
pub fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // quiet, since the bits that remain might all be 0
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// A Rust type with the same memory layout as on a GPU.
pub trait Element: Copy {
    /// The bytes of `values`, without a copy.
    fn bytes(values: &[Self]) -> &[u8];
    /// Replaces the contents of `values` by the values in `bytes`; an incomplete one at the end is
    /// dropped. Allocates nothing if the capacity is sufficient.
    fn read(bytes: &[u8], values: &mut Vec<Self>);

    /// The values in `bytes`; an incomplete one at the end is dropped.
    fn values(bytes: &[u8]) -> Vec<Self> {
        let mut values = Vec::new();
        Self::read(bytes, &mut values);
        values
    }
}

/// The bytes of `values`, without a copy.
pub fn bytes<T: Element>(values: &[T]) -> &[u8] {
    T::bytes(values)
}

macro_rules! elements {
    ($($type:ty)*) => {$(
        impl Element for $type {
            fn bytes(values: &[Self]) -> &[u8] {
                // SAFETY: the type is a number without padding, so all its bytes are initialised.
                unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), std::mem::size_of_val(values)) }
            }

            fn read(bytes: &[u8], values: &mut Vec<Self>) {
                let (whole, _) = bytes.as_chunks();
                values.clear();
                values.extend(whole.iter().map(|&one| <$type>::from_le_bytes(one)));
            }
        }
    )*};
}

elements!(i8 i16 i32 i64 u8 u16 u32 u64 f32 f64);

impl Element for bool {
    fn bytes(values: &[Self]) -> &[u8] {
        // SAFETY: a boolean is one byte.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
    }

    fn read(bytes: &[u8], values: &mut Vec<Self>) {
        values.clear();
        values.extend(bytes.iter().map(|&byte| byte != 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back() {
        for bits in 0..=u16::MAX {
            let value = f16_to_f32(bits);
            if value.is_nan() {
                assert_eq!(f32_to_f16(value) & 0x7e00, 0x7e00);
            } else {
                assert_eq!(f32_to_f16(value), bits, "{value}");
            }
        }
        // halfway cases go to the even neighbour; the largest half is 65504
        assert_eq!([1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0].map(f32_to_f16), [0x3c00, 0x3c02]);
        assert_eq!([65519.0, 65520.0, 1e-8, 2f32.powi(-25), 3.0 * 2f32.powi(-26)].map(f32_to_f16), [0x7bff, 0x7c00, 0, 0, 1]);
    }

    #[test]
    fn every_bfloat16_comes_back() {
        for bits in 0..=u16::MAX {
            let value = bf16_to_f32(bits);
            let back = f32_to_bf16(value);
            assert!(back == bits || value.is_nan() && bf16_to_f32(back).is_nan(), "{value}");
        }
        // halfway cases go to the even neighbour; beyond the largest it is infinite
        assert_eq!([1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0].map(f32_to_bf16), [0x3f80, 0x3f82]);
        assert_eq!([3.39e38, f32::MAX, -0.0, 1e-45].map(f32_to_bf16), [0x7f7f, 0x7f80, 0x8000, 0]);
        assert_eq!(f32_to_bf16(f32::from_bits(0x7f80_0001)), 0x7fc0);
    }

    #[test]
    fn differences() {
        let floats = |a: &[f32], b: &[f32]| DType::F32.difference(Element::bytes(a), Element::bytes(b));
        assert_eq!(floats(&[1.0, 1000.5], &[1.5, 1000.0]), (0.5, 1000.0));
        assert_eq!(floats(&[f32::NAN, 1.0], &[0.0, 1.0]).0, f64::INFINITY);
        assert_eq!(floats(&[f32::INFINITY], &[1.0]).0, f64::INFINITY);
        assert_eq!(floats(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY]), (0.0, 0.0));
        assert_eq!(floats(&[1.0], &[1.0, 1.0]).0, f64::INFINITY);
        let large = [i64::MAX - 1, 7];
        assert_eq!(DType::I64.difference(Element::bytes(&large), Element::bytes(&[i64::MAX, 7])).0, 1.0);
        assert_eq!(DType::Bool.difference(&[1, 0], &[1, 1]), (1.0, 1.0));
    }
}
