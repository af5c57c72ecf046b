//! Measures the links between GPUs: which path a copy would take, whether its data arrives, and how
//! long it takes.
//!
//! For each ordered pair, the path is chosen as for a plan (`../copy_path.rs`). Copies of several
//! sizes are timed: several in a row between two events, enqueued on a blocked stream. The result
//! is the median of the rounds. Latency and bandwidth come from the line that fits the medians best
//! (least squares of the relative error, so that small copies count as much as large ones). Finally
//! a pattern is copied in the largest size and read back.

use cudarc::driver::{CudaContext, result, sys};

use super::super::blocker::StreamBlocker;
use super::super::copy_path::CopyPath;
use super::super::device::{Device, check_driver, open};
use super::super::error::{Error, Result};
use super::super::memory::{DeviceMemory, ErrorContext};

/// The measured link from one GPU to another.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkReport {
    /// The machine's GPU that the copies start from.
    pub from: usize,
    /// The machine's GPU that they reach.
    pub to: usize,
    /// The path: `peer copy`, `through host memory`, `same device`.
    pub path: &'static str,
    /// Time of an empty copy, in nanoseconds.
    pub latency: u64,
    /// Bytes per second.
    pub bandwidth: f64,
    /// (bytes, median nanoseconds) for each size.
    pub samples: Vec<(u64, u64)>,
}

/// Sizes of the copies, in bytes.
const SIZES: [u64; 7] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];
/// Copies in a row between two events.
const ROW: usize = 4;

/// Measures all ordered pairs of `gpus`, in `rounds` rounds.
///
/// # Errors
///
/// [`Error::Link`] if data does not arrive.
pub fn measure(gpus: &[usize], rounds: usize) -> Result<Vec<LinkReport>> {
    check_driver(0)?;
    let found = CudaContext::device_count().context(|| "count the GPUs".into())?.max(0) as usize;
    if let Some(&gpu) = gpus.iter().find(|&&gpu| gpu >= found) {
        return Err(Error::NoSuchGpu { gpu, found });
    }
    let devices = gpus.iter().map(|&gpu| open(gpu, true)).collect::<Result<Vec<_>>>()?;
    let mut reports = Vec::new();
    for (a, from) in devices.iter().enumerate() {
        for (b, to) in devices.iter().enumerate() {
            if a != b {
                reports.push(pair(from, to, rounds.max(1))?);
            }
        }
    }
    Ok(reports)
}

fn pair(from: &Device, to: &Device, rounds: usize) -> Result<LinkReport> {
    let largest = SIZES[SIZES.len() - 1];
    let memory = |device: &Device| {
        let memory = DeviceMemory::allocate(&device.context, largest)?;
        memory.ok_or(Error::OutOfMemory { gpu: device.ordinal, needed: largest, free: 0 })
    };
    let (source, target) = (memory(from)?, memory(to)?);
    let stream = from.context.new_stream().context(|| "create a stream".into())?;
    let path = CopyPath::choose(&stream, &to.context, &source, &target, largest)?;
    let event = || from.context.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).context(|| "create an event".into());
    let (first, last) = (event()?, event()?);
    let mut samples = Vec::new();
    for bytes in SIZES {
        let mut times = Vec::new();
        for round in 0..=rounds {
            let blocker = StreamBlocker::block(&stream)?;
            first.record(&stream).context(|| "record an event".into())?;
            for _ in 0..ROW {
                path.copy(&stream, target.address(), source.address(), bytes as usize)?;
            }
            last.record(&stream).context(|| "record an event".into())?;
            blocker.unblock()?;
            stream.synchronize().context(|| "finish copies".into())?;
            let milliseconds = first.elapsed_ms(&last).context(|| "report the time between two events".into())?;
            if round > 0 {
                times.push((f64::from(milliseconds.max(0.0)) * 1e6 / ROW as f64).round() as u64);
            }
        }
        times.sort_unstable();
        samples.push((bytes, times[times.len() / 2].max(1)));
    }
    arrives(&path, from, to, &source, &target)?;
    let (latency, bandwidth) = fit(&samples);
    Ok(LinkReport { from: from.ordinal, to: to.ordinal, path: path.name(), latency, bandwidth, samples })
}

/// Copies a pattern in the largest size and reads it back.
fn arrives(path: &CopyPath, from: &Device, to: &Device, source: &DeviceMemory, target: &DeviceMemory) -> Result<()> {
    let bytes = source.bytes() as usize;
    let pattern: Vec<u8> = (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
    let mut seen = vec![0u8; bytes];
    let stream = from.context.new_stream().context(|| "create a stream".into())?;
    from.context.bind_to_thread().context(|| "bind a context".into())?;
    // SAFETY: both allocations have `bytes` bytes; the calls return when the copies are done.
    unsafe { result::memcpy_htod_sync(source.address(), &pattern) }.context(|| "write to a GPU".into())?;
    from.context.synchronize().context(|| "write to a GPU".into())?;
    path.copy(&stream, target.address(), source.address(), bytes)?;
    stream.synchronize().context(|| "finish a copy".into())?;
    to.context.bind_to_thread().context(|| "bind a context".into())?;
    // SAFETY: as above.
    unsafe { result::memcpy_dtoh_sync(&mut seen, target.address()) }.context(|| "read from a GPU".into())?;
    let broken = seen.iter().zip(&pattern).position(|(a, b)| a != b);
    broken.map_or(Ok(()), |at| Err(Error::Link { from: from.ordinal, to: to.ordinal, message: format!("byte {at} of {bytes} is wrong") }))
}

/// Latency in nanoseconds and bandwidth in bytes per second: the line `t = l + b / w` with the
/// least squares of `(predicted - t) / t`.
fn fit(samples: &[(u64, u64)]) -> (u64, f64) {
    // Weighted least squares with weights 1/t².
    let mut sums = [0.0f64; 5]; // w, wb, wbb, wt, wbt
    for &(bytes, time) in samples {
        let (b, t) = (bytes as f64, time as f64);
        let w = 1.0 / (t * t);
        for (sum, value) in sums.iter_mut().zip([w, w * b, w * b * b, w * t, w * b * t]) {
            *sum += value;
        }
    }
    let [w, wb, wbb, wt, wbt] = sums;
    let slope = (w * wbt - wb * wt) / (w * wbb - wb * wb);
    let latency = (wt - slope * wb) / w;
    // Noise may tilt the line. A link is at least as fast as its largest copy.
    let (bytes, time) = samples[samples.len() - 1];
    let slowest = time as f64 / bytes as f64;
    let slope = if slope.is_finite() && slope > 0.0 { slope.min(slowest) } else { slowest };
    (latency.max(0.0).round() as u64, 1e9 / slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found() {
        let samples: Vec<(u64, u64)> = SIZES.iter().map(|&b| (b, 5000 + b / 20)).collect();
        let (latency, bandwidth) = fit(&samples);
        assert!((4990..=5010).contains(&latency) && (bandwidth / 20e9 - 1.0).abs() < 0.01, "{latency} {bandwidth}");
        let (latency, bandwidth) = fit(&SIZES.map(|b| (b, 1000)));
        assert!(latency <= 1000 && bandwidth.is_finite() && bandwidth > 0.0);
    }
}
