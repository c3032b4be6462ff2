//! Numbers and structures in bytes.

/// The bytes that stand at an offset; zeros where there are not as many.
pub fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Copies to an offset; what there is no room for is left out.
pub fn copy<T: Copy>(to: &mut [T], at: usize, from: &[T]) {
    // No `copy_from_slice`, which panics on unequal lengths.
    to.get_mut(at..).unwrap_or_default().iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
