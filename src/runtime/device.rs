//! Maps the plan's logical GPUs to the machine's GPUs, as `RuntimeOptions` says, and opens a
//! context on each.

use std::sync::Arc;

use cudarc::driver::{CudaContext, sys};

use super::error::{Error, Result};
use super::memory::ErrorContext;
use super::options::RuntimeOptions;

/// A GPU of the machine that the plan uses, with a context on it.
pub(super) struct Device {
    pub(super) ordinal: usize,
    pub(super) name: String,
    pub(super) capability: (u32, u32),
    pub(super) context: Arc<CudaContext>,
}

/// Whether a GPU of this name is one of hiosc's virtual ones, whose times mean nothing.
pub fn is_virtual(name: &str) -> bool {
    name.starts_with("hiosc virtual GPU")
}

/// The devices in use, and the device of each logical GPU.
pub(super) struct DeviceMap {
    pub(super) devices: Vec<Device>,
    pub(super) device_of: Vec<usize>,
    /// GPUs of the machine.
    pub(super) found: usize,
}

/// Finds the driver and checks its version. Must be called before anything else: cudarc panics
/// without a driver.
pub(super) fn check_driver(needed: i32) -> Result<()> {
    // SAFETY: loads libcuda and nothing else.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::NoDriver);
    }
    let mut found = 0;
    // SAFETY: writes one integer; needs no initialisation.
    unsafe { sys::cuDriverGetVersion(&mut found) }.result().context(|| "report its version".into())?;
    if found < needed { Err(Error::DriverTooOld { needed, found }) } else { Ok(()) }
}

/// Chooses GPUs for `planned` logical GPUs, and creates their contexts.
pub(super) fn map_devices(planned: usize, options: &RuntimeOptions) -> Result<DeviceMap> {
    let found = match CudaContext::device_count() {
        Ok(count) => count.max(0) as usize,
        Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => 0,
        Err(error) => return Err(error).context(|| "count the GPUs".into()),
    };
    let ordinals = choose(planned, found, options)?;
    let mut device_map = DeviceMap { devices: Vec::new(), device_of: Vec::new(), found };
    for ordinal in ordinals {
        let known = device_map.devices.iter().position(|d| d.ordinal == ordinal);
        let device = match known {
            Some(device) if !options.separate_contexts => device,
            _ => {
                device_map.devices.push(open(ordinal, known.is_none())?);
                device_map.devices.len() - 1
            }
        };
        device_map.device_of.push(device);
    }
    Ok(device_map)
}

/// The machine's GPU for each of the `planned` logical GPUs.
fn choose(planned: usize, found: usize, options: &RuntimeOptions) -> Result<Vec<usize>> {
    if found == 0 {
        return Err(Error::NotEnoughGpus { planned, found });
    }
    let listed = match &options.on {
        Some(list) => list.clone(),
        None if found < planned && !options.fold => return Err(Error::NotEnoughGpus { planned, found }),
        None => (0..found.min(planned)).collect(),
    };
    if let Some(&gpu) = listed.iter().find(|&&gpu| gpu >= found) {
        return Err(Error::NoSuchGpu { gpu, found });
    }
    let foldable = options.fold && !listed.is_empty() && listed.len() < planned;
    if listed.len() != planned && !foldable {
        return Err(Error::GpuList { planned, listed: listed.len() });
    }
    Ok((0..planned).map(|gpu| listed[gpu % listed.len()]).collect())
}

/// Opens the primary context of a GPU, which the whole process shares, or a new one.
pub(super) fn open(ordinal: usize, primary: bool) -> Result<Device> {
    let context = if primary { CudaContext::new(ordinal) } else { CudaContext::new_non_primary(ordinal, 0) };
    let context = context.context(|| format!("open GPU {ordinal}"))?;
    // SAFETY: cudarc's event tracking would add hidden waits. Without it, the caller must guarantee
    // that no slice is freed while another stream uses it, that none is used before its allocation
    // has finished, and that no two streams write one at the same time. The runtime has no cudarc
    // slices. It allocates memory synchronously and keeps it until all streams are idle, and hiosc
    // has proved that the plan orders every two conflicting accesses.
    unsafe { context.disable_event_tracking() };
    let name = context.name().context(|| format!("report the name of GPU {ordinal}"))?;
    let (major, minor) = context.compute_capability().context(|| format!("report the compute capability of GPU {ordinal}"))?;
    Ok(Device { ordinal, name, capability: (major as u32, minor as u32), context })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_gpus_are_placed_or_refused() {
        let plain = RuntimeOptions::default();
        assert_eq!(choose(2, 4, &plain), Ok(vec![0, 1]));
        assert_eq!(choose(2, 1, &plain), Err(Error::NotEnoughGpus { planned: 2, found: 1 }));
        assert_eq!(choose(2, 0, &plain.clone().fold(true)), Err(Error::NotEnoughGpus { planned: 2, found: 0 }));
        assert_eq!(choose(4, 3, &plain.clone().fold(true)), Ok(vec![0, 1, 2, 0]));
        assert_eq!(choose(2, 1, &plain.clone().on(&[0, 0])), Ok(vec![0, 0]));
        assert_eq!(choose(2, 4, &plain.clone().on(&[3])), Err(Error::GpuList { planned: 2, listed: 1 }));
        assert_eq!(choose(2, 4, &plain.clone().on(&[3]).fold(true)), Ok(vec![3, 3]));
        assert_eq!(choose(2, 2, &plain.clone().on(&[])), Err(Error::GpuList { planned: 2, listed: 0 }));
        assert_eq!(choose(2, 2, &plain.on(&[0, 2])), Err(Error::NoSuchGpu { gpu: 2, found: 2 }));
    }
}
