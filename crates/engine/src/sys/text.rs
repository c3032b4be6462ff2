//! Short names of files, and numbers in the text of files.

use core::ffi::CStr;
use core::fmt::{self, Write};

use disk::Errno;

/// A decimal number; no digit is 0.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |sum, &digit| {
        sum.checked_mul(10)?.checked_add(char::from(digit).to_digit(10)?.into())
    })
}

/// Builds a short path.
pub struct PathBuffer {
    bytes: [u8; 64],
    length: usize,
}

impl PathBuffer {
    /// Returns the path that is written as these arguments; `ENAMETOOLONG` if it has more than 63 bytes.
    pub fn format(path: fmt::Arguments<'_>) -> Result<PathBuffer, Errno> {
        let mut buffer = PathBuffer { bytes: [0; 64], length: 0 };
        buffer.write_fmt(path).map_err(|_| Errno::ENAMETOOLONG)?;
        Ok(buffer)
    }

    /// Returns the path.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl Write for PathBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // The last byte stays NUL.
            let end = self.bytes.len().saturating_sub(1);
            *self.bytes.get_mut(..end).and_then(|path| path.get_mut(self.length)).ok_or(fmt::Error)? = byte;
            self.length = self.length.wrapping_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    #[test]
    fn paths_up_to_63_bytes() {
        for length in [0, 1, 62, 63] {
            let path = String::from_utf8(std::vec![b'x'; length]).expect("ASCII");
            let buffer = PathBuffer::format(format_args!("{path}"));
            assert_eq!(buffer.map(|buffer| buffer.as_c_str().to_bytes().len()).ok(), Some(length));
        }
        let path = String::from_utf8(std::vec![b'x'; 64]).expect("ASCII");
        assert_eq!(PathBuffer::format(format_args!("{path}")).err(), Some(Errno::ENAMETOOLONG));
    }

    #[test]
    fn decimal_numbers() {
        for (digits, number) in [("0", Some(0)), ("18446744073709551615", Some(u64::MAX)), ("", Some(0))] {
            assert_eq!(decimal(digits.as_bytes()), number, "{digits}");
        }
        for digits in ["18446744073709551616", "-1", "1 ", "a"] {
            assert_eq!(decimal(digits.as_bytes()), None, "{digits}");
        }
    }
}
