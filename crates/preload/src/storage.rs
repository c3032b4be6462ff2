//! Memory that is written once, at set-up, and only read afterwards.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicUsize, Ordering};

use disk::bytes::copy;

/// The size of the arena: a variable of the environment has at most 128 KiB, the configuration file
/// 64.
const BYTES: usize = 512 * 1024;

struct Arena {
    bytes: UnsafeCell<[u8; BYTES]>,
    used: AtomicUsize,
}

// SAFETY: each part is handed out once, by an atomic addition.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena { bytes: UnsafeCell::new([0; BYTES]), used: AtomicUsize::new(0) };

/// Returns this many bytes, all zero; `None` if the arena is full.
pub fn allocate(length: usize) -> Option<&'static mut [u8]> {
    let start = ARENA.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
        used.checked_add(length).filter(|&end| end <= BYTES)
    });
    let start = ARENA.bytes.get().cast::<u8>().wrapping_add(start.ok()?);
    // SAFETY: the part lies inside the array, and is handed out once.
    Some(unsafe { core::slice::from_raw_parts_mut(start, length) })
}

/// Copies a text to the arena, because a program may write over its environment.
pub fn copy_text(text: &[u8]) -> Option<&'static [u8]> {
    let bytes = allocate(text.len())?;
    copy(bytes, 0, text);
    Some(bytes)
}

/// Copies a path to the arena and ends it with a NUL.
pub fn copy_path(path: &[u8]) -> Option<&'static CStr> {
    let bytes = allocate(path.len().checked_add(1)?)?;
    copy(bytes, 0, path);
    CStr::from_bytes_with_nul(bytes).ok()
}

/// A list of up to `N` elements to which elements are only added.
pub struct List<T, const N: usize> {
    elements: UnsafeCell<[MaybeUninit<T>; N]>,
    length: AtomicUsize,
}

// SAFETY: an element is written once, before the length that includes it is published, and only
// read afterwards.
unsafe impl<T: Send + Sync, const N: usize> Sync for List<T, N> {}

impl<T, const N: usize> List<T, N> {
    /// Returns an empty list.
    pub const fn new() -> List<T, N> {
        List { elements: UnsafeCell::new([const { MaybeUninit::uninit() }; N]), length: AtomicUsize::new(0) }
    }

    /// Adds an element; returns false if the list is full.
    ///
    /// # Safety
    ///
    /// No two calls at the same time.
    pub unsafe fn push(&self, element: T) -> bool {
        let length = self.length.load(Ordering::Relaxed);
        if length >= N {
            return false;
        }
        // SAFETY: below N; it is not read before the length includes it, and there is no other
        // writer.
        unsafe { self.elements.get().cast::<T>().add(length).write(element) };
        self.length.store(length.wrapping_add(1), Ordering::Release);
        true
    }

    /// Returns the elements in the order in which they were added.
    pub fn as_slice(&self) -> &[T] {
        let length = self.length.load(Ordering::Acquire);
        // SAFETY: these elements have been written, and are not written any more.
        unsafe { core::slice::from_raw_parts(self.elements.get().cast::<T>(), length) }
    }
}

/// A value that is set once, at set-up.
pub struct OnceCell<T>(List<T, 1>);

impl<T> OnceCell<T> {
    /// Returns a cell without a value.
    pub const fn new() -> OnceCell<T> {
        OnceCell(List::new())
    }

    /// Sets the value, unless it is set.
    ///
    /// # Safety
    ///
    /// No two calls at the same time.
    pub unsafe fn set(&self, value: T) {
        // SAFETY: as the caller says.
        unsafe { self.0.push(value) };
    }

    /// Returns the value.
    pub fn get(&self) -> Option<&T> {
        self.0.as_slice().first()
    }
}
