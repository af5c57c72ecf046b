//! Scaled dot-product attention.

use std::fmt::{self, Display, Formatter};

use super::{Attributes, checked_product, in_bounds, product};

/// `y = softmax(scale * q k^T + mask) v` for each head of each batch. Inputs: `q`, `k`, `v`, and,
/// if `mask_strides` is set, `mask`, which is added to the scores. `heads / kv_heads` neighbouring
/// heads of `q` share one head of `k` and `v`. Strides are in elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Number of independent inputs.
    pub batch: usize,
    /// Heads of `q` and of the result.
    pub heads: usize,
    /// Heads of `k` and `v`; divides `heads`.
    pub kv_heads: usize,
    /// Rows of `q` and of the result.
    pub rows: usize,
    /// Rows of `k` and `v`: columns of the scores.
    pub columns: usize,
    /// Length of a row of `q` and `k`; at most [`Attention::MAX_DEPTH`].
    pub depth: usize,
    /// Length of a row of `v` and of the result; at most [`Attention::MAX_DEPTH`].
    pub value_depth: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Whether row `i` sees only columns up to `i + columns - rows`.
    pub causal: bool,
    /// Strides of `q` along (batch, head, row, depth).
    pub q_strides: [usize; 4],
    /// Strides of `k` along (batch, head, column, depth).
    pub k_strides: [usize; 4],
    /// Strides of `v` along (batch, head, column, depth).
    pub v_strides: [usize; 4],
    /// Strides of the mask along (batch, head, row, column), 0 where it is the same for all.
    pub mask_strides: Option<[usize; 4]>,
    /// Strides of the result along (batch, head, row, depth).
    pub y_strides: [usize; 4],
}

impl Attention {
    /// The longest row of `q`, `k` or `v`: a block keeps a few of them in shared memory.
    pub const MAX_DEPTH: usize = 256;
}

impl Attributes for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn check_shapes(&self, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
        let ([q, k, v], mask) = match inputs {
            [q, k, v] if self.mask_strides.is_none() => ([*q, *k, *v], None),
            [q, k, v, mask] if self.mask_strides.is_some() => ([*q, *k, *v], Some(*mask)),
            _ => return Err("needs q, k and v, and a mask if it has strides for one".into()),
        };
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} heads are not a multiple of {} key and value heads", self.heads, self.kv_heads));
        }
        if self.depth > Attention::MAX_DEPTH || self.value_depth > Attention::MAX_DEPTH {
            return Err(format!("head depths of {} and {} are too large", self.depth, self.value_depth));
        }
        let Attention { batch, heads, kv_heads, rows, columns, depth, value_depth, .. } = *self;
        let result = [batch, heads, rows, value_depth];
        let sound = in_bounds(q, [batch, heads, rows, depth], self.q_strides)
            && in_bounds(k, [batch, kv_heads, columns, depth], self.k_strides)
            && in_bounds(v, [batch, kv_heads, columns, value_depth], self.v_strides)
            && mask.zip(self.mask_strides).is_none_or(|(mask, strides)| in_bounds(mask, [batch, heads, rows, columns], strides))
            && in_bounds(output, result, self.y_strides)
            && checked_product(&result) == Some(output.iter().product());
        if sound { Ok(()) } else { Err("extents and strides reach outside an operand".into()) }
    }

    fn macs(&self, _: &[&[usize]], _: &[usize]) -> u64 {
        // a causal mask is added to the scores, all of which are computed
        product(&[self.batch, self.heads, self.rows, self.columns]) * (self.depth + self.value_depth) as u64
    }

    fn flops(&self, _: &[&[usize]], _: &[usize]) -> f64 {
        let scores = (self.batch * self.heads * self.rows * self.columns) as f64;
        scores * (2.0 * (self.depth + self.value_depth) as f64 + 5.0)
    }
}

impl Display for Attention {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {} heads {}: {}x{} by {}x{}", self.batch, self.heads, self.rows, self.depth, self.columns, self.value_depth)?;
        if self.kv_heads != self.heads {
            write!(f, " sharing {}", self.kv_heads)?;
        }
        write!(f, " scale {:?}", self.scale)?;
        if self.causal {
            write!(f, " causal")?;
        }
        if self.mask_strides.is_some() {
            write!(f, " masked")?;
        }
        Ok(())
    }
}
