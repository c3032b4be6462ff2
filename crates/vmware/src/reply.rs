//! What a request returned.

use disk::Errno;
use disk::abi::{Abi, Structure};
use engine::ioctl::{Buffer, Device, REPLY};

/// What a request wrote; zeros behind it.
pub struct Reply(Buffer<REPLY>);

impl Reply {
    /// Makes a request that returns something at its address.
    pub fn ask(device: &Device, request: u32) -> Result<Reply, Errno> {
        let mut reply = Reply(Buffer([0; REPLY]));
        device.lend(request, &mut reply.0).map(|_| reply)
    }

    /// The reply as a structure.
    pub fn structure<T: Structure>(&self) -> T {
        const { assert!(size_of::<T>() <= REPLY) };
        Abi::Native.parse(&self.0.0)
    }

    /// The bytes from a constant offset.
    pub fn bytes<const OFFSET: usize, const LENGTH: usize>(&self) -> [u8; LENGTH] {
        const { assert!(OFFSET + LENGTH <= REPLY) };
        std::array::from_fn(|index| self.0.0[OFFSET + index])
    }

    /// A 16-bit word of IDENTIFY DEVICE.
    pub fn word<const NUMBER: usize>(&self) -> u16 {
        const { assert!(2 * NUMBER + 1 < REPLY) };
        u16::from_ne_bytes([self.0.0[2 * NUMBER], self.0.0[2 * NUMBER + 1]])
    }

    #[cfg(test)]
    pub fn new(bytes: &[u8]) -> Reply {
        let mut reply = [0; REPLY];
        reply[..bytes.len()].copy_from_slice(bytes);
        Reply(Buffer(reply))
    }
}
