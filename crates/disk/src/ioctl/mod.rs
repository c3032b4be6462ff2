//! The kernel's interfaces: answers ioctl(2) requests.

mod block;
mod hdio;
pub mod hdio_drive;
pub mod request;
mod reservation;
mod scsi;
pub mod sg_io;

use crate::device::Device;
use crate::host::{Host, Medium};

pub use request::Answer;
pub use sg_io::CHECK_CONDITION;

/// Answers a request on a listed device; `argument` is the caller's third argument, a number or an
/// address.
///
/// Any request but those of [`request::is_disk_request`] is forwarded.
pub fn answer(device: &Device<'_>, host: &impl Host, request: u32, argument: u64) -> Answer {
    let Some(request) = request::meant(host.abi(), request) else { return Answer::Error(device.refusal()) };
    match request::family(request) {
        Some(request::Family::BlockLayer) => block::answer(device, host, request, argument),
        Some(request::Family::Hdio) => hdio::answer(device, host, request, argument).into(),
        // fs/ioctl.c answers FIBMAP, which is SCSI_IOCTL_SEND_COMMAND too, on any regular file.
        Some(request::Family::Scsi) if request == request::FIBMAP && host.medium() == Medium::ImageFile => {
            Answer::Forward
        }
        Some(request::Family::Scsi) => scsi::answer(device, host, request, argument).into(),
        Some(request::Family::Driver) => Answer::Error(device.refusal()),
        Some(request::Family::Unknown) => match host.medium() {
            Medium::BlockDevice => Answer::Error(device.refusal()),
            Medium::ImageFile => Answer::Forward,
        },
        Some(request::Family::Reservation) => reservation::answer(device, host, request, argument).into(),
        None => Answer::Forward,
    }
}
