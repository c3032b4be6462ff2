//! Copies of parts of slices that cannot panic.

/// Returns the bytes at an offset; zeros if there are not as many.
pub fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Copies to an offset as many elements as fit.
pub fn copy<T: Copy>(to: &mut [T], at: usize, from: &[T]) {
    // No `copy_from_slice`, which panics on unequal lengths.
    to.get_mut(at..).unwrap_or_default().iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
