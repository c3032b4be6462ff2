//! SCSI commands through `SG_IO`.

pub use disk::abi::{
    SG_DXFER_FROM_DEV as FROM_DEV, SG_DXFER_NONE as NONE, SG_DXFER_TO_DEV as TO_DEV,
    SG_DXFER_TO_FROM_DEV as TO_FROM_DEV, SgIoHdr,
};
use disk::host::Segment;
use disk::request::SG_IO;
use disk::scsi::sense::Sense;
use disk::{Abi, Answer, Caller, Errno, Nexus, Settings};

use crate::host::{FAR, MemoryHost, POISON};
use crate::sense::parse_sense;

/// The address of the header.
pub const HEADER: u64 = FAR;
/// The address of the CDB.
pub const CDB: u64 = FAR + 0x100;
/// The address of the sense buffer.
pub const SENSE: u64 = FAR + 0x200;
/// The address of a scatter-gather list.
pub const LIST: u64 = FAR + 0x400;
/// The address of the data buffer.
pub const DATA: u64 = FAR + 0x8000;

/// The room for data at first; it grows with what is put there.
const DATA_ROOM: usize = 4096;

/// A listed device in memory, and the caller that sends it requests.
pub struct Disk {
    /// The engine.
    pub host: MemoryHost,
    /// The entry of the device.
    pub entry: &'static str,
    /// What requests have set.
    pub settings: Settings,
    /// The I_T nexus that commands are sent through.
    pub nexus: Nexus,
}

/// Returns the header of a command whose CDB, sense buffer and data stand at [`CDB`], [`SENSE`] and [`DATA`].
pub fn sg_io_hdr(cdb_length: usize, direction: i32, length: usize) -> SgIoHdr {
    SgIoHdr {
        interface_id: SgIoHdr::INTERFACE,
        dxfer_direction: direction,
        cmd_len: cdb_length as u8,
        mx_sb_len: 64,
        iovec_count: 0,
        dxfer_len: length as u32,
        dxferp: DATA,
        cmdp: CDB,
        sbp: SENSE,
        // These go through unchanged.
        timeout: 5000,
        flags: 0x10,
        pack_id: 77,
        usr_ptr: 0x1234_5678,
        // What the kernel fills in.
        ..Abi::Native.parse(&[POISON; size_of::<SgIoHdr>()])
    }
}

/// What a command ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The SCSI status.
    pub status: u8,
    /// The host status.
    pub host_status: u16,
    /// The residual.
    pub resid: i32,
    /// The duration in milliseconds.
    pub duration: u32,
    /// The sense data.
    pub sense: Vec<u8>,
    /// The data from the disk, joined in the order of the list.
    pub data: Vec<u8>,
}

/// The SCSI status CHECK CONDITION.
pub const CHECK_CONDITION: u8 = 2;
/// The SCSI status BUSY.
pub const BUSY: u8 = 8;
/// The SCSI status RESERVATION CONFLICT.
pub const RESERVATION_CONFLICT: u8 = 0x18;
/// The host status `DID_NO_CONNECT`.
pub const NO_CONNECT: u16 = 1;
/// The host status `DID_ERROR`.
pub const ERROR: u16 = 7;

impl Reply {
    /// Returns the data of a command that ended with GOOD.
    #[track_caller]
    pub fn good(self) -> Vec<u8> {
        assert_eq!((self.status, self.host_status), (0, 0), "{:02x?}", self.sense);
        self.data
    }

    /// Checks that the command ended with RESERVATION CONFLICT, and that no data was transferred.
    #[track_caller]
    pub fn conflict(&self) {
        assert_eq!((self.status, self.host_status), (RESERVATION_CONFLICT, 0), "{:02x?}", self.sense);
    }

    /// Returns the sense data of a command that ended with CHECK CONDITION.
    #[track_caller]
    pub fn check(&self) -> Sense {
        assert_eq!((self.status, self.host_status), (CHECK_CONDITION, 0));
        parse_sense(&self.sense)
    }
}

impl Disk {
    /// A SCSI disk with this content, and a caller that may do anything.
    pub fn new(content: Vec<u8>) -> Disk {
        Disk::on(MemoryHost::with_content(content))
    }

    /// A SCSI disk on this host.
    pub fn on(host: MemoryHost) -> Disk {
        host.far.borrow_mut().resize((DATA - FAR) as usize + DATA_ROOM, POISON);
        Disk { host, entry: "/x=scsi", settings: Settings::default(), nexus: Nexus::default() }
    }

