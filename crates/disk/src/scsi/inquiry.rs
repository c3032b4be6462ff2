//! INQUIRY: standard data and vital product data (SPC-4, 6.6 and 7.8; SBC-3, 6.6).

use super::command::has_reservations;
use super::response::Response;
use super::sense::Sense;
use super::task::CommandResult;
use crate::device::Device;
use crate::entry::Kind;
use crate::errno::Errno;
use crate::host::{Host, Provisioning};
use crate::identity;
use crate::medium::io::Error;
use crate::medium::{atomic_blocks, is_thin, longest_transfer};

/// The most blocks and descriptors of UNMAP.
pub const MAX_UNMAP_BLOCKS: u32 = 1 << 20;
/// See [`MAX_UNMAP_BLOCKS`].
pub const MAX_UNMAP_DESCRIPTORS: u32 = 256;
/// The most blocks of WRITE SAME, those of WRITE SAME (10).
pub const MAX_WRITE_SAME: u64 = 65535;
/// The most blocks of COMPARE AND WRITE.
pub const MAX_COMPARE_AND_WRITE: u8 = 255;

/// The most CSCD descriptors of EXTENDED COPY, the most segment descriptors, and the most bytes of both.
pub const MAX_CSCDS: u16 = 16;
/// See [`MAX_CSCDS`].
pub const MAX_SEGMENTS: u16 = 16;
/// See [`MAX_CSCDS`].
pub const MAX_COPY_DESCRIPTORS: u32 = 1024;
/// The most bytes that a segment descriptor copies.
pub const MAX_SEGMENT_BYTES: u32 = 256 << 20;
/// How many copies can be carried out at the same time: there is no limit, and this is the largest number
/// that can be reported.
pub const MAX_COPIES: u8 = 255;
/// The unit of the copied data, as a power of two of bytes.
pub const SEGMENT_GRANULARITY: u8 = 9;

/// The descriptors of EXTENDED COPY: block device to block device, also with offsets; an identification
/// descriptor of a copy source or destination.
pub const BLOCKS: u8 = 0x02;
/// See [`BLOCKS`].
pub const BLOCKS_WITH_OFFSETS: u8 = 0x0a;
/// See [`BLOCKS`].
pub const IDENTIFICATION: u8 = 0xe4;
/// All of them, in ascending order.
pub const COPY_DESCRIPTORS: [u8; 3] = [BLOCKS, BLOCKS_WITH_OFFSETS, IDENTIFICATION];

/// The relative target port identifier, and the identifier of its target port group (SPC-4, 5.15).
pub const PORT: [u8; 2] = [0, 1];
/// See [`PORT`].
pub const GROUP: [u8; 2] = [0, 1];

/// Returns the product identification: the first 16 characters of the model.
fn product(device: &Device<'_>) -> [u8; 16] {
    identity::model(device.entry).first_chunk().copied().unwrap_or([b' '; 16])
}

