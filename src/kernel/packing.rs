//! Layouts of constants that a kernel reads in another order than the model's. Packing is done
//! once, when the crate is generated.
//!
//! A layout has its own dimensions, not those of a tensor: a kernel may read its weights under
//! another shape than the constant's. Padding is zeros.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

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

    /// Whether a constant of so many elements can be packed.
    pub fn fits(&self, elements: usize) -> bool {
        let Packing::TapMajor { groups, rows, channels, taps, .. } = *self;
        elements == groups * rows * channels * taps
    }

    /// The packed bytes of `values`, whose elements have `size` bytes each; `None` if their number
    /// does not match the layout.
    pub fn pack(&self, values: &[u8], size: usize) -> Option<Vec<u8>> {
        let mut packed = Vec::with_capacity(self.elements() as usize * size);
        self.write(values, size, &mut packed).ok()?;
        Some(packed)
    }

    /// Writes the packed bytes of `values` step by step. Fails if their number does not match the
    /// layout.
    pub fn write(&self, values: &[u8], size: usize, to: &mut impl Write) -> io::Result<()> {
        match size {
            1 => self.write_elements::<1>(values, to),
            2 => self.write_elements::<2>(values, to),
            4 => self.write_elements::<4>(values, to),
            8 => self.write_elements::<8>(values, to),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn write_elements<const SIZE: usize>(&self, values: &[u8], to: &mut impl Write) -> io::Result<()> {
        let Packing::TapMajor { groups, rows, channels, taps, transposed } = *self;
        let (values, rest) = values.as_chunks::<SIZE>();
        if !self.fits(values.len()) || !rest.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let [_, steps, _, padded] = self.shape();
        let mut packed = vec![[0; SIZE]; STEP * padded];
        for (group, step) in (0..groups).flat_map(|group| (0..steps).map(move |step| (group, step))) {
            let terms = step * STEP..(taps * channels).min((step + 1) * STEP);
            packed[terms.len() * padded..].fill([0; SIZE]);
            // where the model stores a term among those of one row, or if transposed, of one group
            let stored = terms.clone().map(|term| (term % channels) * taps + term / channels);
            if transposed {
                for (packed, from) in packed.chunks_exact_mut(padded).zip(stored) {
                    let from = (group * channels * taps + from) * rows;
                    packed[..rows].copy_from_slice(&values[from..][..rows]);
                }
                to.write_all(packed.as_flattened())?;
                continue;
            }
            let stored: Vec<usize> = stored.collect();
            for row in 0..rows {
                let values = &values[(group * rows + row) * channels * taps..][..channels * taps];
                for (term, &from) in stored.iter().enumerate() {
                    packed[term * padded + row] = values[from];
                }
            }
            to.write_all(packed.as_flattened())?;
        }
        Ok(())
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
