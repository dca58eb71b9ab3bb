//! Runs a call on a thread of its own with a bound on the memory that it holds and on its time.
//!
//! An allocation cannot be refused in Rust without an end of the process, and the template engine
//! allocates in steps of any size. So the thread that asks for too much is stopped where it asks,
//! for ever: what it holds, at most the bound, stays held. The caller must see to it that this
//! happens once and not again. What the call borrows it must own, as it may outlive its caller.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

#[derive(Clone, Copy)]
pub struct Limits {
    pub bytes: usize,
    pub time: Duration,
    pub stack_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    Memory,
    Time,
    NoThread,
}

enum Answer<T> {
    Pending,
    Done(thread::Result<T>),
    OutOfMemory,
}

/// What the allocator needs to know of a bounded call, whatever its result is.
struct Call {
    late: AtomicBool, // nobody waits for it any more
    report: Box<dyn Fn() + Send + Sync>,
}

thread_local! {
    // Both without a destructor, so that the allocator may read them at any time.
    static LEFT: Cell<isize> = const { Cell::new(isize::MAX) };
    static CALL: Cell<*const Call> = const { Cell::new(ptr::null()) };
}

/// A panic of `body` is the caller's.
pub fn run<T: Send + 'static>(
    limits: Limits,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    let shared = Arc::new((Mutex::new(Answer::Pending), Condvar::new()));
    let answer = |shared: &(Mutex<Answer<T>>, Condvar), value| {
        *shared.0.lock().unwrap_or_else(|e| e.into_inner()) = value;
        shared.1.notify_one();
    };
    let reported = shared.clone();
    let call = Arc::new(Call {
        late: AtomicBool::new(false),
        report: Box::new(move || answer(&reported, Answer::OutOfMemory)),
    });
    let (answered, running) = (shared.clone(), call.clone());
    let spawned = thread::Builder::new().stack_size(limits.stack_bytes).spawn(move || {
        CALL.set(Arc::as_ptr(&running));
        LEFT.set(limits.bytes as isize);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        LEFT.set(isize::MAX);
        CALL.set(ptr::null());
        answer(&answered, Answer::Done(result));
    });
    if spawned.is_err() {
        return Err(Stopped::NoThread);
    }
    let guard = shared.0.lock().unwrap_or_else(|e| e.into_inner());
    let (mut guard, timeout) = shared
        .1
        .wait_timeout_while(guard, limits.time, |a| matches!(a, Answer::Pending))
        .unwrap_or_else(|e| e.into_inner());
    if timeout.timed_out() {
        call.late.store(true, Ordering::Relaxed);
    }
    match std::mem::replace(&mut *guard, Answer::Pending) {
        Answer::Done(Ok(value)) => Ok(value),
        Answer::Done(Err(panic)) => {
            drop(guard);
            std::panic::resume_unwind(panic)
        }
        Answer::OutOfMemory => Err(Stopped::Memory),
        Answer::Pending => Err(Stopped::Time),
    }
}

pub struct CountingAllocator;

impl CountingAllocator {
    /// Counts `change` bytes more (or fewer). Does not return where that is over the bound.
    #[inline]
    fn count(change: isize) {
        let left = LEFT.get();
        if left == isize::MAX {
            return;
        }
        let left = left.saturating_sub(change).min(isize::MAX - 1);
        LEFT.set(left);
        if change > 0 && (left < 0 || Self::late()) {
            Self::stop(left < 0);
        }
    }

    fn late() -> bool {
        // The thread owns the call while CALL is set.
        unsafe { CALL.get().as_ref() }.is_some_and(|call| call.late.load(Ordering::Relaxed))
    }

    #[cold]
    fn stop(over: bool) -> ! {
        LEFT.set(isize::MAX);
        if let Some(call) = unsafe { CALL.get().as_ref() }.filter(|_| over) {
            (call.report)();
        }
        loop {
            thread::park();
        }
    }
}

unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size() as isize);
        System.alloc(layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size() as isize);
        System.alloc_zeroed(layout)
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Self::count(-(layout.size() as isize));
        System.dealloc(at, layout)
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it moves, both are held.
        Self::count(size as isize);
        let moved = System.realloc(at, layout, size);
        Self::count(-(layout.size() as isize));
        moved
    }
}
