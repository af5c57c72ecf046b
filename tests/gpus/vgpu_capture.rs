//! Stream capture and graphs on virtual GPUs, as an unmodified cudarc program sees them: what a
//! real driver does, and what it refuses.
//!
//! Every scenario runs in a separate process. Without a C++ compiler there are no virtual GPUs: the
//! tests say so.

use std::sync::Arc;

use cudarc::driver::sys::{self, CUresult, CUstreamCaptureMode as Mode};
use cudarc::driver::{CudaContext, CudaEvent, CudaFunction, CudaStream, DriverError, LaunchConfig, PushKernelArg, result};
use cudarc::nvrtc::Ptx;
use hiosc::vgpu;

use crate::support::scenario::{self, Scenario, printed};

const KERNELS: [(&str, &str); 1] = [(
    "capture_scale",
    r#"
    #include "hiosc.cuh"
    HIOSC_KERNEL(capture_scale, 256, (const float *x, float *y, float factor, float plus, int n)) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      if (i < n) y[i] = factor * x[i] + plus;
    }"#,
)];

const SCENARIOS: [Scenario<Result<(), DriverError>>; 9] = [
    ("replay", || replay(true)),
    ("replay-without-wait", || replay(false)),
    ("unjoined", unjoined),
    ("streams", streams),
    ("events", events),
    ("memory", memory),
    ("threads", threads),
    ("refused", refused),
    ("contexts", contexts),
];

#[test]
fn scenario() {
    scenario::play(&SCENARIOS);
}

/// Runs a scenario that must succeed. Returns its output, or nothing without a compiler.
fn run(scenario: &str, variables: &[(&str, &str)]) -> Option<String> {
    scenario::run(module_path!(), scenario, &KERNELS, variables).map(|(out, err)| out + &err)
}

fn context(gpu: usize) -> Result<Arc<CudaContext>, DriverError> {
    prepared(CudaContext::new(gpu)?)
}

fn prepared(context: Arc<CudaContext>) -> Result<Arc<CudaContext>, DriverError> {
    // SAFETY: the scenarios order their streams themselves, or omit it on purpose.
    unsafe { context.disable_event_tracking() };
    Ok(context)
}

fn failure<T>(result: Result<T, DriverError>) -> CUresult {
    result.err().expect("this call must fail").0
}

fn function(context: &Arc<CudaContext>) -> Result<CudaFunction, DriverError> {
    context.load_module(Ptx::from_src("// a virtual image"))?.load_function("capture_scale")
}

const N: usize = 500;

/// Device memory of `N` floats.
fn floats(context: &Arc<CudaContext>) -> Result<u64, DriverError> {
    context.bind_to_thread()?;
    // SAFETY: freed when the process ends.
    unsafe { result::malloc_sync(4 * N) }
}

/// Pinned memory of `N` floats.
fn pinned(context: &Arc<CudaContext>) -> Result<*mut f32, DriverError> {
    context.bind_to_thread()?;
    // SAFETY: freed when the process ends.
    Ok(unsafe { result::malloc_host(4 * N, sys::CU_MEMHOSTALLOC_PORTABLE) }?.cast())
}

/// `y = factor * x + plus`
fn scale(stream: &CudaStream, f: &CudaFunction, x: u64, y: u64, factor: f32, plus: f32) -> Result<(), DriverError> {
    let n = N as i32;
    let mut launch = stream.launch_builder(f);
    // SAFETY: the arguments are those of capture_scale, and both buffers hold N floats.
    unsafe { launch.arg(&x).arg(&y).arg(&factor).arg(&plus).arg(&n).launch(LaunchConfig::for_num_elems(n as u32)) }.map(drop)
}

fn upload(stream: &CudaStream, to: u64, from: *const f32) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    // SAFETY: both hold N floats.
    unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.cast(), 4 * N, stream.cu_stream()) }.result()
}

fn download(stream: &CudaStream, to: *mut f32, from: u64) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    // SAFETY: both hold N floats.
    unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, 4 * N, stream.cu_stream()) }.result()
}

fn begin(stream: &CudaStream) -> Result<(), DriverError> {
    stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
}

fn end(stream: &Arc<CudaStream>) -> Result<cudarc::driver::CudaGraph, DriverError> {
    let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0))?;
    Ok(graph.expect("a graph"))
}

fn event(stream: &CudaStream) -> Result<CudaEvent, DriverError> {
    let event = stream.context().new_event(None)?;
    event.record(stream)?;
    Ok(event)
}

