//! Parameter data.

use crate::bytes::copy;

/// Builds parameter data of at most [`Response::MOST`] bytes.
pub struct Response {
    bytes: [u8; Response::MOST],
    length: usize,
}

impl Response {
    /// The longest response: 64 reservation keys, or all mode pages and VPD pages.
    const MOST: usize = 1024;

    /// Returns an empty one.
    pub fn new() -> Response {
        Response { bytes: [0; Response::MOST], length: 0 }
    }

    /// Appends bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        let at = self.length;
        self.set(at, bytes);
        self.length = at.saturating_add(bytes.len()).min(Response::MOST);
    }

    /// Appends zeros up to a length.
    pub fn fill(&mut self, length: usize) {
        self.length = self.length.max(length.min(Response::MOST));
    }

    /// Appends zeros and returns them; `None` if they do not fit.
    pub fn append<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        let at = self.length;
        self.fill(at.saturating_add(N));
        self.bytes.get_mut(at..)?.first_chunk_mut()
    }

    /// Overwrites bytes.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        copy(&mut self.bytes, at, bytes);
    }

    /// Sets the length field of `N` bytes at an offset to the number of bytes that follow it.
    pub fn set_length<const N: usize>(&mut self, at: usize) {
        let length = self.length.saturating_sub(at + N).to_be_bytes();
        self.set(at, length.last_chunk::<N>().map_or(&[], |field| field));
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
