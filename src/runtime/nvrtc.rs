//! Finds, loads and calls NVRTC, NVIDIA's run-time compiler. It needs no CUDA toolkit, GPU or
//! driver.
//!
//! This file uses std and libloading, and nothing else of hiosc: generated crates that ship their
//! kernels as sources contain it unchanged.
//!
//! The search order; the first library that loads is used:
//!
//! 1. the file `$HIOSC_NVRTC`; if it is set, nothing else is tried;
//! 2. version 12, then a plain `libnvrtc.so`, then version 13. Each is tried first by name (the
//!    dynamic linker's own search), then in `$CUDA_HOME`, `$CUDA_PATH`, `$CONDA_PREFIX`,
//!    `/usr/local/cuda*` and among the Python packages of `$VIRTUAL_ENV`, the user and the system.
//!
//! Version 12 comes before 13 because the widespread 12.x drivers reject PTX from version 13.
//!
//! When it first compiles, NVRTC opens a second library by name, `libnvrtc-builtins.so.X.Y`. That
//! is beside it in toolkits and Python packages, but not all builds have a run path that leads
//! there. So it is opened here, by its path: the dynamic linker then finds it by its name.
//!
//! Kernels are compiled as strict IEEE single precision, except that a multiplication and an
//! addition may fuse into one rounding (the compiler's default).

use std::env;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::Library;

type NvrtcProgram = *mut c_void;
type Status = c_int;
type SizeOf = unsafe extern "C" fn(NvrtcProgram, *mut usize) -> Status;
type TextOf = unsafe extern "C" fn(NvrtcProgram, *mut c_char) -> Status;

/// `NVRTC_ERROR_BUILTIN_OPERATION_FAILURE`
const NO_BUILTINS: Status = 7;

/// Names of the library, by preference.
const NAMES: [&str; 3] = ["libnvrtc.so.12", "libnvrtc.so", "libnvrtc.so.13"];

/// A loaded NVRTC. Threads may share it, and then compile in parallel.
pub struct Nvrtc {
    version: (i32, i32),
    location: String,
    create:
        unsafe extern "C" fn(*mut NvrtcProgram, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char) -> Status,
    compile: unsafe extern "C" fn(NvrtcProgram, c_int, *const *const c_char) -> Status,
    destroy: unsafe extern "C" fn(*mut NvrtcProgram) -> Status,
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
    arch_count: unsafe extern "C" fn(*mut c_int) -> Status,
    archs: unsafe extern "C" fn(*mut c_int) -> Status,
    log: (SizeOf, TextOf),
    ptx: (SizeOf, TextOf),
    cubin: (SizeOf, TextOf),
    _library: Library, // owns the functions above
    _builtins: Option<Library>,
}

impl std::fmt::Debug for Nvrtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NVRTC {}.{} ({})", self.version.0, self.version.1, self.location)
    }
}

impl Nvrtc {
    /// Finds and loads NVRTC. The error says what was tried and what to do.
    pub fn load() -> Result<Nvrtc, String> {
        if let Some(file) = env::var_os("HIOSC_NVRTC").filter(|file| !file.is_empty()) {
            return Nvrtc::open(Path::new(&file)).map_err(|e| format!("HIOSC_NVRTC is set, but that file cannot be used: {e}"));
        }
        let folders = folders();
        let mut tried = Vec::new();
        for name in NAMES {
            match Nvrtc::open(Path::new(name)) {
                Ok(nvrtc) => return Ok(nvrtc),
                Err(_) => tried.push(name.to_string()),
            }
            for file in folders.iter().map(|folder| folder.join(name)).filter(|file| file.exists()) {
                match Nvrtc::open(&file) {
                    Ok(nvrtc) => return Ok(nvrtc),
                    Err(e) => tried.push(e),
                }
            }
        }
        let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let folders = if folders.is_empty() { "no CUDA folder".into() } else { folders.join(", ") };
        Err(format!(
            "NVRTC not found: tried {} by name and in {folders}. Install a CUDA toolkit, or `pip install nvidia-cuda-nvrtc-cu12`, \
             or set HIOSC_NVRTC to the file libnvrtc.so.12",
            tried.join(", ")
        ))
    }

