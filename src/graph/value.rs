//! Values known on the host: a [`Scalar`] in an expression, and a [`Constant`] for a whole tensor.
//! The inputs and outputs of an inference are of type [`Constant`], too.

use std::fmt::{self, Debug, Formatter};
use std::ops::Deref;
use std::sync::Arc;

use super::DType;
use crate::runtime::{Element, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

/// A number or boolean with its type, as little-endian bits in the low bytes. Two are equal if
/// their types and bits are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scalar {
    dtype: DType,
    bits: u64,
}

impl Scalar {
    /// The value of type `dtype` with these bits; bits beyond its size are dropped.
    pub fn from_bits(dtype: DType, bits: u64) -> Scalar {
        Scalar { dtype, bits: bits & (u64::MAX >> (64 - 8 * dtype.bytes())) }
    }

    /// `value` in the type `dtype`. A floating-point type takes the nearest value. An integer is
    /// truncated towards zero and clamped to its range. A boolean is true unless `value` is 0.
    pub fn from_f64(dtype: DType, value: f64) -> Scalar {
        let bits = match dtype {
            DType::Bool => u64::from(value != 0.0),
            DType::I8 => value as i8 as u64,
            DType::I16 => value as i16 as u64,
            DType::I32 => value as i32 as u64,
            DType::I64 => value as i64 as u64,
            DType::U8 => value as u8 as u64,
            DType::U16 => value as u16 as u64,
            DType::U32 => value as u32 as u64,
            DType::U64 => value as u64,
            DType::F16 => u64::from(f32_to_f16(value as f32)),
            DType::BF16 => u64::from(f32_to_bf16(value as f32)),
            DType::F32 => u64::from((value as f32).to_bits()),
            DType::F64 => value.to_bits(),
        };
        Scalar::from_bits(dtype, bits)
    }

    /// Its type.
    pub fn dtype(self) -> DType {
        self.dtype
    }

    /// Its bits.
    pub fn bits(self) -> u64 {
        self.bits
    }

    /// Its value, where the type is f32.
    pub fn f32(self) -> Option<f32> {
        (self.dtype == DType::F32).then(|| f32::from_bits(self.bits as u32))
    }

    /// Its value as a number; an integer beyond 2^53 is rounded.
    pub fn number(self) -> f64 {
        self.dtype.numbers(&self.bits.to_le_bytes()[..self.dtype.bytes() as usize]).first().copied().unwrap_or(0.0)
    }
}

impl From<f32> for Scalar {
    fn from(value: f32) -> Scalar {
        Scalar::from_bits(DType::F32, u64::from(value.to_bits()))
    }
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Scalar {
        Scalar::from_bits(DType::Bool, u64::from(value))
    }
}

impl From<i64> for Scalar {
    fn from(value: i64) -> Scalar {
        Scalar::from_bits(DType::I64, value as u64)
    }
}

/// `1.5` for f32, and `true`; all other types are named: `7i64`, `1.5f16`.
impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.dtype.name();
        match self.dtype {
            DType::Bool => write!(f, "{}", self.bits != 0),
            DType::F32 => write!(f, "{:?}", f32::from_bits(self.bits as u32)),
            DType::F16 => write!(f, "{:?}{name}", f16_to_f32(self.bits as u16)),
            DType::BF16 => write!(f, "{:?}{name}", bf16_to_f32(self.bits as u16)),
            DType::F64 => write!(f, "{:?}{name}", f64::from_bits(self.bits)),
            DType::U64 => write!(f, "{}{name}", self.bits),
            DType::I64 => write!(f, "{}{name}", self.bits as i64),
            _ => write!(f, "{}{name}", self.number()),
        }
    }
}

impl std::fmt::Debug for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A list that its clones share. Its memory may belong to another library's tensor.
pub struct Values<T>(Arc<dyn AsRef<[T]> + Send + Sync>);

impl<T> Clone for Values<T> {
    fn clone(&self) -> Values<T> {
        Values(self.0.clone())
    }
}

impl<T> Deref for Values<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        (*self.0).as_ref()
    }
}

impl<T: Debug> Debug for Values<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: PartialEq> PartialEq for Values<T> {
    fn eq(&self, other: &Values<T>) -> bool {
        **self == **other
    }
}

impl<T: Send + Sync + 'static> From<Vec<T>> for Values<T> {
    fn from(values: Vec<T>) -> Values<T> {
        Values(Arc::new(values))
    }
}

