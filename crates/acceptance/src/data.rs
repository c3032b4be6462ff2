//! What is written to disks, and compared with what is read.

/// Bytes that nobody gets right by accident.
pub fn pattern(bytes: u64) -> Vec<u8> {
    let mut state = 1u32;
    (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

/// Fails with the place of the first byte that differs.
pub fn assert_same(what: &str, ours: &[u8], theirs: &[u8]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let first = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
    assert_eq!(first, None, "{what}: the first byte that differs");
}

/// Fails where lines are new or gone, and shows these alone.
#[track_caller]
pub fn assert_same_lines(after: &str, before: &str) {
    let only = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| !other.lines().any(|found| found == *line));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let (new, gone) = (only(after, before), only(before, after));
    assert!(new.is_empty() && gone.is_empty(), "new:\n{new}gone:\n{gone}");
}
