//! A response in the making.

use crate::bytes::copy;

/// At most [`Response::MOST`] bytes.
pub struct Response {
    bytes: [u8; Response::MOST],
    length: usize,
}

impl Response {
    /// The longest response: all supported operation codes with their timeouts.
    pub(super) const MOST: usize = 1024;

    /// An empty one.
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

    /// Appends zeros, and returns them; none where there is no room for as many.
    pub fn append<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        let at = self.length;
        self.fill(at.saturating_add(N));
        self.bytes.get_mut(at..)?.first_chunk_mut()
    }

    /// Changes bytes that are there.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        copy(&mut self.bytes, at, bytes);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