    /// Loads the library `file`: a path, or a name for the dynamic linker.
    pub fn open(file: &Path) -> Result<Nvrtc, String> {
        let location = file.display().to_string();
        // SAFETY: NVRTC's initialisers have no preconditions. Another library under this name is
        // the user's responsibility.
        let library = unsafe { Library::new(file) }.map_err(|e| match reason(&e) {
            said if said.starts_with(&location) => said, // the linker's text mostly starts with the file name
            said => format!("{location}: {said}"),
        })?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the field's type is the function's signature in nvrtc.h, unchanged since
                // CUDA 11.
                *unsafe { library.get(concat!($name, "\0").as_bytes()) }
                    .map_err(|e| format!("{location} is not NVRTC, it has no {}: {}", $name, reason(&e)))?
            };
        }
        let read_version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status = function!("nvrtcVersion");
        let mut version = (0, 0);
        // SAFETY: both pointers are valid.
        let status = unsafe { read_version(&mut version.0, &mut version.1) };
        if status != 0 {
            return Err(format!("{location}: nvrtcVersion failed with {status}"));
        }
        Ok(Nvrtc {
            version,
            create: function!("nvrtcCreateProgram"),
            compile: function!("nvrtcCompileProgram"),
            destroy: function!("nvrtcDestroyProgram"),
            error_string: function!("nvrtcGetErrorString"),
            arch_count: function!("nvrtcGetNumSupportedArchs"),
            archs: function!("nvrtcGetSupportedArchs"),
            log: (function!("nvrtcGetProgramLogSize"), function!("nvrtcGetProgramLog")),
            ptx: (function!("nvrtcGetPTXSize"), function!("nvrtcGetPTX")),
            cubin: (function!("nvrtcGetCUBINSize"), function!("nvrtcGetCUBIN")),
            location,
            _library: library,
            _builtins: builtins(file, version),
        })
    }

    /// Its version: (12, 9).
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// The file or name it was loaded by.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Compute capabilities it compiles for, ascending: 50, 52, ...
    pub fn supported_archs(&self) -> Result<Vec<i32>, String> {
        let mut count = 0;
        // SAFETY: the pointer is valid.
        self.check(unsafe { (self.arch_count)(&mut count) }, "nvrtcGetNumSupportedArchs")?;
        let mut archs = vec![0; count.max(0) as usize];
        // SAFETY: the array has as many elements as NVRTC said it will write.
        self.check(unsafe { (self.archs)(archs.as_mut_ptr()) }, "nvrtcGetSupportedArchs")?;
        archs.sort_unstable();
        Ok(archs)
    }

    /// Compiles `source`, called `name` in messages. `headers` are pairs of name and text that it
    /// may include. `arch` determines the result: `sm_86` gives a cubin for that GPU; `compute_75`
    /// gives PTX, which newer GPUs also accept (text, without a terminating zero byte). The error
    /// contains the compiler's log.
    pub fn compile(&self, name: &str, source: &str, headers: &[(&str, &str)], arch: &str) -> Result<Vec<u8>, String> {
        let text = |what: &str| CString::new(what).map_err(|_| format!("{name}: a zero byte in a source, name or option"));
        let list = |texts: &[CString]| texts.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
        let (c_source, c_name) = (text(source)?, text(name)?);
        let header_texts = headers.iter().map(|(_, t)| text(t)).collect::<Result<Vec<_>, _>>()?;
        let header_names = headers.iter().map(|(n, _)| text(n)).collect::<Result<Vec<_>, _>>()?;
        let options = [text(&format!("--gpu-architecture={arch}"))?, text("--std=c++17")?];
        let (header_texts_list, header_names_list, options_list) = (list(&header_texts), list(&header_names), list(&options));

        let mut program = OwnedProgram { nvrtc: self, program: ptr::null_mut() };
        // SAFETY: all strings end with a zero byte and outlive the program; the lists have the
        // lengths given.
        let status = unsafe {
            (self.create)(
                &mut program.program,
                c_source.as_ptr(),
                c_name.as_ptr(),
                headers.len() as c_int,
                header_texts_list.as_ptr(),
                header_names_list.as_ptr(),
            )
        };
        self.check(status, "nvrtcCreateProgram")?;
        // SAFETY: the program was just created; the options are valid during the call.
        let status = unsafe { (self.compile)(program.program, options.len() as c_int, options_list.as_ptr()) };
        if status != 0 {
            let log = self.read(&program, self.log, "the log").unwrap_or_default();
            let log = String::from_utf8_lossy(&log).trim_end_matches(['\0', '\n']).to_string();
            let hint = match status {
                NO_BUILTINS => format!("\nIt must be in the folder of NVRTC ({}), or where the dynamic linker searches.", self.location),
                _ => String::new(),
            };
            return Err(format!("{name} for {arch}: {}\n{log}{hint}", self.message(status)));
        }
        if arch.starts_with("sm_") {
            return self.read(&program, self.cubin, "the cubin");
        }
        let mut ptx = self.read(&program, self.ptx, "the PTX")?;
        while ptx.last() == Some(&0) {
            ptx.pop();
        }
        Ok(ptx)
    }

    fn read(&self, program: &OwnedProgram, (size_of, text_of): (SizeOf, TextOf), what: &str) -> Result<Vec<u8>, String> {
        let mut size = 0;
        // SAFETY: the program is alive and the pointer valid.
        self.check(unsafe { size_of(program.program, &mut size) }, what)?;
        let mut bytes = vec![0u8; size];
        // SAFETY: the buffer has the size that NVRTC reported.
        self.check(unsafe { text_of(program.program, bytes.as_mut_ptr().cast()) }, what)?;
        Ok(bytes)
    }

    fn check(&self, status: Status, what: &str) -> Result<(), String> {
        if status == 0 { Ok(()) } else { Err(format!("{what}: {}", self.message(status))) }
    }

    fn message(&self, status: Status) -> String {
        // SAFETY: NVRTC returns a static string for every status.
        let text = unsafe { (self.error_string)(status) };
        if text.is_null() {
            return format!("NVRTC error {status}");
        }
        // SAFETY: not null, and NVRTC's strings end with a zero byte.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

/// A program that is destroyed when dropped.
struct OwnedProgram<'a> {
    nvrtc: &'a Nvrtc,
    program: NvrtcProgram,
}

