//! Virtual GPUs, which run CUDA programs on a machine without a GPU.
//!
//! **The problem.** A generated crate calls the CUDA driver and launches kernels. It must run,
//! unchanged, on a machine with neither a driver nor a GPU. There it must be tested more strictly
//! than on a GPU: a missing event should give wrong numbers, not go unnoticed by luck.
//!
//! **The solution.** `vgpu/` has the C++ sources, embedded in this library, of our own
//! `libcuda.so.1` (N devices, streams, events, peer copies) and of a stand-in for NVRTC. Kernels
//! are the same CUDA C++ as on a GPU, compiled for the CPU. The host only enqueues. Work runs when
//! the host synchronises, one operation at a time, in an order that `HIOSC_VGPU_SEED` draws from
//! those that streams and events allow.
//!
//! **How to use it.**
//! 1. [`install`] compiles the libraries, once, into a cache folder.
//! 2. [`compile_crate_kernels`] compiles a crate's kernels, once for each set of kernels, into a
//!    folder of shared objects.
//! 3. [`command_env`] makes another program run on virtual GPUs; [`load`] makes this one.
//!
//! [`on_demand_env`] needs no second step: it is what `hiosc virtual` does.
//!
//! ```no_run
//! # fn main() -> hiosc::Result<()> {
//! # use std::process::Command;
//! let kernels = hiosc::vgpu::compile_crate_kernels("out".as_ref())?;
//! let mut program = Command::new("target/release/my-service");
//! hiosc::vgpu::command_env(&mut program, &kernels)?;
//! program.env("HIOSC_VGPU_COUNT", "2").status().expect("it starts");
//! # Ok(()) }
//! ```
//!
//! Both folders are content-addressed (sources, compiler, flags, processor) and created atomically,
//! so that several processes may build at the same time. They are in hiosc's cache: `$HIOSC_CACHE`,
//! otherwise `$XDG_CACHE_HOME/hiosc`, otherwise `$HOME/.cache/hiosc`. The compiler is `$CXX`,
//! otherwise `c++`, `g++` or `clang++`.
//!
//! **Environment variables** that the virtual driver reads when it is initialised. An invalid value
//! is reported on stderr, and `cuInit` fails.
//!
//! * `HIOSC_VGPU_COUNT`: number of devices, 0 to 64 (default 2).
//! * `HIOSC_VGPU_MEMORY`: memory of each device, in bytes (default 8 GiB).
//! * `HIOSC_VGPU_ARCH`: compute capability of each device: `8.6`, or a list such as `8.6,8.9`,
//!   whose last value applies to all further devices (default 8.6).
//! * `HIOSC_VGPU_PEER`: which devices can access whose memory: `all`, `none`, or ordered pairs
//!   `0-1,1-0` (default `all`).
//! * `HIOSC_VGPU_SEED`: seed of the order of execution (default 0).
//! * `HIOSC_VGPU_THREADS`: threads that run the blocks of a launch (default: number of processors).
//! * `HIOSC_VGPU_STRICT`: 1 makes a wait for an event that was never recorded an error instead of a
//!   warning (default 0).
//! * `HIOSC_VGPU_REFUSE`: what the driver refuses although it could do it, a list of `capture`,
//!   `capture-across` (contexts), `capture-cold` (a kernel's first launch) and `instantiate`.
//! * `HIOSC_VGPU_TRACE`: file that gets a line for each operation executed.
//! * `HIOSC_VGPU_PROGRESS`: file that has the numbers of operations executed and requested so far.
//! * `HIOSC_VGPU_KERNELS`: folders of compiled kernels, separated by `:`.
//! * `HIOSC_VGPU_NVRTC`: the stand-in for NVRTC. If it is set, models give it the sources of their
//!   kernels, even where they contain compiled ones.
//! * `HIOSC_VGPU_COMPILER`: the program `hiosc`, which compiles these sources.
//!
//! **Limits.** Linux with glibc. Managed memory and cooperative launches return
//! `CUDA_ERROR_NOT_SUPPORTED`. Pointers among a kernel's arguments are not checked, though an
//! access past the end of the last buffer of an allocation usually stops the program. A call to the
//! driver from a host function is refused.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::error::{Error, Result};
use crate::{embedded, progress};

