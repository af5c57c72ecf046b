//! The program `hiosc`: the command line of the library of the same name.

fn main() -> std::process::ExitCode {
    return_large_memory();
    hiosc::cli::main()
}

/// Makes glibc give large blocks back to the system when they are freed. By default it keeps those
/// of up to 32 MiB, and rarely reuses them for the aligned memory of tensors.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn return_large_memory() {
    use std::ffi::c_int;
    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
    const M_MMAP_THRESHOLD: c_int = -3;
    // SAFETY: the function of glibc, called before there are other threads. If it fails, the
    // default stays.
    unsafe { mallopt(M_MMAP_THRESHOLD, 1 << 20) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn return_large_memory() {}
