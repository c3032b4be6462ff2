//! Memory that is written once, at start-up, and only read afterwards.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The texts that entries refer to: a variable of the environment has at most 128 KiB, the administrator's file 64.
const BYTES: usize = 512 * 1024;

struct Arena {
    bytes: UnsafeCell<[u8; BYTES]>,
    used: AtomicUsize,
}

// SAFETY: each part is handed out once, by an atomic addition.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena { bytes: UnsafeCell::new([0; BYTES]), used: AtomicUsize::new(0) };

/// Memory for this many bytes, all zero; `None` when there is no more.
pub fn allocate(length: usize) -> Option<&'static mut [u8]> {
    let start = ARENA.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
        used.checked_add(length).filter(|&end| end <= BYTES)
    });
    let start = ARENA.bytes.get().cast::<u8>().wrapping_add(start.ok()?);
    // SAFETY: the part lies inside the array, and it is handed out to nobody else.
    Some(unsafe { core::slice::from_raw_parts_mut(start, length) })
}

/// Keeps a copy of a text, because a program may write over its environment.
pub fn keep(text: &[u8]) -> Option<&'static [u8]> {
    let copy = allocate(text.len())?;
    for (to, from) in copy.iter_mut().zip(text) {
        *to = *from;
    }
    Some(copy)
}

/// Keeps a copy of a file name, with a NUL at its end for the kernel.
pub fn keep_path(path: &[u8]) -> Option<&'static CStr> {
    let copy = allocate(path.len().checked_add(1)?)?;
    for (to, from) in copy.iter_mut().zip(path) {
        *to = *from;
    }
    CStr::from_bytes_with_nul(copy).ok()
}

/// A list that only grows, up to `N` elements.
pub struct List<T, const N: usize> {
    elements: UnsafeCell<[MaybeUninit<T>; N]>,
    length: AtomicUsize,
}

// SAFETY: an element is written once, before the length that includes it is published, and only read afterwards.
unsafe impl<T: Send + Sync, const N: usize> Sync for List<T, N> {}

impl<T, const N: usize> List<T, N> {
    /// An empty list.
    pub const fn new() -> List<T, N> {
        List { elements: UnsafeCell::new([const { MaybeUninit::uninit() }; N]), length: AtomicUsize::new(0) }
    }

    /// Adds an element; `false` where the list is full.
    ///
    /// # Safety
    ///
    /// No two calls at the same time.
    pub unsafe fn push(&self, element: T) -> bool {
        let length = self.length.load(Ordering::Relaxed);
        if length >= N {
            return false;
        }
        // SAFETY: below N; nobody reads it before the length says that it is there, and nobody else writes it.
        unsafe { self.elements.get().cast::<T>().add(length).write(element) };
        self.length.store(length.wrapping_add(1), Ordering::Release);
        true
    }

    /// The elements in the order in which they were added.
    pub fn as_slice(&self) -> &[T] {
        let length = self.length.load(Ordering::Acquire);
        // SAFETY: these elements have been written, and are not written any more.
        unsafe { core::slice::from_raw_parts(self.elements.get().cast::<T>(), length) }
    }
}

/// A value that is set once, at start-up.
pub struct OnceCell<T>(List<T, 1>);

impl<T> OnceCell<T> {
    /// Without a value.
    pub const fn new() -> OnceCell<T> {
        OnceCell(List::new())
    }

    /// Gives it its value, if it has none.
    ///
    /// # Safety
    ///
    /// No two calls at the same time.
    pub unsafe fn set(&self, value: T) {
        // SAFETY: as the caller says.
        unsafe { self.0.push(value) };
    }

    /// Its value.
    pub fn get(&self) -> Option<&T> {
        self.0.as_slice().first()
    }
}
