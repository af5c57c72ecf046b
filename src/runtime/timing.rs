//! How long an inference takes: for the host, for the device, and step by step.
//!
//! * *Host*: from the call to its return.
//! * *Device*: between two events on the origin stream, the first before all work, the second after
//!   it. It excludes what the host does before and after.
//! * *Steps*: in a run on plain streams, between two events around each upload, launch, copy and
//!   download, on its stream. Events of different GPUs cannot be compared. So each GPU has a base
//!   event; the host waits for it and takes the time. Times on one GPU are exact; those of
//!   different GPUs are aligned to within the duration of that wait, a few microseconds. The events
//!   take time themselves: a run with them is slower than one without.

use std::time::Instant;

use cudarc::driver::{CudaEvent, sys};

use super::error::{Error, Result};
use super::exec::Exec;
use super::layout::Stream;
use super::memory::ErrorContext;

/// Duration of one inference, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the call to its return.
    pub host: u64,
    /// Between the first and the last work on the GPUs.
    pub device: u64,
}

/// What a step of a plan does. Records and waits are not timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepKind {
    /// Copies an input from the host.
    Upload,
    /// Runs a kernel.
    Launch,
    /// Copies a tensor to another GPU.
    Copy,
    /// Copies an output to the host.
    Download,
}

/// When a step ran, in nanoseconds since the inference began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What it did.
    pub kind: StepKind,
    /// The logical GPU.
    pub gpu: usize,
    /// The stream, by number.
    pub stream: usize,
    /// Its start.
    pub start: u64,
    /// Its end.
    pub end: u64,
}

/// The events around the steps of one inference.
#[derive(Default)]
pub(super) struct Recorder {
    steps: Vec<(StepKind, Stream, CudaEvent, CudaEvent)>,
}

/// The flags of an event with a timestamp.
fn timed() -> Option<sys::CUevent_flags> {
    Some(sys::CUevent_flags::CU_EVENT_DEFAULT)
}

fn nanos(milliseconds: f32) -> u64 {
    (f64::from(milliseconds.max(0.0)) * 1e6).round() as u64
}

impl Exec {
    /// [`Exec::run`], timed.
    pub fn time(&mut self, inputs: &[&[u8]], enqueue: impl FnMut(&mut Exec) -> Result<()>) -> Result<Timing> {
        self.between_events(|exec, start| {
            let begin = Instant::now();
            exec.put_inputs(inputs)?;
            start(exec)?;
            exec.run_again(enqueue)?;
            Ok(begin.elapsed().as_nanos() as u64)
        })
    }

    /// One inference on inputs that are on the GPU already and outputs that stay there, timed.
    pub fn time_resident(&mut self, enqueue: impl FnMut(&mut Exec) -> Result<()>) -> Result<Timing> {
        self.between_events(|exec, start| {
            let begin = Instant::now();
            start(exec)?;
            exec.run_resident(enqueue)?;
            Ok(begin.elapsed().as_nanos() as u64)
        })
    }

    /// Times `run` between two events. `run` must call its second argument right before it
    /// enqueues, and return the host's time when all work is complete.
    fn between_events(&mut self, run: impl FnOnce(&mut Exec, &dyn Fn(&mut Exec) -> Result<()>) -> Result<u64>) -> Result<Timing> {
        let origin_stream = self.origin_stream();
        let event = || origin_stream.context().new_event(timed()).context(|| "create an event".into());
        let (first, last) = (event()?, event()?);
        let start = |_: &mut Exec| first.record(&origin_stream).context(|| "record an event".into());
        self.end = Some(last);
        let host = run(self, &start);
        let last = self.end.take().ok_or_else(|| Error::Plan("the end event is missing".into()))?;
        Ok(Timing { host: host?, device: nanos(first.elapsed_ms(&last).context(|| "report the time between two events".into())?) })
    }

    /// One inference on plain streams, step by step, in the order in which the steps are enqueued.
    pub fn trace(&mut self, inputs: &[&[u8]], mut enqueue: impl FnMut(&mut Exec) -> Result<()>) -> Result<Vec<Span>> {
        self.put_inputs(inputs)?;
        self.synchronise()?;
        let begin = Instant::now();
        let mut bases = Vec::new(); // per logical GPU: its event, and when it completed
        for gpu in 0..self.placement().len() {
            let stream = self.stream_of(gpu)?;
            let event = stream.context().new_event(timed()).context(|| "create an event".into())?;
            event.record(stream).context(|| "record an event".into())?;
            event.synchronize().context(|| "wait for an event".into())?;
            bases.push((event, begin.elapsed().as_nanos() as u64));
        }
        self.recorder = Some(Recorder::default());
        let done = self.finish(&mut enqueue);
        let recorder = self.recorder.take();
        done?;
        let mut spans = Vec::new();
        for (kind, stream, first, last) in recorder.map(|r| r.steps).unwrap_or_default() {
            let gpu = self.gpu_of(stream)?;
            let (base, offset) = &bases[gpu];
            let since = |event: &CudaEvent| base.elapsed_ms(event).map(nanos).context(|| "report the time between two events".into());
            spans.push(Span { kind, gpu, stream: stream.0, start: offset + since(&first)?, end: offset + since(&last)? });
        }
        let zero = spans.iter().map(|span| span.start).min().unwrap_or(0);
        spans.iter_mut().for_each(|span| (span.start, span.end) = (span.start - zero, span.end - zero));
        Ok(spans)
    }

    /// Issues a step, between two events if steps are being recorded.
    pub(super) fn step(&mut self, kind: StepKind, stream: Stream, issue: impl FnOnce(&mut Exec) -> Result<()>) -> Result<()> {
        if self.recorder.is_none() {
            return issue(self);
        }
        self.gpu_of(stream)?;
        let cuda = self.streams[stream.0].clone();
        let mark = || {
            let event = cuda.context().new_event(timed()).context(|| "create an event".into())?;
            event.record(&cuda).context(|| "record an event".into())?;
            Ok(event)
        };
        let first = mark()?;
        issue(self)?;
        let last = mark()?;
        if let Some(recorder) = &mut self.recorder {
            recorder.steps.push((kind, stream, first, last));
        }
        Ok(())
    }
}