impl<T: Clone + Send + Sync + 'static> From<&[T]> for Values<T> {
    fn from(values: &[T]) -> Values<T> {
        values.to_vec().into()
    }
}

impl<T: Send + Sync + 'static, const N: usize> From<[T; N]> for Values<T> {
    fn from(values: [T; N]) -> Values<T> {
        Vec::from(values).into()
    }
}

impl<T: Send + Sync + 'static> FromIterator<T> for Values<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Values<T> {
        values.into_iter().collect::<Vec<T>>().into()
    }
}

/// Bytes that others own, as numbers. Begins at the first aligned byte; an incomplete number at the
/// end is dropped.
struct Shared<O>(O);

/// Gives [`Shared`] bytes as numbers of these types, all of whose bit patterns are valid.
macro_rules! shared {
    ($($type:ty)*) => {$(
        impl<O: AsRef<[u8]>> AsRef<[$type]> for Shared<O> {
            fn as_ref(&self) -> &[$type] {
                // SAFETY: any bytes are numbers of this type.
                let (_, values, _) = unsafe { self.0.as_ref().align_to() };
                values
            }
        }
    )*};
}

shared!(i8 i16 i32 i64 u8 u16 u32 u64 f32 f64);

/// Applies `$body` to the values of a constant, whatever their type.
macro_rules! each {
    ($constant:expr, $values:ident => $body:expr) => {
        match $constant {
            Constant::Bool($values) => $body,
            Constant::I8($values) => $body,
            Constant::I16($values) => $body,
            Constant::I32($values) => $body,
            Constant::I64($values) => $body,
            Constant::U8($values) => $body,
            Constant::U16($values) | Constant::F16($values) | Constant::BF16($values) => $body,
            Constant::U32($values) => $body,
            Constant::U64($values) => $body,
            Constant::F32($values) => $body,
            Constant::F64($values) => $body,
        }
    };
}

/// Values known on the host, row-major. `F16` and `BF16` hold bit patterns.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Constant {
    Bool(Values<bool>),
    I8(Values<i8>),
    I16(Values<i16>),
    I32(Values<i32>),
    I64(Values<i64>),
    U8(Values<u8>),
    U16(Values<u16>),
    U32(Values<u32>),
    U64(Values<u64>),
    F16(Values<u16>),
    BF16(Values<u16>),
    F32(Values<f32>),
    F64(Values<f64>),
}