mod cxx;
mod kernels;

pub use kernels::{compile_crate_kernels, compile_kernels};

use cxx::CxxCompiler;

/// The stand-in for NVRTC in the folder of the virtual driver. In a folder of its own, so that the
/// linker does not find it for programs that need the real one.
const NVRTC: &str = "nvrtc/libnvrtc.so.12";

/// Whether there is a C++ compiler, which virtual GPUs need. Without one, tests that need virtual
/// GPUs are skipped with a message.
pub fn compiler_present() -> bool {
    CxxCompiler::find().is_ok()
}

/// Builds the virtual driver, unless the cache has it. Returns the folder with `libcuda.so.1`,
/// `libcuda.so`, and the stand-in `nvrtc/libnvrtc.so.12`.
pub fn install() -> Result<PathBuf> {
    let flags = ["-std=c++17", "-O2", "-fPIC", "-pthread", "-fvisibility=hidden"];
    let compiler = CxxCompiler::find()?;
    let sources: Vec<(&str, &str)> = embedded::folder("vgpu").filter(|(name, _)| *name != "cpu_cuda.h").collect();
    let mut key = compiler.key(&flags);
    key.files(sources.iter().copied()).part(NVRTC);

    cxx::cached_folder(&format!("vgpu-{}", key.finish()), |folder| {
        progress::step("compiling virtual GPUs", 0, sources.len() as u64);
        let build = folder.join("build");
        cxx::write_all(&build, sources.iter().copied())?;
        let command = |arguments: &[&str]| {
            let mut command = compiler.command(&build, &flags);
            command.args(arguments);
            command
        };
        // Every source becomes one object; all except NVRTC's are linked into the driver.
        let units: Vec<&str> = sources.iter().filter_map(|(name, _)| name.strip_suffix(".cpp")).collect();
        cxx::run_all(units.iter().map(|unit| (unit.to_string(), command(&["-c", &format!("{unit}.cpp")]))).collect())?;
        let driver = units.iter().filter(|unit| **unit != "libnvrtc").map(|unit| format!("{unit}.o"));
        let mut link_driver = command(&["-shared", "-Wl,-soname,libcuda.so.1", "-o", "../libcuda.so.1"]);
        link_driver.args(driver).arg("-ldl");
        fs::create_dir(folder.join("nvrtc")).map_err(Error::io(folder))?;
        let link_nvrtc = command(&["-shared", "-Wl,-soname,libnvrtc.so.12", "-o", &format!("../{NVRTC}"), "libnvrtc.o"]);
        cxx::run_all(vec![("libcuda.so.1".into(), link_driver), ("libnvrtc.so.12".into(), link_nvrtc)])?;
        // The name that cudarc tries first. This library is empty but depends on libcuda.so.1. So
        // both names refer to the same virtual driver, even if both are loaded by path and later
        // requested by name (the dynamic linker then compares sonames).
        let needs = ["-Wl,--no-as-needed", "-L..", "-l:libcuda.so.1", "-Wl,-rpath,$ORIGIN"];
        let mut link_alias = command(&["-shared", "-Wl,-soname,libcuda.so", "-o", "../libcuda.so"]);
        link_alias.args(needs);
        cxx::run_all(vec![("libcuda.so".into(), link_alias)])?;
        fs::remove_dir_all(&build).map_err(Error::io(&build))
    })
}

/// Makes `command` run on virtual GPUs, with the kernels that [`compile_crate_kernels`] put into
/// `kernels`. Sets `LD_LIBRARY_PATH` and `HIOSC_VGPU_KERNELS`, and `HIOSC_NVRTC` to the stand-in: a
/// real NVRTC (12.9) crashes in a process with a virtual driver.
pub fn command_env(command: &mut Command, kernels: &Path) -> Result<()> {
    let folder = library_path(command)?;
    command.env("HIOSC_NVRTC", folder.join(NVRTC)).env("HIOSC_VGPU_KERNELS", kernels);
    Ok(())
}

