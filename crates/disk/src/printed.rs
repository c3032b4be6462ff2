//! Bytes as printable text.

use core::fmt;

/// Displays bytes: UTF-8 as it is, control characters and invalid UTF-8 as `\xNN`, at most 200
/// characters.
#[derive(Clone, Copy, Debug)]
pub struct Printed<'a>(pub &'a [u8]);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = 200u32;
        for chunk in self.0.utf8_chunks() {
            let characters = chunk.valid().chars().map(Ok);
            for character in characters.chain(chunk.invalid().iter().map(Err)) {
                left = match left.checked_sub(1) {
                    Some(left) => left,
                    None => return f.write_str("..."),
                };
                match character {
                    Ok(character) if is_printable(character) => fmt::Write::write_char(f, character)?,
                    Ok(character) => write!(f, "\\x{:02x}", u32::from(character))?,
                    Err(byte) => write!(f, "\\x{byte:02x}")?,
                }
            }
        }
        Ok(())
    }
}

/// Returns whether a character is safe on a terminal: not a control character, nor one that changes
/// the direction of writing.
pub fn is_printable(character: char) -> bool {
    let direction = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !character.is_control() && !direction
}