impl Constant {
    /// The values of type `dtype` in these little-endian bytes.
    pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Constant {
        fn list<T: Element + Send + Sync + 'static>(bytes: &[u8]) -> Values<T> {
            T::values(bytes).into()
        }
        match dtype {
            DType::Bool => Constant::Bool(list(bytes)),
            DType::I8 => Constant::I8(list(bytes)),
            DType::I16 => Constant::I16(list(bytes)),
            DType::I32 => Constant::I32(list(bytes)),
            DType::I64 => Constant::I64(list(bytes)),
            DType::U8 => Constant::U8(list(bytes)),
            DType::U16 => Constant::U16(list(bytes)),
            DType::U32 => Constant::U32(list(bytes)),
            DType::U64 => Constant::U64(list(bytes)),
            DType::F16 => Constant::F16(list(bytes)),
            DType::BF16 => Constant::BF16(list(bytes)),
            DType::F32 => Constant::F32(list(bytes)),
            DType::F64 => Constant::F64(list(bytes)),
        }
    }

    /// The same, without a copy where the owner's bytes are values in memory: aligned, of a
    /// little-endian machine, and not booleans, of which only 0 and 1 are valid.
    pub fn sharing(dtype: DType, owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Constant {
        let bytes = owner.as_ref();
        let aligned = bytes.as_ptr().addr().is_multiple_of(dtype.bytes() as usize);
        if cfg!(target_endian = "big") || dtype == DType::Bool || !aligned {
            return Constant::from_bytes(dtype, bytes);
        }
        let shared = Arc::new(Shared(owner));
        match dtype {
            DType::Bool => Constant::from_bytes(dtype, shared.0.as_ref()),
            DType::I8 => Constant::I8(Values(shared)),
            DType::I16 => Constant::I16(Values(shared)),
            DType::I32 => Constant::I32(Values(shared)),
            DType::I64 => Constant::I64(Values(shared)),
            DType::U8 => Constant::U8(Values(shared)),
            DType::U16 => Constant::U16(Values(shared)),
            DType::U32 => Constant::U32(Values(shared)),
            DType::U64 => Constant::U64(Values(shared)),
            DType::F16 => Constant::F16(Values(shared)),
            DType::BF16 => Constant::BF16(Values(shared)),
            DType::F32 => Constant::F32(Values(shared)),
            DType::F64 => Constant::F64(Values(shared)),
        }
    }

    /// `count` copies of `value`.
    pub fn repeated(value: Scalar, count: usize) -> Constant {
        let bytes = &value.bits.to_le_bytes()[..value.dtype.bytes() as usize];
        Constant::from_bytes(value.dtype, &bytes.repeat(count))
    }

    /// The type of the values.
    pub fn dtype(&self) -> DType {
        match self {
            Constant::Bool(_) => DType::Bool,
            Constant::I8(_) => DType::I8,
            Constant::I16(_) => DType::I16,
            Constant::I32(_) => DType::I32,
            Constant::I64(_) => DType::I64,
            Constant::U8(_) => DType::U8,
            Constant::U16(_) => DType::U16,
            Constant::U32(_) => DType::U32,
            Constant::U64(_) => DType::U64,
            Constant::F16(_) => DType::F16,
            Constant::BF16(_) => DType::BF16,
            Constant::F32(_) => DType::F32,
            Constant::F64(_) => DType::F64,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their bytes, little-endian.
    pub fn bytes(&self) -> &[u8] {
        each!(self, values => Element::bytes(values))
    }

    /// The value, if there is exactly one.
    pub fn only(&self) -> Option<Scalar> {
        let mut bits = [0; 8];
        let bytes = self.bytes();
        bits.get_mut(..bytes.len())?.copy_from_slice(bytes);
        (self.len() == 1).then(|| Scalar::from_bits(self.dtype(), u64::from_le_bytes(bits)))
    }

    /// The values, if they are f32.
    pub fn f32(&self) -> Option<&Values<f32>> {
        match self {
            Constant::F32(values) => Some(values),
            _ => None,
        }
    }
}

impl From<Vec<f32>> for Constant {
    fn from(values: Vec<f32>) -> Constant {
        Constant::F32(values.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_keep_type_and_value() {
        let text = |dtype, value| Scalar::from_f64(dtype, value).to_string();
        assert_eq!(text(DType::F32, 1.5), "1.5");
        assert_eq!(text(DType::F16, -0.5), "-0.5f16");
        assert_eq!(
            (text(DType::I8, -129.0), text(DType::U8, -3.0), text(DType::U8, 300.0)),
            ("-128i8".into(), "0u8".into(), "255u8".into())
        );
        assert_eq!((text(DType::Bool, 0.5), text(DType::I64, -7.9)), ("true".into(), "-7i64".into()));
        assert_eq!(Scalar::from(-1i64).bits(), u64::MAX);
        assert_ne!(Scalar::from(0.0), Scalar::from(-0.0));
    }

    #[test]
    fn constants_are_bytes() {
        for dtype in DType::ALL {
            let one = Scalar::from_f64(dtype, 1.0);
            let three = Constant::repeated(one, 3);
            assert_eq!((three.dtype(), three.len(), three.only()), (dtype, 3, None));
            assert_eq!(Constant::from_bytes(dtype, three.bytes()), three);
            assert_eq!(Constant::sharing(dtype, three.bytes().to_vec()), three);
            assert_eq!(Constant::repeated(one, 1).only(), Some(one));
        }
    }

    #[test]
    fn shared_bytes_are_copied_only_if_they_must_be() {
        let bytes: Arc<[u8]> = Arc::from([0, 0, 128, 63, 0, 0, 0, 64].repeat(2));
        struct From(Arc<[u8]>, usize);
        impl AsRef<[u8]> for From {
            fn as_ref(&self) -> &[u8] {
                &self.0[self.1..]
            }
        }
        let start = bytes.as_ptr().addr() % 4;
        for begin in 0..4 {
            let constant = Constant::sharing(DType::F32, From(bytes.clone(), begin));
            assert_eq!(constant, Constant::from_bytes(DType::F32, &bytes[begin..]));
            assert_eq!(constant.bytes().as_ptr() == bytes[begin..].as_ptr(), (start + begin).is_multiple_of(4));
        }
        assert_eq!(Constant::sharing(DType::Bool, vec![0, 1, 2]), Constant::Bool([false, true, true].into()));
    }
}
