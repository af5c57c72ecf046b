//! What each launch of a plan writes, read as soon as it is written: for finding a wrong kernel.
//!
//! The plan reuses memory, so most intermediate tensors are gone at the end of an inference. Here
//! it runs on plain streams. After each launch the host waits until all streams are idle, and
//! copies the results of this launch.

use std::io;

use cudarc::driver::result;

use super::error::{Error, Result};
use super::exec::Exec;
use super::layout::{Port, Region};
use super::memory::ErrorContext;

/// What one launch of a plan writes, workspaces and counters left out.
#[derive(Clone, Copy, Debug)]
pub struct LaunchResults<'a> {
    /// The index of the first result among the arguments of the launch.
    pub first: usize,
    /// Each result. Their names are unique in the plan.
    pub results: &'a [Port<'a>],
}

/// Receives the bytes of each result, in the order of the plan's launches.
pub type ResultSink = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

/// An inference that is being observed.
pub(super) struct Observer {
    /// For each launch that is still to come, the last one first: the index of its first result,
    /// and the size of each.
    launches: Vec<(usize, Vec<usize>)>,
    sink: ResultSink,
    /// What the sink returned, as long as it was nothing.
    written: io::Result<()>,
}

impl Exec {
    /// One inference on plain streams that gives the results of each launch to `sink`. `launches`
    /// lists all launches of the plan, in order. After `sink` has failed, it gets nothing more, and
    /// its error is returned.
    pub fn observe(
        &mut self,
        inputs: &[&[u8]],
        launches: &[LaunchResults<'_>],
        sink: ResultSink,
        mut enqueue: impl FnMut(&mut Exec) -> Result<()>,
    ) -> Result<io::Result<()>> {
        self.put_inputs(inputs)?;
        self.synchronise()?;
        let sizes = |launch: &LaunchResults<'_>| (launch.first, launch.results.iter().map(Port::bytes).collect());
        self.observer = Some(Observer { launches: launches.iter().rev().map(sizes).collect(), sink, written: Ok(()) });
        let done = self.finish(&mut enqueue);
        let observer = self.observer.take();
        done?;
        match observer {
            Some(Observer { launches, written, .. }) if launches.is_empty() => Ok(written),
            _ => Err(Error::Plan("it has fewer launches than are listed".into())),
        }
    }

    /// Reads the results of the launch with these arguments, if an inference is being observed.
    pub(super) fn observed(&mut self, regions: &[Region]) -> Result<()> {
        let Some(mut observer) = self.observer.take() else { return Ok(()) };
        let read = self.read_results(&mut observer, regions);
        self.observer = Some(observer);
        read
    }

    fn read_results(&self, observer: &mut Observer, regions: &[Region]) -> Result<()> {
        let listed = observer.launches.pop();
        let (first, sizes) = listed.ok_or_else(|| Error::Plan("it has more launches than are listed".into()))?;
        self.synchronise()?;
        for (index, &bytes) in sizes.iter().enumerate() {
            let region = regions.get(first + index).filter(|region| region.bytes >= bytes as u64);
            let &region = region.ok_or_else(|| Error::Plan(format!("a launch has no result of {bytes} bytes")))?;
            let (address, stream) = (self.address(region)?, self.stream_of(region.gpu)?);
            self.bind(region.gpu)?;
            let mut values = vec![0u8; bytes];
            // SAFETY: `address` checked that the region, which has at least these bytes, is within
            // its allocation; both sides live until the copy has completed, on the next line.
            unsafe { result::memcpy_dtoh_async(&mut values, address, stream.cu_stream()) }
                .context(|| "read the result of a launch".into())?;
            stream.synchronize().context(|| "read the result of a launch".into())?;
            if observer.written.is_ok() {
                observer.written = (observer.sink)(&values);
            }
        }
        Ok(())
    }
}
