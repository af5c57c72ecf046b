//! A gate that holds a stream until the host opens it, so that a measurement begins when all of it has been enqueued: launching takes the host longer than
//! a small kernel takes the GPU.

use std::ffi::c_void;
use std::sync::{Arc, Condvar, Mutex};

use cudarc::driver::{CudaStream, result};

use super::error::Result;
use super::memory::Doing;

/// The most operations to enqueue behind a gate: a stream takes about a thousand, and then makes the host wait, which would be for ever.
pub const BEHIND_A_GATE: usize = 400;

type State = (Mutex<bool>, Condvar);

/// A closed gate; it opens when it is dropped.
pub struct Gate(Arc<State>);

/// Waits on a thread of the driver.
unsafe extern "C" fn wait(state: *mut c_void) {
    // SAFETY: `Gate::close` gave this reference away, once, for this call.
    let state = unsafe { Arc::from_raw(state as *const State) };
    // A poisoned lock still has a state; there is nobody to tell.
    let mut open = state.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    while !*open {
        open = state.1.wait(open).unwrap_or_else(|poisoned| poisoned.into_inner());
    }
}

impl Gate {
    /// Holds what is enqueued on `stream` from now on.
    pub fn close(stream: &CudaStream) -> Result<Gate> {
        stream.context().bind_to_thread().doing(|| "bind a context".into())?;
        let state = Arc::new((Mutex::new(false), Condvar::new()));
        let given = Arc::into_raw(state.clone());
        // SAFETY: the function takes the reference; it calls nothing of CUDA.
        let launched = unsafe { result::stream::launch_host_function(stream.cu_stream(), wait, given as *mut c_void) };
        if launched.is_err() {
            // SAFETY: the function will not run, so the reference is ours again.
            drop(unsafe { Arc::from_raw(given) });
        }
        launched.doing(|| "hold a stream".into())?;
        Ok(Gate(state))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
        self.0.1.notify_all();
    }
}