impl Drop for OwnedProgram<'_> {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: created by this library, destroyed once.
            unsafe { (self.nvrtc.destroy)(&mut self.program) };
        }
    }
}

/// The builtins of this version of NVRTC beside its `file`, which may be a link. `None` if there
/// are none, or if `file` is only a name: then the dynamic linker may find them.
fn builtins(file: &Path, (major, minor): (i32, i32)) -> Option<Library> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    let name = format!("libnvrtc-builtins.so.{major}.{minor}");
    let folders = [Some(folder.to_path_buf()), fs::canonicalize(file).ok().and_then(|file| file.parent().map(PathBuf::from))];
    let mut found = folders.into_iter().flatten().map(|folder| folder.join(&name)).filter(|file| file.exists());
    // SAFETY: this library only holds data for NVRTC.
    found.find_map(|file| unsafe { Library::new(file) }.ok())
}

/// The existing folders in which CUDA toolkits and Python packages keep NVRTC.
fn folders() -> Vec<PathBuf> {
    let var = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut folders = Vec::new();
    let toolkits = ["CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX"].into_iter().filter_map(var);
    for toolkit in toolkits.chain(matching(Path::new("/usr/local"), "cuda")) {
        folders.extend([toolkit.join("lib64"), toolkit.join("lib")]);
    }
    let pythons = [var("VIRTUAL_ENV"), var("CONDA_PREFIX"), var("HOME").map(|home| home.join(".local"))];
    for prefix in pythons.into_iter().flatten().chain([PathBuf::from("/usr/local"), PathBuf::from("/usr")]) {
        for python in matching(&prefix.join("lib"), "python3") {
            for packages in ["site-packages", "dist-packages"] {
                let nvidia = python.join(packages).join("nvidia");
                folders.extend([nvidia.join("cuda_nvrtc/lib"), nvidia.join("cu12/lib"), nvidia.join("cu13/lib")]);
            }
        }
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

/// Folders in `parent` whose names start with `prefix`: the plain name first, then the latest.
fn matching(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(prefix)).collect();
    names.sort_by(|a, b| (b == prefix, b.len(), b).cmp(&(a == prefix, a.len(), a)));
    names.into_iter().map(|name| parent.join(name)).collect()
}

/// The dynamic linker's text, which libloading keeps as the source of its error.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| source.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_an_error_with_its_path() {
        let error = Nvrtc::open(Path::new("/nonexistent/libnvrtc.so.12")).expect_err("there is no such file");
        assert!(error.contains("/nonexistent/libnvrtc.so.12"), "{error}");
    }

    #[test]
    fn a_library_that_is_not_nvrtc_is_an_error() {
        let error = Nvrtc::open(Path::new("libc.so.6")).expect_err("libc has no nvrtcVersion");
        assert!(error.contains("nvrtcVersion"), "{error}");
    }
}
