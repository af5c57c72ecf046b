//! Layouts of constants that a kernel reads in another order than the model's. Packing is done
//! once, when the crate is generated.
//!
//! A layout has its own dimensions, not those of a tensor: a kernel may read its weights under
//! another shape than the constant's. Padding is zeros.

use std::fmt::{self, Display, Formatter};

/// Terms per step of the main loop that reads packed weights.
const STEP: usize = 16;
/// Rows are padded to a multiple of this, the largest tile, so that one layout serves all tiles.
const ROWS: usize = 128;

/// A layout of the weights of a convolution or a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Packing {
    /// Group by group, `[step][16][rows, padded to 128]`: the terms of a sum in steps of 16, tap by
    /// tap, and within a tap channel by channel.
    TapMajor {
        /// Groups of a grouped convolution; 1 otherwise.
        groups: usize,
        /// Output channels per group.
        rows: usize,
        /// Input channels per group.
        channels: usize,
        /// Elements of the filter's window; 1 for a matrix product.
        taps: usize,
        /// Whether the model stores the weights as `[group][channel][tap][row]` instead of
        /// `[group][row][channel][tap]`.
        transposed: bool,
    },
}

impl Packing {
    /// The shape of the packed tensor.
    pub fn shape(&self) -> [usize; 4] {
        let Packing::TapMajor { groups, rows, channels, taps, .. } = *self;
        [groups, (taps * channels).div_ceil(STEP), STEP, rows.next_multiple_of(ROWS)]
    }

    /// Elements of the packed tensor, padding included.
    pub fn elements(&self) -> u64 {
        self.shape().iter().map(|&extent| extent as u64).product()
    }

    /// The packed bytes of `values`, whose elements have `size` bytes each; `None` if their number
    /// does not match the layout.
    pub fn pack(&self, values: &[u8], size: usize) -> Option<Vec<u8>> {
        let Packing::TapMajor { groups, rows, channels, taps, transposed } = *self;
        if values.len() != groups * rows * channels * taps * size {
            return None;
        }
        let [_, steps, _, padded] = self.shape();
        let mut packed = vec![0; self.elements() as usize * size];
        for group in 0..groups {
            for term in 0..taps * channels {
                let (tap, channel) = (term / channels, term % channels);
                for row in 0..rows {
                    let from = if transposed {
                        ((group * channels + channel) * taps + tap) * rows + row
                    } else {
                        ((group * rows + row) * channels + channel) * taps + tap
                    };
                    let to = (group * steps * STEP + term) * padded + row;
                    packed[to * size..][..size].copy_from_slice(&values[from * size..][..size]);
                }
            }
        }
        Some(packed)
    }
}

impl Display for Packing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Packing::TapMajor { groups, rows, channels, taps, transposed } = self;
        write!(f, "tap-major {groups}x{rows}x{channels}x{taps}{}", if *transposed { " transposed" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_come_first_and_padding_is_zero() {
        let packing = Packing::TapMajor { groups: 2, rows: 3, channels: 5, taps: 4, transposed: false };
        assert_eq!(packing.shape(), [2, 2, 16, 128]);
        let values: Vec<u8> = (1..=120).collect();
        let packed = packing.pack(&values, 1).unwrap();
        for group in 0..2 {
            for term in 0..32 {
                for row in 0..128 {
                    let found = packed[(group * 32 + term) * 128 + row];
                    let inside = term < 20 && row < 3;
                    let expected = if inside { values[((group * 3 + row) * 5 + term % 5) * 4 + term / 5] } else { 0 };
                    assert_eq!(found, expected, "group {group}, term {term}, row {row}");
                }
            }
        }
        assert_eq!(packing.pack(&values[1..], 1), None);
    }

    #[test]
    fn a_matrix_stored_the_other_way_round_gives_the_same() {
        let (rows, channels) = (130, 17);
        let one = Packing::TapMajor { groups: 1, rows, channels, taps: 1, transposed: false };
        let other = Packing::TapMajor { groups: 1, rows, channels, taps: 1, transposed: true };
        let value = |row: usize, channel: usize| (row * channels + channel) as u16;
        let by_row: Vec<u8> = (0..rows).flat_map(|r| (0..channels).flat_map(move |c| value(r, c).to_le_bytes())).collect();
        let by_channel: Vec<u8> = (0..channels).flat_map(|c| (0..rows).flat_map(move |r| value(r, c).to_le_bytes())).collect();
        assert_eq!(one.elements(), 32 * 256);
        assert_eq!(one.pack(&by_row, 2), other.pack(&by_channel, 2));
        assert_eq!(one.to_string(), "tap-major 1x130x17x1");
    }
}
