//! The virtual GPUs, as an unmodified cudarc program sees them.
//!
//! Every scenario below runs in a separate process. Without a C++ compiler there are no virtual
//! GPUs: the tests say so.

use std::process::Output;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUevent_flags, CUresult};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DriverError, LaunchConfig, PushKernelArg, result,
};
use cudarc::nvrtc::Ptx;
use hiosc::vgpu;

use crate::support::scenario::{self, Scenario, printed};
use crate::support::skipped;

const KERNELS: [(&str, &str); 3] = [
    (
        "test_scale",
        r#"
        #include "hiosc.cuh"
        HIOSC_KERNEL(test_scale, 256, (const float *x, float *y, float factor, float plus, int n)) {
          int i = blockIdx.x * blockDim.x + threadIdx.x;
          if (i < n) y[i] = factor * x[i] + plus;
        }"#,
    ),
    (
        "test_block_sum",
        r#"
        #include "hiosc.cuh"
        HIOSC_KERNEL(test_block_sum, 256, (const float *x, float *sums)) {
          __shared__ float part[256];
          part[threadIdx.x] = x[blockIdx.x * 256 + threadIdx.x];
          __syncthreads();
          for (int half = 128; half; half /= 2) {
            if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
            __syncthreads();
          }
          if (threadIdx.x == 0) sums[blockIdx.x] = part[0];
        }"#,
    ),
    (
        "test_dynamic_shared",
        r#"
        #include "hiosc.cuh"
        HIOSC_KERNEL(test_dynamic_shared, 32, (float *y, int n)) {
          HIOSC_DYNAMIC_SHARED(float, buffer);
          for (int i = threadIdx.x; i < n; i += 32) buffer[i] = i;
          __syncthreads();
          for (int i = threadIdx.x; i < n; i += 32) y[i] = buffer[n - 1 - i];
        }"#,
    ),
];

/// The scenarios of the child processes.
const SCENARIOS: [Scenario<Result<(), DriverError>>; 14] = [
    ("devices", devices),
    ("pipeline", || pipeline(true)),
    ("pipeline-without-wait", || pipeline(false)),
    ("reuse-without-wait", reuse_without_wait),
    ("never-recorded", never_recorded),
    ("images", images),
    ("limits", limits),
    ("handles", handles),
    ("copies", copies),
    ("defaults", defaults),
    ("unequal", unequal),
    ("null-stream", null_stream),
    ("host-function", host_function),
    ("threads", threads),
];

#[test]
fn scenario() {
    scenario::play(&SCENARIOS);
}

fn child(scenario: &str, variables: &[(&str, &str)]) -> Option<Output> {
    scenario::child(module_path!(), scenario, &KERNELS, variables)
}

/// Runs a scenario that must succeed; (stdout, stderr).
fn run(scenario: &str, variables: &[(&str, &str)]) -> Option<(String, String)> {
    scenario::run(module_path!(), scenario, &KERNELS, variables)
}

fn context(gpu: usize) -> Result<Arc<CudaContext>, DriverError> {
    let context = CudaContext::new(gpu)?;
    // SAFETY: the scenarios order their streams themselves, or omit it on purpose.
    unsafe { context.disable_event_tracking() };
    Ok(context)
}

fn function(context: &Arc<CudaContext>, name: &str) -> Result<CudaFunction, DriverError> {
    context.load_module(Ptx::from_src("// a virtual image"))?.load_function(name)
}

fn failure<T>(result: Result<T, DriverError>) -> CUresult {
    result.err().expect("this call must fail").0
}

/// `y = factor * x + plus` on `stream`.
fn scale(
    stream: &CudaStream,
    f: &CudaFunction,
    x: &CudaSlice<f32>,
    y: &mut CudaSlice<f32>,
    factor: f32,
    plus: f32,
) -> Result<(), DriverError> {
    let n = x.len() as i32;
    let mut launch = stream.launch_builder(f);
    // SAFETY: the arguments are those of test_scale, and both buffers hold n floats.
    unsafe { launch.arg(x).arg(y).arg(&factor).arg(&plus).arg(&n).launch(LaunchConfig::for_num_elems(n as u32)) }.map(drop)
}

