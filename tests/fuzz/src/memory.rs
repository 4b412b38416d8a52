//! How much memory a reader takes.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The system's allocator, and the most bytes that were allocated at one time.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn more(bytes: usize) {
    let now = ALLOCATED.fetch_add(bytes, Relaxed) + bytes;
    HIGHEST.fetch_max(now, Relaxed);
}

/// What a reader may take: so much in any case, and so much for each byte of its input.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// In any case.
    pub fixed: usize,
    /// For each byte.
    pub per_byte: usize,
}

/// Runs a reader, and demands that it never held more than its bound.
pub fn bounded<T>(bound: Bound, input: &[u8], read: impl FnOnce() -> T) -> T {
    let before = ALLOCATED.load(Relaxed);
    HIGHEST.store(before, Relaxed);
    let result = read();
    let took = HIGHEST.load(Relaxed).saturating_sub(before);
    let most = bound.fixed + bound.per_byte * input.len();
    assert!(
        took <= most,
        "{took} bytes of memory for {} of input: more than {most}",
        input.len()
    );
    result
}