    /// Puts bytes into the caller's memory, from [`FAR`] on.
    pub fn put(&self, address: u64, bytes: &[u8]) {
        let at = (address - FAR) as usize;
        let mut memory = self.host.far.borrow_mut();
        let end = memory.len().max(at + bytes.len());
        memory.resize(end, POISON);
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Returns bytes of the caller's memory, from [`FAR`] on.
    pub fn got(&self, address: u64, length: usize) -> Vec<u8> {
        let at = (address - FAR) as usize;
        self.host.far.borrow()[at..at + length].to_vec()
    }

    /// Sends a request with any argument.
    pub fn ask(&self, request: u32, argument: u64) -> Answer {
        self.host.ask_through(&self.nexus, self.entry, &self.settings, request, argument)
    }

    /// Sends a command without data.
    #[track_caller]
    pub fn none(&self, cdb: &[u8]) -> Reply {
        self.send(cdb, &sg_io_hdr(cdb.len(), NONE, 0))
    }

    /// Sends a command with a data-in buffer of this length.
    #[track_caller]
    pub fn read(&self, cdb: &[u8], room: usize) -> Reply {
        self.put(DATA, &vec![POISON; room + 64]);
        self.send(cdb, &sg_io_hdr(cdb.len(), FROM_DEV, room))
    }

    /// Sends a command with a data-out buffer.
    #[track_caller]
    pub fn write(&self, cdb: &[u8], data: &[u8]) -> Reply {
        self.put(DATA, data);
        self.send(cdb, &sg_io_hdr(cdb.len(), TO_DEV, data.len()))
    }

    /// Sends a command whose buffer is a scatter-gather list of pieces of these lengths, with gaps between them; `data` fills
    /// them from the first one on.
    #[track_caller]
    pub fn list(&self, cdb: &[u8], direction: i32, lengths: &[usize], data: &[u8]) -> Reply {
        let places = self.lay_out(lengths);
        let mut rest = data;
        for &(address, length) in &places {
            self.put(address, &vec![POISON; length as usize]);
            let (now, later) = rest.split_at(rest.len().min(length as usize));
            self.put(address, now);
            rest = later;
        }
        let length = lengths.iter().sum();
        let header = SgIoHdr {
            iovec_count: lengths.len() as u16,
            dxferp: LIST,
            ..sg_io_hdr(cdb.len(), direction, length)
        };
        self.send(cdb, &header)
    }

    /// Writes the list of pieces of these lengths, and returns the address and length of each.
    pub fn lay_out(&self, lengths: &[usize]) -> Vec<(u64, u64)> {
        let mut at = DATA;
        let mut places = Vec::new();
        // The caller's own doing: no copy that it could be gone at.
        let copies_left = self.host.copies_left.take();
        for (element, &length) in lengths.iter().enumerate() {
            let segment = Segment { address: at, length: length as u64 };
            self.host.store(self.element(LIST, element), segment).expect("it is there");
            places.push((at, length as u64));
            at += length as u64 + 16;
        }
        self.host.copies_left.set(copies_left);
        places
    }

    /// Returns the address of an element of a scatter-gather list.
    fn element(&self, list: u64, element: usize) -> u64 {
        list + (self.host.abi.size_of::<Segment>() * element) as u64
    }

    /// Turns the write cache off with MODE SELECT.
    #[track_caller]
    pub fn disable_write_cache(&self) {
        let mut list = vec![0; 4];
        list.extend(self.read(&[0x1a, 0x08, 0x08, 0, 255, 0], 255).good().split_off(4));
        list[6] &= !0x04;
        self.write(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list).good();
    }

    /// Sends a command, and expects that the request itself does not fail.
    #[track_caller]
    pub fn send(&self, cdb: &[u8], header: &SgIoHdr) -> Reply {
        self.try_send(cdb, header).expect("the request is right")
    }

    /// Sends a command, and checks what holds for every command.
    #[track_caller]
    pub fn try_send(&self, cdb: &[u8], header: &SgIoHdr) -> Result<Reply, Errno> {
        self.put(CDB, cdb);
        self.put(SENSE, &[POISON; 256]);
        self.host.store(HEADER, *header).expect("it is there");
        let sent: SgIoHdr = self.host.fetch(HEADER).expect("it is there");
        let before = self.host.far.borrow().clone();
        let answer = self.ask(SG_IO, HEADER);
        let size = self.host.abi.size_of::<SgIoHdr>();
        match answer {
            Answer::Value(0) => {}
            Answer::Error(errno) => {
                assert_eq!(self.host.fetch(HEADER), Ok(sent), "an error leaves the header alone");
                return Err(errno);
            }
            other => panic!("{other:?}"),
        }
        let got: SgIoHdr = self.host.fetch(HEADER).expect("it is there");
        let SgIoHdr { status, sb_len_wr, host_status, resid, duration, .. } = got;
        let filled_in = SgIoHdr {
            status,
            masked_status: status >> 1 & 0x1f,
            msg_status: 0,
            sb_len_wr,
            host_status,
            driver_status: if status == CHECK_CONDITION { 8 } else { 0 },
            resid,
            duration,
            info: u32::from(status != 0 || host_status != 0),
            ..sent
        };
        assert_eq!(got, filled_in, "what the caller filled in stays");
        assert!(status == CHECK_CONDITION || sb_len_wr == 0);
        assert!(sb_len_wr <= header.mx_sb_len);
        if header.sbp != SENSE {
            assert_eq!(sb_len_wr, 0);
        }
        let sense = self.got(SENSE, 256);
        assert!(sense[sb_len_wr.into()..].iter().all(|&byte| byte == POISON));

        let pieces = self.pieces(header);
        let room: u64 = pieces.iter().map(|(_, length)| length).sum();
        assert!((0..=room as i32).contains(&resid), "{resid} of {room}");
        let mut left =
            if header.dxfer_direction == TO_DEV || host_status == ERROR { 0 } else { room - resid as u64 };
        let mut data = Vec::new();
        let mut expected = before;
        let mut keep = |address: u64, bytes: &[u8]| {
            let at = (address - FAR) as usize;
            expected[at..at + bytes.len()].copy_from_slice(bytes);
        };
        keep(HEADER, &self.got(HEADER, size));
        keep(SENSE, &sense);
        for (address, length) in pieces {
            let now = left.min(length);
            if now == 0 {
                continue;
            }
            let part = self.got(address, now as usize);
            keep(address, &part);
            data.extend_from_slice(&part);
            left -= now;
        }
        assert!(*self.host.far.borrow() == expected, "nothing else of the caller's memory changes");
        Ok(Reply { status, host_status, resid, duration, sense: sense[..sb_len_wr.into()].to_vec(), data })
    }

    /// Returns address and length of each piece of a header's buffer.
    fn pieces(&self, header: &SgIoHdr) -> Vec<(u64, u64)> {
        let length = u64::from(header.dxfer_len);
        if length == 0 {
            return vec![];
        }
        if header.iovec_count == 0 {
            return vec![(header.dxferp, length)];
        }
        let mut left = length;
        let pieces = (0..header.iovec_count.into()).map(|element| {
            let element = self.element(header.dxferp, element);
            let Segment { address, length } = self.host.fetch(element).expect("it is there");
            let length = length.min(left);
            left -= length;
            (address, length)
        });
        pieces.collect()
    }
}

/// Returns a CDB with an LBA and a transfer length, as its operation code's group lays it out; flags go into byte 1.
pub fn blocks_cdb(code: u8, flags: u8, block: u64, blocks: u64) -> Vec<u8> {
    let (block, blocks) = (block.to_be_bytes(), blocks.to_be_bytes());
    match code {
        0x00..0x20 => vec![code, flags | block[5] & 0x1f, block[6], block[7], blocks[7], 0],
        0x20..0x60 => [&[code, flags], &block[4..], &[0], &blocks[6..], &[0]].concat(),
        // COMPARE AND WRITE
        0x89 => [&[code, flags], &block[..], &[0, 0, 0, blocks[7], 0, 0]].concat(),
        0x80..0xa0 => [&[code, flags], &block[..], &blocks[4..], &[0, 0]].concat(),
        _ => [&[code, flags], &block[4..], &blocks[4..], &[0, 0]].concat(),
    }
}

/// Returns the CDB of an UNMAP, and its parameter list of these LBAs and numbers of blocks.
pub fn unmap(ranges: &[(u64, u32)]) -> (Vec<u8>, Vec<u8>) {
    let length = 16 * ranges.len() as u16;
    let mut list = [&(length + 6).to_be_bytes()[..], &length.to_be_bytes(), &[0; 4]].concat();
    for (block, blocks) in ranges {
        list.extend([&block.to_be_bytes()[..], &blocks.to_be_bytes(), &[0; 4]].concat());
    }
    (unmap_cdb(length + 8), list)
}

/// Returns the CDB of an UNMAP with a parameter list of this length.
pub fn unmap_cdb(length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    vec![0x42, 0, 0, 0, 0, 0, 0, high, low, 0]
}