/// Makes `command` and the programs that it starts run on virtual GPUs. Their models hand the
/// sources of kernels to the stand-in for NVRTC, and the virtual driver has `compiler` (the program
/// `hiosc`) compile them when they are first asked for. `HIOSC_NVRTC` is not changed: the command
/// may be a build that compiles models with the real one.
pub fn on_demand_env(command: &mut Command, compiler: &Path) -> Result<()> {
    let folder = library_path(command)?;
    command.env("HIOSC_VGPU_NVRTC", folder.join(NVRTC)).env("HIOSC_VGPU_COMPILER", compiler);
    Ok(())
}

/// Makes `command` find the virtual driver, and returns its folder.
fn library_path(command: &mut Command) -> Result<PathBuf> {
    let own = command.get_envs().find(|(name, _)| *name == "LD_LIBRARY_PATH").map(|(_, value)| value.map(OsString::from));
    let before = own.unwrap_or_else(|| env::var_os("LD_LIBRARY_PATH")).filter(|value| !value.is_empty());
    let folder = install()?;
    let mut path = folder.clone().into_os_string();
    if let Some(before) = before {
        path.push(":");
        path.push(before);
    }
    command.env("LD_LIBRARY_PATH", path);
    Ok(folder)
}

/// Makes this process run on virtual GPUs: loads the virtual driver and NVRTC under the names by
/// which programs load them, and adds the kernels in `kernels`. May be called again, with more
/// kernels.
///
/// `settings` override environment variables (`("HIOSC_VGPU_COUNT", "4")`). They take effect only
/// before the driver is initialised.
///
/// Call this before anything uses CUDA: in a process that has loaded a real driver, it returns an
/// [`Error::Device`].
pub fn load(kernels: &Path, settings: &[(&str, &str)]) -> Result<()> {
    static LOADED: Mutex<Option<libloading::Library>> = Mutex::new(None);
    let text = |value: &str| std::ffi::CString::new(value).map_err(|_| Error::Usage(format!("a zero byte in {value:?}")));
    let mut values = Vec::new();
    for (name, value) in settings.iter().copied().chain([("HIOSC_VGPU_KERNELS", &*kernels.to_string_lossy())]) {
        values.push((text(name)?, text(value)?));
    }

    let mut loaded = LOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if loaded.is_none() {
        let folder = install()?;
        let open = |name: &str| {
            // SAFETY: our own libraries; their initialisers only build tables.
            unsafe { libloading::Library::new(folder.join(name)) }.map_err(|e| Error::Device(format!("virtual GPUs: {e}")))
        };
        let driver = open("libcuda.so.1")?;
        // Never unloaded: other code may have addresses of their functions.
        std::mem::forget(open("libcuda.so")?);
        std::mem::forget(open(NVRTC)?);
        // SAFETY: as documented, nothing else may use CUDA yet, and the lock excludes other callers
        // of this function. A real NVRTC must not be loaded beside a virtual driver (see
        // `command_env`).
        unsafe { env::set_var("HIOSC_NVRTC", folder.join(NVRTC)) };
        // SAFETY: as above, now by the name that a client uses.
        let by_name = unsafe { libloading::Library::new("libcuda.so") }.map_err(|e| Error::Device(format!("virtual GPUs: {e}")))?;
        if address(&by_name)? != address(&driver)? {
            return Err(Error::Device("this process has already loaded another CUDA driver; virtual GPUs must be loaded first".into()));
        }
        std::mem::forget(by_name);
        *loaded = Some(driver);
    }
    if let Some(driver) = &*loaded {
        // SAFETY: this is the function's signature in vgpu/options.cpp.
        let set = unsafe { driver.get::<unsafe extern "C" fn(*const std::ffi::c_char, *const std::ffi::c_char)>(b"hiosc_vgpu_set") }
            .map_err(|e| Error::internal("vgpu", e.to_string()))?;
        // SAFETY: both strings end with a zero byte and outlive the call, which copies them.
        values.iter().for_each(|(name, value)| unsafe { set(name.as_ptr(), value.as_ptr()) });
    }
    Ok(())
}

/// The address of a loaded driver's `cuInit`.
fn address(driver: &libloading::Library) -> Result<usize> {
    // SAFETY: only the address is used.
    let function = unsafe { driver.get::<unsafe extern "C" fn(u32) -> i32>(b"cuInit") };
    function.map(|function| *function as usize).map_err(|e| Error::Device(format!("virtual GPUs: {e}")))
}
