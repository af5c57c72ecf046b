//! Compiles kernels when a model is loaded, with the machine's NVRTC: source and compute capability
//! in, machine code or PTX out.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use super::nvrtc::Nvrtc;

/// Compiles the kernel `name` for a GPU of compute capability `device`. `sources` are pairs of
/// kernel name and text, `headers` pairs of file name and text. NVRTC is searched for once per
/// process; the error says where.
pub fn compile(sources: &[(&str, &str)], headers: &[(&str, &str)], name: &str, device: (u32, u32)) -> Result<Vec<u8>, String> {
    static NVRTC: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
    let load = || match virtual_nvrtc() {
        Some(stand_in) => Nvrtc::open(Path::new(&stand_in)),
        None => Nvrtc::load(),
    };
    let nvrtc = NVRTC.get_or_init(load).as_ref().map_err(String::clone)?;
    let (_, source) = sources.iter().find(|(known, _)| *known == name).ok_or("it has no source")?;
    let mut code = nvrtc.compile(name, source, headers, &target(&nvrtc.supported_archs()?, device)?)?;
    // The driver reads PTX up to a zero byte.
    code.push(0);
    Ok(code)
}

/// The stand-in for NVRTC that `hiosc virtual` names: models on virtual GPUs then compile all their
/// kernels with it.
pub(super) fn virtual_nvrtc() -> Option<OsString> {
    env::var_os("HIOSC_VGPU_NVRTC").filter(|file| !file.is_empty())
}

/// Machine code for the GPU itself or for an older one of its major version. Otherwise PTX for the
/// newest older GPU, which the driver compiles. `supported` is ascending.
fn target(supported: &[i32], (major, minor): (u32, u32)) -> Result<String, String> {
    let device = (major * 10 + minor) as i32;
    match supported.iter().rev().find(|&&arch| arch <= device) {
        Some(arch) if arch / 10 == device / 10 => Ok(format!("sm_{arch}")),
        Some(arch) => Ok(format!("compute_{arch}")),
        None => Err(format!(
            "this NVRTC does not know GPUs as old as compute capability {major}.{minor}; set HIOSC_NVRTC to the file of an older one"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_target_is_chosen() {
        let supported = [75, 80, 86, 90];
        let chosen = |device| target(&supported, device).ok();
        assert_eq!(chosen((8, 6)).as_deref(), Some("sm_86"));
        assert_eq!(chosen((8, 9)).as_deref(), Some("sm_86"));
        assert_eq!(chosen((10, 0)).as_deref(), Some("compute_90"));
        assert_eq!(chosen((12, 1)).as_deref(), Some("compute_90"));
        assert_eq!(chosen((7, 0)), None);
        assert!(target(&supported, (7, 0)).unwrap_err().contains("7.0"));
    }
}