/// Two branches, one on a second GPU behind two copies, are joined and read back; replayed with
/// other inputs. `with_wait`: the copy waits for the kernel before it.
fn replay(with_wait: bool) -> Result<(), DriverError> {
    let (c0, c1) = (context(0)?, context(1)?);
    let (f0, f1) = (function(&c0)?, function(&c1)?);
    let (origin, copy, there, back) = (c0.new_stream()?, c0.new_stream()?, c1.new_stream()?, c1.new_stream()?);
    let (input, output) = (pinned(&c0)?, pinned(&c0)?);
    let (x, y, z) = (floats(&c0)?, floats(&c0)?, floats(&c0)?);
    let (a, b) = (floats(&c1)?, floats(&c1)?);
    for (from, to) in [(&c0, &c1), (&c1, &c0)] {
        from.bind_to_thread()?;
        // SAFETY: both contexts are alive.
        unsafe { sys::cuCtxEnablePeerAccess(to.cu_ctx(), 0) }.result()?;
    }
    begin(&origin)?;
    upload(&origin, x, input)?;
    if !with_wait {
        copy.wait(&event(&origin)?)?;
    }
    scale(&origin, &f0, x, y, 2.0, 1.0)?;
    if with_wait {
        copy.wait(&event(&origin)?)?;
    }
    // SAFETY: all buffers hold N floats.
    unsafe {
        c0.bind_to_thread()?;
        result::memcpy_dtod_async(a, y, 4 * N, copy.cu_stream())?;
        there.wait(&event(&copy)?)?;
        scale(&there, &f1, a, b, -1.0, 0.5)?;
        back.wait(&event(&there)?)?;
        c1.bind_to_thread()?;
        result::memcpy_dtod_async(z, b, 4 * N, back.cu_stream())?;
    }
    scale(&origin, &f0, x, y, 2.0, 1.0)?; // the same again, beside the other GPU
    origin.wait(&event(&back)?)?;
    scale(&origin, &f0, z, z, 3.0, 0.0)?;
    download(&origin, output, z)?;
    assert_eq!(copy.capture_status()?, sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
    let graph = end(&origin)?;
    assert_eq!(copy.capture_status()?, sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
    let mut nodes = 0;
    // SAFETY: only returns their number.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), std::ptr::null_mut(), &mut nodes) }.result()?;
    assert_eq!(nodes, 8);
    let mut wrong = 0;
    for round in 0..3 {
        for i in 0..N {
            // SAFETY: N floats, and nothing is in flight.
            unsafe { input.add(i).write((i + 7 * round) as f32) };
        }
        graph.launch()?;
        origin.synchronize()?;
        let expected = |i: usize| 3.0 * (-(2.0 * (i + 7 * round) as f32 + 1.0) + 0.5);
        // SAFETY: as above.
        wrong += (0..N).filter(|&i| unsafe { output.add(i).read() } != expected(i)).count();
    }
    println!("wrong={wrong}");
    Ok(())
}

#[test]
fn a_graph_over_two_gpus_is_replayed_in_many_orders() {
    for seed in 0..20 {
        let Some(out) = run("replay", &[("HIOSC_VGPU_SEED", &seed.to_string())]) else { return };
        assert_eq!(printed(&out, "wrong"), "0", "seed {seed}");
    }
}

#[test]
fn a_wait_missing_from_a_graph_shows() {
    let seen = (0..20).filter(|seed: &u32| {
        run("replay-without-wait", &[("HIOSC_VGPU_SEED", &seed.to_string())]).is_some_and(|out| printed(&out, "wrong") != "0")
    });
    let seen = seen.count();
    assert!(seen >= 5 || !vgpu::compiler_present(), "the order of a replay depends on the seed: {seen} of 20");
}

fn unjoined() -> Result<(), DriverError> {
    let c = context(0)?;
    let f = function(&c)?;
    let (origin, other) = (c.new_stream()?, c.new_stream()?);
    let (x, y) = (floats(&c)?, floats(&c)?);
    begin(&origin)?;
    scale(&origin, &f, x, y, 1.0, 0.0)?;
    other.wait(&event(&origin)?)?;
    scale(&other, &f, x, y, 1.0, 0.0)?;
    assert_eq!(failure(end(&origin)), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    // The streams are free again, and what was captured did not run.
    scale(&other, &f, x, y, 1.0, 0.0)?;
    [&origin, &other].iter().try_for_each(|s| s.synchronize())?;
    // A stream that is forked but has no work need not join.
    begin(&origin)?;
    scale(&origin, &f, x, y, 1.0, 0.0)?;
    other.wait(&event(&origin)?)?;
    end(&origin).map(drop)
}

#[test]
fn unjoined_work_is_refused() {
    run("unjoined", &[]);
}

fn streams() -> Result<(), DriverError> {
    use CUresult::*;
    let c = context(0)?;
    let f = function(&c)?;
    let (origin, other) = (c.new_stream()?, c.new_stream()?);
    let (x, y) = (floats(&c)?, floats(&c)?);
    assert_eq!(failure(begin(&c.default_stream())), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the NULL stream");
    assert_eq!(failure(origin.end_capture(sys::CUgraphInstantiate_flags(0))), CUDA_ERROR_ILLEGAL_STATE);
    begin(&origin)?;
    assert_eq!(failure(begin(&origin)), CUDA_ERROR_ILLEGAL_STATE);
    assert_eq!(failure(origin.synchronize()), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(failure(scale(&origin, &f, x, y, 1.0, 0.0)), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_eq!(failure(end(&origin)), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    origin.synchronize()?;

    begin(&origin)?;
    assert_eq!(failure(c.synchronize()), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(failure(end(&origin)), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    begin(&origin)?;
    other.wait(&event(&origin)?)?;
    assert_eq!(failure(end(&other)), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    assert_eq!(failure(end(&origin)), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    // While a blocking stream is in capture, the NULL stream cannot be used; a non-blocking one
    // does not matter.
    c.bind_to_thread()?;
    let blocking = result::stream::create(result::stream::StreamKind::Default)?;
    // SAFETY: the stream is alive, and refused work does not run.
    unsafe {
        result::stream::begin_capture(blocking, Mode::CU_STREAM_CAPTURE_MODE_RELAXED)?;
        assert_eq!(failure(scale(&c.default_stream(), &f, x, y, 1.0, 0.0)), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
        assert_eq!(failure(result::stream::end_capture(blocking)), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    begin(&origin)?;
    scale(&c.default_stream(), &f, x, y, 1.0, 0.0)?;
    end(&origin).map(drop)
}

#[test]
fn streams_in_capture_cannot_be_waited_for() {
    run("streams", &[]);
}

fn events() -> Result<(), DriverError> {
    use CUresult::*;
    let c = context(0)?;
    let (origin, other, outside) = (c.new_stream()?, c.new_stream()?, c.new_stream()?);
    let before = event(&outside)?;
    begin(&origin)?;
    assert_eq!(failure(origin.wait(&before)), CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    assert_eq!(failure(end(&origin)), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    begin(&origin)?;
    let inside = event(&origin)?;
    assert_eq!(failure(inside.synchronize()), CUDA_ERROR_CAPTURED_EVENT);
    assert_eq!(failure(end(&origin)), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_eq!(failure(outside.wait(&inside)), CUDA_ERROR_CAPTURED_EVENT, "the capture is over");
    inside.record(&outside)?;
    other.wait(&inside)?;

    begin(&origin)?;
    begin(&other)?;
    assert_eq!(failure(other.wait(&event(&origin)?)), CUDA_ERROR_STREAM_CAPTURE_MERGE);
    assert_eq!(failure(end(&origin)), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_eq!(failure(end(&other)), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    // An event that is recorded as a node completes at each launch.
    let timed = || c.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT));
    let (first, last) = (timed()?, timed()?);
    let f = function(&c)?;
    let (x, y) = (floats(&c)?, floats(&c)?);
    // SAFETY: the events and the stream are alive.
    let external = |event: &CudaEvent| unsafe { sys::cuEventRecordWithFlags(event.cu_event(), origin.cu_stream(), 1) }.result();
    begin(&origin)?;
    external(&first)?;
    scale(&origin, &f, x, y, 1.0, 0.0)?;
    external(&last)?;
    let graph = end(&origin)?;
    graph.launch()?;
    assert!(first.elapsed_ms(&last)? >= 0.0);
    Ok(())
}

#[test]
fn events_stay_within_their_capture() {
    run("events", &[]);
}

fn memory() -> Result<(), DriverError> {
    use CUresult::*;
    let (c0, c1) = (context(0)?, context(1)?);
    let origin = c0.new_stream()?;
    let (x, there, host) = (floats(&c0)?, floats(&c1)?, pinned(&c0)?);
    let pageable = vec![0.0f32; N];
    let refused = |call: &dyn Fn() -> Result<(), DriverError>, what: &str| -> Result<(), DriverError> {
        begin(&origin)?;
        assert_eq!(failure(call()), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "{what}");
        assert_eq!(failure(end(&origin)), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "{what}");
        c0.bind_to_thread()
    };
    // SAFETY: all of it must be refused before it does anything.
    unsafe {
        refused(&|| upload(&origin, x, pageable.as_ptr()), "a pageable copy")?;
        refused(&|| result::memcpy_peer_async(c1.cu_ctx(), there, c0.cu_ctx(), x, 4 * N, origin.cu_stream()), "a peer copy")?;
        refused(&|| result::malloc_async(origin.cu_stream(), 4).map(drop), "a stream-ordered allocation")?;
        refused(&|| result::malloc_sync(4).map(drop), "an allocation")?;
        refused(&|| result::free_sync(x), "a free")?;
        refused(&|| result::malloc_host(4, 0).map(drop), "pinned memory")?;
        refused(&|| result::memcpy_htod_sync(x, &pageable), "a synchronous copy")?;
        refused(&|| function(&c0).map(drop), "loading a module")?;
    }
    // A graph that outlives its memory is refused at launch.
    begin(&origin)?;
    upload(&origin, x, host)?;
    let graph = end(&origin)?;
    graph.launch()?;
    // SAFETY: freed once.
    unsafe { result::free_sync(x)? };
    assert_eq!(failure(graph.launch()), CUDA_ERROR_ILLEGAL_ADDRESS);
    Ok(())
}

#[test]
fn what_cannot_be_captured_is_refused() {
    let Some(text) = run("memory", &[]) else { return };
    assert!(text.contains("a graph was launched after something it uses was freed: copy pinned -> gpu0"), "{text}");
}

/// Captures of two threads do not affect one another, unless one is global.
fn threads() -> Result<(), DriverError> {
    let c = context(0)?;
    let (here, there) = (c.new_stream()?, c.new_stream()?);
    // SAFETY: an allocation that is never freed.
    let allocate = || c.bind_to_thread().and_then(|()| unsafe { result::malloc_sync(4) }).map(drop);
    let elsewhere = |call: &(dyn Fn() -> Result<(), DriverError> + Sync)| std::thread::scope(|s| s.spawn(call).join().expect("no panic"));
    begin(&here)?;
    elsewhere(&allocate)?;
    elsewhere(&|| begin(&there).and_then(|()| end(&there)).map(drop))?;
    assert_eq!(failure(elsewhere(&|| end(&here).map(drop))), CUresult::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    assert_eq!(failure(end(&here)), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    here.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_GLOBAL)?;
    assert_eq!(failure(elsewhere(&allocate)), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(failure(end(&here)), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    here.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_RELAXED)?;
    allocate()?;
    end(&here).map(drop)
}

#[test]
fn captures_of_two_threads_are_independent() {
    run("threads", &[]);
}

/// Prints which step is refused when a stream of another context joins the capture.
fn refused() -> Result<(), DriverError> {
    let (c0, c1) = (context(0)?, context(1)?);
    let (origin, other) = (c0.new_stream()?, c1.new_stream()?);
    let attempt = || {
        begin(&origin).map_err(|e| ("begin", e))?;
        other.wait(&event(&origin).map_err(|e| ("record", e))?).map_err(|e| ("across", e))?;
        end(&origin).map(drop).map_err(|e| ("end", e))
    };
    println!("refused={}", attempt().err().map_or("nothing".into(), |(step, error): (_, DriverError)| format!("{step} {:?}", error.0)));
    Ok(())
}

#[test]
fn capture_is_refused_on_demand() {
    for (setting, expected) in [
        ("capture", "begin CUDA_ERROR_NOT_SUPPORTED"),
        ("capture-across", "across CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"),
        ("instantiate", "end CUDA_ERROR_OUT_OF_MEMORY"),
        ("instantiate,capture", "begin CUDA_ERROR_NOT_SUPPORTED"),
        ("", "nothing"),
    ] {
        let Some(text) = run("refused", &[("HIOSC_VGPU_REFUSE", setting)]) else { return };
        assert_eq!(printed(&text, "refused"), expected, "{setting}");
    }
}

/// Two contexts on one device: events, copies and capture across them.
fn contexts() -> Result<(), DriverError> {
    let (c0, c1) = (context(0)?, prepared(CudaContext::new_non_primary(0, 0)?)?);
    assert_ne!(c0.cu_ctx(), c1.cu_ctx());
    let (f0, f1) = (function(&c0)?, function(&c1)?);
    let (origin, other) = (c0.new_stream()?, c1.new_stream()?);
    let (input, output) = (pinned(&c0)?, pinned(&c0)?);
    let (x, y) = (floats(&c0)?, floats(&c1)?);
    // SAFETY: N floats, and nothing is in flight.
    (0..N).for_each(|i| unsafe { input.add(i).write(i as f32) });
    begin(&origin)?;
    upload(&origin, x, input)?;
    scale(&origin, &f0, x, x, 2.0, 0.0)?;
    other.wait(&event(&origin)?)?;
    scale(&other, &f1, x, y, 1.0, 3.0)?;
    origin.wait(&event(&other)?)?;
    download(&origin, output, y)?;
    let graph = end(&origin)?;
    graph.launch()?;
    origin.synchronize()?;
    // SAFETY: as above.
    assert!((0..N).all(|i| unsafe { output.add(i).read() } == 2.0 * i as f32 + 3.0));
    Ok(())
}

#[test]
fn a_graph_spans_two_contexts_of_one_device() {
    for seed in 0..5 {
        run("contexts", &[("HIOSC_VGPU_COUNT", "1"), ("HIOSC_VGPU_SEED", &seed.to_string())]);
    }
}
