//! Numbers and structures in bytes.

/// The bytes that stand at an offset; zeros where there are not as many.
pub fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}
