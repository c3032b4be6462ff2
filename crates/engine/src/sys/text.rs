//! Short names of files, and numbers in the text of files.

use core::ffi::CStr;
use core::fmt::{self, Write};

use disk::Errno;
use disk::bytes::copy;

/// Parses a decimal number; no digits are 0.
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
    /// Returns the path that is written as these arguments; `ENAMETOOLONG` if it has more than 63
    /// bytes.
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
        // The last byte stays NUL.
        let (path, _) = self.bytes.split_last_chunk_mut::<1>().ok_or(fmt::Error)?;
        let end = self.length.saturating_add(text.len());
        copy(path, self.length, text.as_bytes());
        self.length = end.min(path.len());
        if end <= path.len() { Ok(()) } else { Err(fmt::Error) }
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