fn copy_to_peer(stream: &CudaStream, from: &CudaSlice<f32>, to: &mut CudaSlice<f32>) -> Result<(), DriverError> {
    let (from_context, to_context, bytes) = (from.context().cu_ctx(), to.context().cu_ctx(), from.num_bytes());
    let (source, _a) = from.device_ptr(stream);
    let (destination, _b) = to.device_ptr_mut(stream);
    // SAFETY: both buffers are alive until the stream has been synchronised.
    unsafe { result::memcpy_peer_async(to_context, destination, from_context, source, bytes, stream.cu_stream()) }
}

// --- the machine

fn devices() -> Result<(), DriverError> {
    assert_eq!(CudaContext::device_count()?, 4);
    let mut sums = Vec::new();
    let all: Vec<_> = (0..4).map(context).collect::<Result<_, _>>()?;
    for (gpu, context) in all.iter().enumerate() {
        assert_eq!(context.name()?, format!("hiosc virtual GPU {gpu}"));
        assert_eq!(context.compute_capability()?, (9, 0));
        assert_eq!(context.total_mem()?, 1 << 20);
        let (scale_f, sum_f) = (function(context, "test_scale")?, function(context, "test_block_sum")?);
        let stream = context.new_stream()?;
        let x = stream.clone_htod(&(0..1024).map(|i| i as f32).collect::<Vec<_>>())?;
        let (mut y, mut s) = (stream.alloc_zeros::<f32>(1024)?, stream.alloc_zeros::<f32>(4)?);
        let before = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        scale(&stream, &scale_f, &x, &mut y, 2.0, gpu as f32)?;
        let after = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        let config = LaunchConfig { grid_dim: (4, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the arguments are those of test_block_sum: 4 blocks of 256 floats, 4 sums.
        unsafe { stream.launch_builder(&sum_f).arg(&y).arg(&mut s).launch(config)? };
        sums.push(stream.clone_dtoh(&s)?);
        assert!(before.elapsed_ms(&after)? >= 0.0);
    }
    let expected = |gpu: usize, block: usize| (0..256).map(|i| 2.0 * (block * 256 + i) as f32 + gpu as f32).sum::<f32>();
    for (gpu, sums) in sums.iter().enumerate() {
        (0..4).for_each(|block| assert_eq!(sums[block], expected(gpu, block), "gpu {gpu} block {block}"));
    }
    Ok(())
}

#[test]
fn four_devices_compute() {
    run("devices", &[("HIOSC_VGPU_COUNT", "4"), ("HIOSC_VGPU_ARCH", "9.0"), ("HIOSC_VGPU_MEMORY", "1048576")]);
}

#[test]
fn blocks_may_use_any_number_of_threads() {
    for threads in ["1", "3", "16"] {
        let settings =
            [("HIOSC_VGPU_COUNT", "4"), ("HIOSC_VGPU_ARCH", "9.0"), ("HIOSC_VGPU_MEMORY", "1048576"), ("HIOSC_VGPU_THREADS", threads)];
        run("devices", &settings);
    }
}

fn defaults() -> Result<(), DriverError> {
    assert_eq!((CudaContext::device_count()?, CudaContext::new(0)?.compute_capability()?), (2, (8, 6)));
    assert_eq!(failure(CudaContext::new(2)), CUresult::CUDA_ERROR_INVALID_DEVICE);
    Ok(())
}

/// Three devices, with settings for the first two. A cubin loads on devices of its architecture.
fn unequal() -> Result<(), DriverError> {
    let shared = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    let mut found = Vec::new();
    for gpu in 0..3 {
        let context = CudaContext::new(gpu)?;
        let fits = context.load_module(Ptx::from_binary(cubin(7, 0x0050_0550))).is_ok();
        found.push((context.compute_capability()?, context.attribute(shared)?, fits));
    }
    assert_eq!(found, [((8, 6), 101376, true), ((9, 0), 232448, false), ((9, 0), 232448, false)]);
    Ok(())
}

#[test]
fn devices_may_differ() {
    run("unequal", &[("HIOSC_VGPU_COUNT", "3"), ("HIOSC_VGPU_ARCH", "8.6,9.0")]);
}

#[test]
fn bad_settings_are_named() {
    run("defaults", &[]);
    for (name, value) in [
        ("HIOSC_VGPU_COUNT", "many"),
        ("HIOSC_VGPU_COUNT", "-1"),
        ("HIOSC_VGPU_MEMORY", "8G"),
        ("HIOSC_VGPU_ARCH", "86"),
        ("HIOSC_VGPU_ARCH", "8.6,"),
        ("HIOSC_VGPU_ARCH", "8,6.0"),
        ("HIOSC_VGPU_PEER", "0-1,1-2"),
        ("HIOSC_VGPU_PEER", "0-1,"),
        ("HIOSC_VGPU_SEED", "18446744073709551616"),
        ("HIOSC_VGPU_THREADS", "0"),
        ("HIOSC_VGPU_STRICT", "yes"),
        ("HIOSC_VGPU_REFUSE", "everything"),
        ("HIOSC_VGPU_REFUSE", "capture,"),
    ] {
        let Some(output) = child("defaults", &[(name, value)]) else { return };
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name}={value}");
        assert!(err.contains(&format!("hiosc-vgpu: error: {name}='{value}' is not ")) && err.contains("CUDA_ERROR_INVALID_VALUE"), "{err}");
    }
}

// --- asynchrony

/// Three steps: a kernel on GPU 0, a copy to GPU 1 on a separate stream, a kernel there; and some
/// unrelated work. Prints the bits of the result.
fn pipeline(with_wait: bool) -> Result<(), DriverError> {
    let (c0, c1) = (context(0)?, context(1)?);
    let (f0, f1) = (function(&c0, "test_scale")?, function(&c1, "test_scale")?);
    let (compute0, copy01, compute1, beside) = (c0.new_stream()?, c0.new_stream()?, c1.new_stream()?, c1.new_stream()?);
    let n = 1000;
    let x = compute0.clone_htod(&(0..n).map(|i| i as f32).collect::<Vec<_>>())?;
    let (mut y, mut z, mut out) = (compute0.alloc_zeros::<f32>(n)?, compute1.alloc_zeros::<f32>(n)?, compute1.alloc_zeros::<f32>(n)?);
    let (noise, mut noise_out) = (beside.alloc_zeros::<f32>(n)?, beside.alloc_zeros::<f32>(n)?);
    [&c0, &c1].iter().try_for_each(|c| c.synchronize())?;

    for _ in 0..6 {
        scale(&beside, &f1, &noise, &mut noise_out, 1.0, 1.0)?;
    }
    scale(&compute0, &f0, &x, &mut y, 1.5, 0.25)?;
    let computed = compute0.record_event(None)?;
    copy01.wait(&computed)?;
    copy_to_peer(&copy01, &y, &mut z)?;
    let copied = copy01.record_event(None)?;
    if with_wait {
        compute1.wait(&copied)?;
    }
    scale(&compute1, &f1, &z, &mut out, -3.0, 7.0)?;
    let out = compute1.clone_dtoh(&out)?;
    let wrong = (0..n).filter(|i| out[*i] != -3.0 * (1.5 * *i as f32 + 0.25) + 7.0).count();
    println!("wrong={wrong}");
    assert!(!with_wait || wrong == 0);
    println!("bits={:x}", out.iter().fold(0u64, |sum, v| sum.wrapping_mul(0x100000001b3) ^ u64::from(v.to_bits())));
    [&c0, &c1].iter().try_for_each(|c| c.synchronize())
}

fn over_seeds(scenario: &str, name: &str) -> Option<Vec<String>> {
    (0..20).map(|seed: u32| Some(printed(&run(scenario, &[("HIOSC_VGPU_SEED", &seed.to_string())])?.0, name).to_string())).collect()
}

#[test]
fn the_seed_does_not_matter_to_a_sound_program() {
    let Some(bits) = over_seeds("pipeline", "bits") else { return };
    assert!(bits.iter().all(|b| *b == bits[0]), "{bits:?}");
}

#[test]
fn a_missing_wait_shows() {
    let Some(wrong) = over_seeds("pipeline-without-wait", "wrong") else { return };
    let seen = wrong.iter().filter(|w| *w != "0").count();
    println!("a missing wait shows under {seen} of 20 seeds");
    assert!((5..20).contains(&seen), "the order of execution depends on the seed, and the wrong ones are not rare: {wrong:?}");
}

/// A buffer is overwritten by another stream that should have waited for its reader.
fn reuse_without_wait() -> Result<(), DriverError> {
    let c = context(0)?;
    let f = function(&c, "test_scale")?;
    let (reader, writer) = (c.new_stream()?, c.new_stream()?);
    let ones = reader.clone_htod(&[1.0f32; 64])?;
    let (mut shared, mut out) = (reader.clone_htod(&[5.0f32; 64])?, reader.alloc_zeros::<f32>(64)?);
    c.synchronize()?;
    for _ in 0..4 {
        scale(&reader, &f, &ones, &mut out, 1.0, 0.0)?;
    }
    scale(&reader, &f, &shared, &mut out, 1.0, 0.0)?;
    for _ in 0..4 {
        writer.memset_zeros(&mut shared)?;
    }
    println!("wrong={}", usize::from(reader.clone_dtoh(&out)? != [5.0f32; 64]));
    c.synchronize()
}

#[test]
fn reuse_of_memory_without_a_wait_shows() {
    let Some(wrong) = over_seeds("reuse-without-wait", "wrong") else { return };
    let seen = wrong.iter().filter(|w| *w != "0").count();
    assert!((5..20).contains(&seen), "{wrong:?}");
}

#[test]
fn the_same_seed_gives_the_same_order() {
    let trace = |seed: &str| {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = file.path().to_str().expect("a plain path").to_string();
        run("pipeline", &[("HIOSC_VGPU_SEED", seed), ("HIOSC_VGPU_TRACE", &path)])?;
        Some(std::fs::read_to_string(&path).expect("the trace"))
    };
    let Some(first) = trace("7") else { return };
    assert_eq!(Some(&first), trace("7").as_ref());
    assert_ne!(Some(&first), trace("8").as_ref());
    assert!(first.lines().any(|line| line.contains("kernel test_scale grid 1x1x1 block 1024x1x1")), "{first}");
    assert!(first.lines().any(|line| line.contains("copy gpu0 -> gpu1, 4000 bytes")), "{first}");
}

/// Blocking streams are ordered with the NULL stream of their context, in both directions, without
/// any event.
fn null_stream() -> Result<(), DriverError> {
    let c = context(0)?;
    let f = function(&c, "test_scale")?;
    let null = c.default_stream();
    // SAFETY: the handle is new and never destroyed.
    let blocking = unsafe {
        let mut handle = std::ptr::null_mut();
        sys::cuStreamCreate(&mut handle, 0).result()?;
        handle
    };
    let (mut x, mut y, mut z) = (null.alloc_zeros::<f32>(64)?, null.alloc_zeros::<f32>(64)?, null.alloc_zeros::<f32>(64)?);
    let (py, pz) = (y.device_ptr(&null).0, z.device_ptr(&null).0);
    for round in 0..10 {
        let value = f32::from_bits(0x0101_0101 * (round + 1));
        null.memset_zeros(&mut y)?;
        // SAFETY: each buffer has 256 bytes.
        unsafe { result::memset_d8_async(x.device_ptr_mut(&null).0, round as u8 + 1, 256, blocking)? };
        scale(&null, &f, &x, &mut y, 1.0, 0.0)?;
        // SAFETY: as above.
        unsafe { result::memcpy_dtod_async(pz, py, 256, blocking)? };
        assert_eq!(null.clone_dtoh(&z)?, [value; 64], "round {round}");
    }
    null.memset_zeros(&mut z)
}

#[test]
fn the_null_stream_orders_blocking_streams() {
    for seed in ["0", "1", "2", "3"] {
        run("null-stream", &[("HIOSC_VGPU_SEED", seed)]);
    }
}

static ANSWER: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

unsafe extern "C" fn ask_the_driver(_: *mut std::ffi::c_void) {
    let mut count = 0;
    // SAFETY: a plain call, for its result.
    let answer = unsafe { sys::cuDeviceGetCount(&mut count) };
    ANSWER.store(answer as i32, std::sync::atomic::Ordering::SeqCst);
}

fn host_function() -> Result<(), DriverError> {
    let s = context(0)?.new_stream()?;
    // SAFETY: the function takes no data.
    unsafe { result::stream::launch_host_function(s.cu_stream(), ask_the_driver, std::ptr::null_mut())? };
    assert_eq!(ANSWER.load(std::sync::atomic::Ordering::SeqCst), -1, "enqueued, not called");
    s.synchronize()?;
    assert_eq!(ANSWER.load(std::sync::atomic::Ordering::SeqCst), CUresult::CUDA_ERROR_NOT_PERMITTED as i32);
    Ok(())
}

#[test]
fn a_host_function_runs_in_order_and_may_not_call_the_driver() {
    run("host-function", &[]);
}

/// Several host threads, each with its own streams. A thread that synchronises also runs the work
/// of the others.
fn threads() -> Result<(), DriverError> {
    let work = |gpu: usize| -> Result<(), DriverError> {
        let c = context(gpu % 2)?;
        let (f, a, b) = (function(&c, "test_scale")?, c.new_stream()?, c.new_stream()?);
        for round in 0..50 {
            let x = a.clone_htod(&vec![round as f32; 5000])?;
            let (mut y, mut z) = (a.alloc_zeros::<f32>(5000)?, a.alloc_zeros::<f32>(5000)?);
            scale(&a, &f, &x, &mut y, 2.0, 1.0)?;
            b.wait(&a.record_event(None)?)?;
            scale(&b, &f, &y, &mut z, 1.0, gpu as f32)?;
            assert_eq!(b.clone_dtoh(&z)?, vec![2.0 * round as f32 + 1.0 + gpu as f32; 5000]);
            a.wait(&b.record_event(None)?)?; // the buffers are freed on a
        }
        c.synchronize()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|gpu| scope.spawn(move || work(gpu))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

#[test]
fn host_threads_share_the_machine() {
    run("threads", &[("HIOSC_VGPU_THREADS", "3")]);
}

fn never_recorded() -> Result<(), DriverError> {
    let c = context(0)?;
    let event = c.new_event(None)?;
    let waited = c.new_stream()?.wait(&event);
    println!("waited={waited:?}");
    assert!(event.is_complete());
    Ok(())
}

#[test]
fn waiting_for_an_event_never_recorded_is_reported() {
    let Some((out, err)) = run("never-recorded", &[]) else { return };
    assert!(err.contains("hiosc-vgpu: warning: stream 1 waits for event 0, which was never recorded"), "{err}");
    assert_eq!(printed(&out, "waited"), "Ok(())");
    let Some((out, _)) = run("never-recorded", &[("HIOSC_VGPU_STRICT", "1")]) else { return };
    assert!(printed(&out, "waited").contains("CUDA_ERROR_INVALID_VALUE"), "{out}");
}

// --- refusals

/// The header of a cubin: `abi` 7 has the architecture in the low byte of the flags, 8 (NVRTC 12.9
/// from sm_100 on) in the next.
fn cubin(abi: u8, flags: u32) -> Vec<u8> {
    let mut elf = vec![0u8; 64];
    elf[..9].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0x33, abi]);
    elf[18..20].copy_from_slice(&190u16.to_le_bytes());
    elf[48..52].copy_from_slice(&flags.to_le_bytes());
    elf
}

fn images() -> Result<(), DriverError> {
    let c = context(0)?; // 8.6
    let load = |image: Vec<u8>| c.load_module(Ptx::from_binary(image));
    load(cubin(7, 0x0056_0556))?;
    load(cubin(7, 0x0050_0550))?; // 8.0 runs on 8.6
    load(cubin(8, 0x0600_5602))?;
    let refused = [cubin(7, 0x0059_0559), cubin(7, 0x0046_0546), cubin(7, 0x005a_0d5a), cubin(8, 0x0600_6402), cubin(8, 0x0600_7802)];
    for image in refused {
        assert_eq!(failure(load(image)), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    }
    let mut other_machine = cubin(7, 0x0056_0556);
    other_machine[18] = 62;
    assert_eq!(failure(load(other_machine)), CUresult::CUDA_ERROR_INVALID_IMAGE);
    assert_eq!(failure(load(b"nonsense\0".to_vec())), CUresult::CUDA_ERROR_INVALID_IMAGE);
    let module = c.load_module(Ptx::from_src("\n.version 8.0\n.target sm_52\n"))?;
    module.load_function("test_scale")?;
    assert_eq!(failure(module.load_function("test_unknown")), CUresult::CUDA_ERROR_NOT_FOUND);
    Ok(())
}

#[test]
fn images_and_names_are_checked() {
    let Some((_, err)) = run("images", &[]) else { return };
    assert!(err.contains("a cubin for sm_89 does not run on a device of compute capability 8.6"), "{err}");
    let folder = vgpu::compile_kernels(&KERNELS, None).expect("cached");
    assert!(err.contains(&format!("hiosc-vgpu: error: no kernel 'test_unknown' in {}", folder.display())), "{err}");
}

fn limits() -> Result<(), DriverError> {
    let c = context(0)?;
    let s = c.new_stream()?;
    assert_eq!(c.mem_get_info()?, (1 << 20, 1 << 20));
    let half = s.alloc_zeros::<u8>(600_000)?;
    assert_eq!(failure(s.alloc_zeros::<u8>(600_000)), CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    drop(half); // an asynchronous free, which the next allocation must wait for
    s.alloc_zeros::<u8>(600_000)?;
    assert_eq!(failure(s.alloc_zeros::<u8>((1 << 20) + 1)), CUresult::CUDA_ERROR_OUT_OF_MEMORY);

    let f = function(&c, "test_dynamic_shared")?;
    let launch = |grid: u32, block: u32, bytes: u32| -> Result<Vec<f32>, DriverError> {
        let n = bytes / 4;
        let mut y = s.alloc_zeros::<f32>(n.max(1) as usize)?;
        let config = LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (block, 1, 1), shared_mem_bytes: bytes };
        // SAFETY: y holds as many floats as the dynamic shared memory.
        unsafe { s.launch_builder(&f).arg(&mut y).arg(&(n as i32)).launch(config)? };
        s.clone_dtoh(&y)
    };
    assert_eq!(launch(1, 32, 4000)?[..3], [999.0, 998.0, 997.0]);
    assert_eq!(failure(launch(1, 32, 50_000)), CUresult::CUDA_ERROR_INVALID_VALUE);
    f.set_attribute(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 60_000)?;
    assert_eq!(launch(1, 32, 50_000)?[0], 12_499.0);
    let too_much = f.set_attribute(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 200_000);
    assert_eq!(failure(too_much), CUresult::CUDA_ERROR_INVALID_VALUE);
    for (grid, block) in [(0, 32), (1, 0), (1, 1025), (u32::MAX, 32)] {
        assert_eq!(failure(launch(grid, block, 0)), CUresult::CUDA_ERROR_INVALID_VALUE, "{grid} {block}");
    }
    assert_eq!(f.occupancy_max_active_blocks_per_multiprocessor(256, 0, None)?, 6);
    Ok(())
}

#[test]
fn memory_and_launches_have_limits() {
    run("limits", &[("HIOSC_VGPU_MEMORY", "1048576")]);
}

fn handles() -> Result<(), DriverError> {
    let (c0, c1) = (context(0)?, context(1)?);
    let (s0, s1) = (c0.new_stream()?, c1.new_stream()?);
    let event = c0.new_event(None)?;
    event.record(&s0)?;
    s1.wait(&event)?;
    // SAFETY: the handles are invalid on purpose; nothing is dereferenced.
    unsafe {
        let foreign = result::event::record(event.cu_event(), s1.cu_stream());
        assert_eq!(failure(foreign), CUresult::CUDA_ERROR_INVALID_HANDLE, "an event of another context");
        let stale = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        result::stream::destroy(stale)?;
        assert_eq!(failure(result::stream::synchronize(stale)), CUresult::CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(failure(result::event::record(stale.cast(), s0.cu_stream())), CUresult::CUDA_ERROR_INVALID_HANDLE);
        let f1 = function(&c1, "test_scale")?;
        let (x, mut y) = (s0.alloc_zeros::<f32>(4)?, s0.alloc_zeros::<f32>(4)?);
        assert_eq!(failure(scale(&s0, &f1, &x, &mut y, 1.0, 0.0)), CUresult::CUDA_ERROR_INVALID_HANDLE, "a function of another context");
    }
    Ok(())
}

#[test]
fn handles_are_checked() {
    run("handles", &[]);
}

fn copies() -> Result<(), DriverError> {
    let (c0, c1) = (context(0)?, context(1)?);
    let (s0, s1) = (c0.new_stream()?, c1.new_stream()?);
    let (a, mut b) = (s0.clone_htod(&[1.0f32, 2.0, 3.0, 4.0])?, s1.alloc_zeros::<f32>(4)?);
    [&c0, &c1].iter().try_for_each(|c| c.synchronize())?;
    let (pa, pb) = (a.device_ptr(&s0).0, b.device_ptr_mut(&s1).0);
    // SAFETY: ranges that are invalid on purpose must be refused; the others are the buffers above.
    unsafe {
        c0.bind_to_thread()?;
        let copy = |bytes: usize| result::memcpy_dtod_async(pb, pa, bytes, s0.cu_stream());
        assert_eq!(failure(copy(17)), CUresult::CUDA_ERROR_INVALID_VALUE, "past the end");
        assert_eq!(failure(result::memset_d8_async(pa + 8, 0, 9, s0.cu_stream())), CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(failure(copy(16)), CUresult::CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
        assert_eq!(
            failure(result::memcpy_peer_async(c0.cu_ctx(), pb, c1.cu_ctx(), pa, 16, s0.cu_stream())),
            CUresult::CUDA_ERROR_INVALID_VALUE
        );
        let mut can = -1;
        sys::cuDeviceCanAccessPeer(&mut can, 0, 1).result()?;
        assert_eq!(can, 1);
        sys::cuCtxEnablePeerAccess(c1.cu_ctx(), 0).result()?;
        assert_eq!(failure(sys::cuCtxEnablePeerAccess(c1.cu_ctx(), 0).result()), CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
        sys::cuMemcpyAsync(pb, pa, 16, s0.cu_stream()).result()?;
        s0.synchronize()?;
        assert_eq!(s1.clone_dtoh(&b)?, [1.0, 2.0, 3.0, 4.0]);

        c1.bind_to_thread()?; // PEER=0-1: the other way round there is none
        assert_eq!(failure(sys::cuCtxEnablePeerAccess(c0.cu_ctx(), 0).result()), CUresult::CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
        assert_eq!(failure(result::memcpy_dtod_async(pb, pa, 16, s1.cu_stream())), CUresult::CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
        copy_to_peer(&s1, &a, &mut b)?;
        s1.synchronize()?;

        // Pinned memory is read when the copy runs, pageable memory at the call.
        c0.bind_to_thread()?;
        let pinned = result::malloc_host(16, 0)?.cast::<f32>();
        pinned.write(1.0);
        let mut pageable = [1.0f32];
        let mut target = s0.alloc_zeros::<f32>(2)?;
        let address = target.device_ptr_mut(&s0).0;
        s0.synchronize()?;
        sys::cuMemcpyHtoDAsync_v2(address, pinned.cast(), 4, s0.cu_stream()).result()?;
        sys::cuMemcpyHtoDAsync_v2(address + 4, pageable.as_ptr().cast(), 4, s0.cu_stream()).result()?;
        pinned.write(2.0);
        pageable[0] = 2.0;
        std::hint::black_box(&mut pageable);
        assert_eq!(s0.clone_dtoh(&target)?, [2.0, 1.0]);
        result::free_host(pinned.cast())?;

        // Fresh memory reads as NaN.
        let fresh = s0.alloc::<f32>(3)?;
        assert!(s0.clone_dtoh(&fresh)?.iter().all(|v| v.is_nan()));
    }
    Ok(())
}

#[test]
fn copies_are_checked() {
    let Some((_, err)) = run("copies", &[("HIOSC_VGPU_PEER", "0-1")]) else { return };
    assert!(err.contains("hiosc-vgpu: warning: a copy on GPU 0 accesses memory of GPU 1 without peer access"), "{err}");
}

/// In this process, without LD_LIBRARY_PATH: a client that loads the driver and NVRTC by name gets
/// hiosc's.
#[test]
fn this_process_can_use_virtual_gpus_too() {
    if !vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    let kernels = vgpu::compile_kernels(&KERNELS[..1], None).expect("the kernels compile");
    vgpu::load(&kernels, &[("HIOSC_VGPU_COUNT", "3")]).expect("the virtual driver loads");
    assert_eq!(CudaContext::device_count().expect("our driver"), 3);
    let c = context(2).expect("a context");
    let image = cudarc::nvrtc::compile_ptx(KERNELS[0].1).expect("our NVRTC");
    c.load_module(image).and_then(|m| m.load_function("test_scale")).expect("a kernel");
    let nothing = cudarc::nvrtc::compile_ptx("int main() {}").expect_err("no kernel of ours");
    assert!(format!("{nothing:?}").contains("no HIOSC_KERNEL in the source"), "{nothing:?}");
    // More kernels may be added later.
    let more = vgpu::compile_kernels(&KERNELS[1..], None).expect("the kernels compile");
    vgpu::load(&more, &[]).expect("loads again");
    function(&c, "test_block_sum").expect("a kernel added later");
}

#[test]
fn a_kernel_that_does_not_compile_is_named() {
    if !vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    let error = vgpu::compile_kernels(
        &[("test_broken", "#include \"hiosc.cuh\"\nHIOSC_KERNEL(test_broken, 1, (int n)) {\n  n = undefined;\n}")],
        None,
    );
    let text = error.expect_err("it must not compile").to_string();
    assert!(text.starts_with("C++ compiler: ") && text.contains("test_broken.cu:3:"), "{text}");
}
