//! A gate that holds a stream until the host opens it, so that a measurement begins when all of it has been enqueued: launching takes the host longer than
//! a small kernel takes the GPU.
//!
//! Should the driver make the host wait for what is behind the gate, neither would ever go on. So a gate gives up after [`PATIENCE`], and says so when it is opened.

use std::ffi::c_void;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use cudarc::driver::{CudaStream, result};

use super::error::{Error, Result};
use super::memory::Doing;

/// The most operations to enqueue behind a gate: a stream takes about a thousand, and then makes the host wait.
pub const BEHIND_A_GATE: usize = 400;

/// How long a gate stays closed at most: enqueueing takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq)]
enum Stands {
    Closed,
    Open,
    /// Open, because nobody opened it in time.
    GaveUp,
}

struct State {
    stands: Mutex<Stands>,
    changed: Condvar,
}

impl State {
    /// A poisoned lock still has a state; there is nobody to tell.
    fn lock(&self) -> MutexGuard<'_, Stands> {
        self.stands.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Returns when the gate is open, or when nobody has opened it in time.
    fn hold(&self, patience: Duration) {
        let closed = |stands: &mut Stands| *stands == Stands::Closed;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, closed);
        let (mut stands, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if *stands == Stands::Closed {
            *stands = Stands::GaveUp;
        }
    }

    /// Opens the gate; how it stood.
    fn open(&self) -> Stands {
        let mut stands = self.lock();
        let before = *stands;
        if before == Stands::Closed {
            *stands = Stands::Open;
            self.changed.notify_all();
        }
        before
    }
}

/// A closed gate; it opens when it is dropped.
pub struct Gate(Arc<State>);

/// Waits on a thread of the driver.
unsafe extern "C" fn wait(state: *mut c_void) {
    // SAFETY: `Gate::close` gave this reference away, once, for this call.
    let state = unsafe { Arc::from_raw(state as *const State) };
    state.hold(PATIENCE);
}

impl Gate {
    fn closed() -> Gate {
        Gate(Arc::new(State { stands: Mutex::new(Stands::Closed), changed: Condvar::new() }))
    }

    /// Holds what is enqueued on `stream` from now on.
    pub fn close(stream: &CudaStream) -> Result<Gate> {
        stream.context().bind_to_thread().doing(|| "bind a context".into())?;
        let gate = Gate::closed();
        let given = Arc::into_raw(gate.0.clone());
        // SAFETY: the function takes the reference; it calls nothing of CUDA.
        let launched = unsafe { result::stream::launch_host_function(stream.cu_stream(), wait, given as *mut c_void) };
        if launched.is_err() {
            // SAFETY: the function will not run, so the reference is ours again.
            drop(unsafe { Arc::from_raw(given) });
        }
        launched.doing(|| "hold a stream".into())?;
        Ok(gate)
    }

    /// Lets the stream go on. An error if it did so by itself meanwhile: what was measured then is not what was meant.
    pub fn open(self) -> Result<()> {
        match self.0.open() {
            Stands::GaveUp => Err(Error::Driver {
                call: "take work for a stream that is held".into(),
                message: format!("the host waited for {} s", PATIENCE.as_secs()),
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_holds_until_it_is_opened_and_gives_up_when_it_is_not() {
        let opened = Gate::closed();
        let state = opened.0.clone();
        let held = std::thread::spawn(move || state.hold(Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!held.is_finished());
        assert_eq!(opened.open(), Ok(()));
        held.join().expect("it ends");

        let forgotten = Gate::closed();
        forgotten.0.hold(Duration::from_millis(1));
        let error = forgotten.open().expect_err("nobody opened it").to_string();
        assert!(error.contains("the host waited for 10 s"), "{error}");
    }
}
