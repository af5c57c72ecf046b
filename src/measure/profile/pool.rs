//! Memory for the arguments of kernels under measurement. Launches cycle through many slots, so
//! that they do not find their arguments in the L2 cache.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, result};

use super::{Argument, ArgumentContents, device};
use crate::error::{Error, Result};

/// Four allocations: numbers, zeros, results that nothing reads, and counters. Counters are the
/// same in each slot, since launches of different slots run one after the other.
pub(super) struct ArgumentPool {
    floats: CudaSlice<f32>,
    zeros: CudaSlice<u8>,
    results: CudaSlice<u8>,
    counters: CudaSlice<u8>,
    /// Their addresses.
    at: [u64; 4],
    /// Bytes of the L2 cache.
    cache: u64,
}

const ALIGNMENT: u64 = 256;

/// The most slots.
const MAX_SLOTS: u64 = 64;

/// Bytes of one slot.
fn slot_bytes(arguments: &[Argument]) -> u64 {
    let floats = arguments.iter().filter(|(_, contents)| *contents == ArgumentContents::Floats);
    floats.map(|(bytes, _)| bytes.next_multiple_of(ALIGNMENT)).sum::<u64>().max(ALIGNMENT)
}

impl ArgumentPool {
    /// Memory for each of these lists of arguments, and for `together` of them at once.
    pub fn new(stream: &Arc<CudaStream>, lists: &[Vec<Argument>], together: usize, cache: u64) -> Result<ArgumentPool> {
        // Together, the slots are twice the cache; at least two, and at most `MAX_SLOTS`.
        let alone = |list: &Vec<Argument>| slot_bytes(list) * (2 * cache).div_ceil(slot_bytes(list)).clamp(2, MAX_SLOTS);
        let largest = lists.iter().map(|list| slot_bytes(list)).max().unwrap_or(ALIGNMENT);
        let bytes = lists.iter().map(alone).max().unwrap_or(ALIGNMENT).max(2 * together as u64 * largest);
        let other = |which: ArgumentContents, count: u64| {
            let arguments = lists.iter().flat_map(|list| list.iter()).filter(|(_, contents)| *contents == which);
            let most = arguments.map(|(bytes, _)| bytes.next_multiple_of(ALIGNMENT)).max().unwrap_or(0);
            stream.alloc_zeros::<u8>((count * most).max(1) as usize).map_err(device)
        };
        let (zeros, results) = (other(ArgumentContents::Zeros, 1)?, other(ArgumentContents::Result, 1)?);
        let counters = other(ArgumentContents::Counters, together.max(1) as u64)?;
        // SAFETY: all of it is written below, before anything reads it.
        let mut floats = unsafe { stream.alloc::<f32>(bytes as usize / 4) }.map_err(device)?;
        // Values in [-1, 1). With zeros the GPU would draw less power and look faster.
        let mut state = 1u32;
        let values: Vec<f32> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .take((1 << 18).min(floats.len()))
        .collect();
        let mut filled = values.len();
        stream.memcpy_htod(&values, &mut floats.slice_mut(..filled)).map_err(device)?;
        let base = floats.device_ptr(stream).0;
        while filled < floats.len() {
            let more = filled.min(floats.len() - filled);
            // SAFETY: both ranges are within the allocation and do not overlap.
            unsafe { result::memcpy_dtod_async(base + 4 * filled as u64, base, 4 * more, stream.cu_stream()) }.map_err(device)?;
            filled += more;
        }
        stream.synchronize().map_err(device)?;
        let at = [base, zeros.device_ptr(stream).0, results.device_ptr(stream).0, counters.device_ptr(stream).0];
        Ok(ArgumentPool { floats, zeros, results, counters, at, cache })
    }

    /// Addresses of the arguments in each slot. The slots fill twice the cache, as far as memory
    /// and `MAX_SLOTS` allow.
    pub fn slots(&self, arguments: &[Argument]) -> Result<Vec<Vec<u64>>> {
        let bytes = slot_bytes(arguments);
        let capacity = self.floats.num_bytes() as u64 / bytes;
        let fits = |&(bytes, contents): &Argument| match contents {
            // All of the list together, below.
            ArgumentContents::Floats | ArgumentContents::Counters => true,
            ArgumentContents::Zeros => bytes <= self.zeros.len() as u64,
            ArgumentContents::Result => bytes <= self.results.len() as u64,
        };
        let counters = arguments.iter().filter(|(_, contents)| *contents == ArgumentContents::Counters);
        let counters: u64 = counters.map(|(bytes, _)| bytes.next_multiple_of(ALIGNMENT)).sum();
        if capacity == 0 || counters > self.counters.len() as u64 || !arguments.iter().all(fits) {
            return Err(Error::internal("profile", "the pool is too small"));
        }
        let count = (2 * self.cache).div_ceil(bytes).clamp(2, MAX_SLOTS).min(capacity);
        let slot = |index: u64| {
            let (mut floats, mut counters) = (self.at[0] + index * bytes, self.at[3]);
            let take = |next: &mut u64, bytes: u64| std::mem::replace(next, *next + bytes.next_multiple_of(ALIGNMENT));
            let address = |&(bytes, contents): &Argument| match contents {
                ArgumentContents::Zeros => self.at[1],
                ArgumentContents::Result => self.at[2],
                ArgumentContents::Floats => take(&mut floats, bytes),
                ArgumentContents::Counters => take(&mut counters, bytes),
            };
            arguments.iter().map(address).collect()
        };
        Ok((0..count).map(slot).collect())
    }
}
