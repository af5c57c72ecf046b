//! Blocks a stream until the host releases it, so that a measurement starts with all of its work
//! enqueued: launching a small kernel takes longer on the host than running it on the GPU.
//!
//! If the driver made the host wait for the blocked work, that would be a deadlock. So a blocker
//! gives up after [`BLOCK_TIMEOUT`], and [`StreamBlocker::unblock`] reports it.

use std::ffi::c_void;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use cudarc::driver::{CudaStream, result};

use super::error::{Error, Result};
use super::memory::ErrorContext;

/// The most operations to enqueue behind a blocker. A stream's queue holds about a thousand; after
/// that the host has to wait.
pub const MAX_BLOCKED_OPERATIONS: usize = 400;

/// The longest time that a stream stays blocked. Enqueueing takes milliseconds.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Blocked,
    Released,
    /// Nobody released it in time.
    TimedOut,
}

#[derive(Debug)]
struct State {
    phase: Mutex<Phase>,
    changed: Condvar,
}

impl State {
    /// The phase. A poisoned lock is ignored: the phase is valid after a panic, too.
    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Returns when the stream is released, or at the timeout.
    fn wait(&self, timeout: Duration) {
        let blocked = |phase: &mut Phase| *phase == Phase::Blocked;
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, blocked);
        let (mut phase, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if *phase == Phase::Blocked {
            *phase = Phase::TimedOut;
        }
    }

    /// Releases the stream; returns the phase before.
    fn unblock(&self) -> Phase {
        let mut phase = self.lock();
        let before = *phase;
        if before == Phase::Blocked {
            *phase = Phase::Released;
            self.changed.notify_all();
        }
        before
    }
}

/// A blocked stream. Dropping this releases it.
#[derive(Debug)]
pub struct StreamBlocker(Arc<State>);

/// Runs on a thread of the driver, as a host function of the stream.
unsafe extern "C" fn wait(state: *mut c_void) {
    // SAFETY: `StreamBlocker::block` leaked this reference, once, for this call.
    let state = unsafe { Arc::from_raw(state as *const State) };
    state.wait(BLOCK_TIMEOUT);
}

impl StreamBlocker {
    fn blocked() -> StreamBlocker {
        StreamBlocker(Arc::new(State { phase: Mutex::new(Phase::Blocked), changed: Condvar::new() }))
    }

    /// Blocks all work that is enqueued on `stream` from now on.
    pub fn block(stream: &CudaStream) -> Result<StreamBlocker> {
        stream.context().bind_to_thread().context(|| "bind a context".into())?;
        let blocker = StreamBlocker::blocked();
        let given = Arc::into_raw(blocker.0.clone());
        // SAFETY: the function takes ownership of the reference, and makes no CUDA calls.
        let launched = unsafe { result::stream::launch_host_function(stream.cu_stream(), wait, given as *mut c_void) };
        if launched.is_err() {
            // SAFETY: the function will not run, so the reference is ours again.
            drop(unsafe { Arc::from_raw(given) });
        }
        launched.context(|| "block a stream".into())?;
        Ok(blocker)
    }

    /// Releases the stream. Returns an error if the stream has timed out: then the measurement is
    /// invalid.
    pub fn unblock(self) -> Result<()> {
        match self.0.unblock() {
            Phase::TimedOut => Err(Error::Driver {
                call: "enqueue work on a blocked stream".into(),
                message: format!("the host waited for {} s", BLOCK_TIMEOUT.as_secs()),
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for StreamBlocker {
    fn drop(&mut self) {
        self.0.unblock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_blocked_until_it_is_released_or_times_out() {
        let released = StreamBlocker::blocked();
        let state = released.0.clone();
        let waiting = std::thread::spawn(move || state.wait(Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        assert_eq!(released.unblock(), Ok(()));
        waiting.join().expect("it ends");

        let forgotten = StreamBlocker::blocked();
        forgotten.0.wait(Duration::from_millis(1));
        let error = forgotten.unblock().expect_err("nobody released it").to_string();
        assert!(error.contains("the host waited for 10 s"), "{error}");
    }
}