/// Returns the T10 vendor identification.
fn vendor(device: &Device<'_>) -> &'static [u8; 8] {
    match device.entry.kind {
        Kind::Sata => b"ATA     ",
        _ => b"BDWRAP  ",
    }
}

/// Standard data: VERSION and RESPONSE DATA FORMAT; bits of bytes 3, 5 (TPGS, 3PC) and 7.
const SPC_4: u8 = 0x06;
const FORMAT: u8 = 0x02;
const HISUP: u8 = 0x10;
const EXPLICIT_ALUA: u8 = 0x20;
const THIRD_PARTY_COPY: u8 = 0x08;
const CMDQUE: u8 = 0x02;

/// Version descriptors.
const SAM_5: u16 = 0x00a0;
const SPC_4_VERSION: u16 = 0x0460;
const SBC_3: u16 = 0x04c0;

/// Extended INQUIRY Data: bits of bytes 5 and 6.
const HEADSUP: u8 = 0x04;
const ORDSUP: u8 = 0x02;
const SIMPSUP: u8 = 0x01;
const V_SUP: u8 = 0x01;

/// Logical Block Provisioning: bits of byte 5, PROVISIONING TYPE.
const LBPU: u8 = 0x80;
const LBPWS: u8 = 0x40;
const LBPWS10: u8 = 0x20;
const LBPRZ: u8 = 0x04;
const THIN: u8 = 0x02;

/// Block Device Characteristics: blocks can be read after SANITIZE with BLOCK ERASE.
const WABEREQ_COMPLETES: u8 = 0x40;

/// Block Limits: the unmap granularity alignment is valid.
const UGAVALID: u32 = 0x8000_0000;

/// Designation descriptors (SPC-4, 7.8.6): PROTOCOL IDENTIFIER with CODE SET; PIV, ASSOCIATION and
/// DESIGNATOR TYPE.
const BINARY: u8 = 0x01;
const ASCII: u8 = 0x02;
const SAS: u8 = 0x60;
const PIV: u8 = 0x80;
const TARGET_PORT: u8 = 0x10;
const VENDOR_SPECIFIC: u8 = 0x00;
const T10_VENDOR_ID: u8 = 0x01;
const NAA: u8 = 0x03;
const RELATIVE_TARGET_PORT: u8 = 0x04;
const TARGET_PORT_GROUP: u8 = 0x05;

/// Builds the standard INQUIRY data.
pub fn standard(device: &Device<'_>, host: &impl Host, out: &mut Response) {
    let tpgs = if device.entry.kind == Kind::Scsi { EXPLICIT_ALUA } else { 0 };
    let copies = if has_reservations(device, host) { THIRD_PARTY_COPY } else { 0 };
    // A direct access block device whose medium is not removable.
    out.put(&[0x00, 0x00, SPC_4, HISUP | FORMAT, 0, tpgs | copies, 0, CMDQUE]);
    out.put(vendor(device));
    out.put(&product(device));
    out.put(identity::REVISION);
    out.fill(58);
    for version in [SAM_5, SPC_4_VERSION, SBC_3] {
        out.put(&version.to_be_bytes());
    }
    out.fill(96);
    out.set(4, &[96 - 5]);
}

/// The VPD pages; ATA Information, which sat.rs builds, only on an ATA disk, Third-party Copy only on a disk
/// that has the commands.
const PAGES: [u8; 9] = [0x00, 0x80, 0x83, 0x86, ATA_INFORMATION, THIRD_PARTY_COPY_PAGE, 0xb0, 0xb1, 0xb2];
/// See [`PAGES`].
pub const ATA_INFORMATION: u8 = 0x89;
/// See [`PAGES`].
const THIRD_PARTY_COPY_PAGE: u8 = 0x8f;

/// Builds a VPD page.
pub fn vpd_page(device: &Device<'_>, host: &impl Host, page: u8, out: &mut Response) -> CommandResult {
    out.put(&[0x00, page, 0, 0]);
    match page {
        0x00 => {
            let has_page = |page: u8| match page {
                ATA_INFORMATION => device.entry.kind == Kind::Sata,
                THIRD_PARTY_COPY_PAGE => has_reservations(device, host),
                _ => true,
            };
            PAGES.iter().filter(|&&page| has_page(page)).for_each(|&page| out.put(&[page]));
        }
        0x80 => out.put(&identity::serial(device.entry)),
        0x83 => identification(device, out),
        0x86 => {
            out.put(&[0, HEADSUP | ORDSUP | SIMPSUP, V_SUP]);
            out.fill(64);
        }
        THIRD_PARTY_COPY_PAGE if has_reservations(device, host) => third_party_copy(out),
        0xb0 => limits(device, host, out).map_err(Error::backing)?,
        // Block Device Characteristics: rotation rate and form factor are not reported.
        0xb1 => {
            out.fill(64);
            if has_reservations(device, host) && is_thin(host) {
                out.set(7, &[WABEREQ_COMPLETES]);
            }
        }
        0xb2 => {
            let provisioning = host.provisioning().map_err(Error::backing)?;
            let thin = (LBPU | LBPWS | LBPWS10 | LBPRZ, THIN);
            let (flags, provisioning_type) = if provisioning.is_thin { thin } else { (0, 0) };
            out.put(&[0, flags, provisioning_type, 0]);
        }
        _ => return Err(Sense::invalid_field_in_cdb(2, Some(7)).into()),
    }
    out.set_length::<2>(2);
    Ok(())
}

/// Builds Device Identification: the T10 vendor identification with product and serial number, and
/// the world-wide name.
#[inline(never)]
fn identification(device: &Device<'_>, out: &mut Response) {
    let serial = identity::serial(device.entry);
    let wwn = identity::wwn(device.entry);
    if device.entry.kind == Kind::Sata {
        // SAT-3, 10.3.4, with what libata adds: the serial number, the model with it, the
        // world-wide name.
        out.put(&[ASCII, VENDOR_SPECIFIC, 0, 20]);
        out.put(&serial);
        out.put(&[ASCII, T10_VENDOR_ID, 0, 68]);
        out.put(vendor(device));
        out.put(&identity::model(device.entry));
        out.put(&serial);
        out.put(&[BINARY, NAA, 0, 8]);
        out.put(&wwn.to_be_bytes());
        return;
    }
    out.put(&[BINARY, NAA, 0, 8]);
    out.put(&wwn.to_be_bytes());
    out.put(&[ASCII, T10_VENDOR_ID, 0, 44]);
    out.put(vendor(device));
    out.put(&product(device));
    out.put(&serial);
    let [port_high, port_low] = PORT;
    let relative_port = PIV | TARGET_PORT | RELATIVE_TARGET_PORT;
    out.put(&[SAS | BINARY, relative_port, 0, 4, 0, 0, port_high, port_low]);
    if device.entry.kind == Kind::Scsi {
        let [group_high, group_low] = GROUP;
        let group = PIV | TARGET_PORT | TARGET_PORT_GROUP;
        out.put(&[SAS | BINARY, group, 0, 4, 0, 0, group_high, group_low]);
    }
}

/// Builds Third-party Copy (SPC-4, 7.8.17): what the copy manager can do.
#[inline(never)]
fn third_party_copy(out: &mut Response) {
    let mut put = |kind: u16, length: u16, fields: &[&[u8]]| {
        let end = out.bytes().len().saturating_add(4).saturating_add(length.into());
        out.put(&kind.to_be_bytes());
        out.put(&length.to_be_bytes());
        fields.iter().for_each(|field| out.put(field));
        out.fill(end);
    };
    // Supported Commands: operation codes, and how many service actions they have, and these.
    put(0x0001, 8, &[&[7, 0x83, 1, 0x00, 0x84, 2, 0x00, 0x03]]);
    // Parameter Data.
    let [cscds, segments] = [MAX_CSCDS, MAX_SEGMENTS].map(u16::to_be_bytes);
    put(0x0004, 28, &[&[0; 4], &cscds, &segments, &MAX_COPY_DESCRIPTORS.to_be_bytes()]);
    // Supported Descriptors.
    put(0x0008, 4, &[&[COPY_DESCRIPTORS.len() as u8], &COPY_DESCRIPTORS]);
    // General Copy Operations.
    let copies = u32::from(MAX_COPIES).to_be_bytes();
    put(0x8001, 32, &[&copies, &copies, &MAX_SEGMENT_BYTES.to_be_bytes(), &[SEGMENT_GRANULARITY]]);
    // Held Data: none.
    put(0xc001, 28, &[]);
}

/// Builds Block Limits.
#[inline(never)]
fn limits(device: &Device<'_>, host: &impl Host, out: &mut Response) -> Result<(), Errno> {
    let block = device.logical_block(host)?;
    let blocks = |bytes: u64| u32::try_from(bytes.checked_div(block.into()).unwrap_or(0)).unwrap_or(u32::MAX);
    let longest = blocks(longest_transfer(host)?);
    let Provisioning { is_thin, granularity, alignment } = host.provisioning()?;
    // A WRITE SAME of length 0 goes to the end.
    out.put(&[0x00, MAX_COMPARE_AND_WRITE]);
    // Optimal transfer length granularity: a physical block.
    let granule = u16::try_from(blocks(device.physical_block(host)?.into())).unwrap_or(u16::MAX);
    out.put(&granule.to_be_bytes());
    let granules = blocks(granularity.into()).max(1);
    let unmap = [MAX_UNMAP_BLOCKS, MAX_UNMAP_DESCRIPTORS, granules, UGAVALID | blocks(alignment.into())];
    // No optimal transfer and maximum prefetch length.
    let [a, b, c, d] = if is_thin { unmap } else { [0; 4] };
    [longest, 0, 0, a, b, c, d].iter().for_each(|limit| out.put(&limit.to_be_bytes()));
    out.put(&MAX_WRITE_SAME.to_be_bytes());
    // SBC-4: the longest atomic write; its alignment and granularity are the shortest. There are no
    // atomic boundaries.
    if let Some((least, most)) = atomic_blocks(device, host) {
        [most, least, least].iter().for_each(|limit| out.put(&limit.to_be_bytes()));
    }
    out.fill(64);
    Ok(())
}
