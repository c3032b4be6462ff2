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
