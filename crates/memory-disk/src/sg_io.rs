//! SCSI commands through `SG_IO`.

use disk::request::SG_IO;
use disk::scsi::sense::Sense;
use disk::{Answer, Errno, Nexus, Settings};

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

/// The length of `struct sg_io_hdr`.
pub const HEADER_LENGTH: usize = 88;

/// The length of `struct iovec`.
const PIECE: usize = 16;

/// `SG_DXFER_NONE`
pub const NONE: i32 = -1;
/// `SG_DXFER_TO_DEV`
pub const TO_DEV: i32 = -2;
/// `SG_DXFER_FROM_DEV`
pub const FROM_DEV: i32 = -3;
/// `SG_DXFER_TO_FROM_DEV`
pub const TO_FROM_DEV: i32 = -4;

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

/// The fields of `struct sg_io_hdr` that a caller fills in.
#[derive(Clone, Debug)]
pub struct Header {
    /// interface_id
    pub interface: i32,
    /// dxfer_direction
    pub direction: i32,
    /// cmd_len
    pub cdb_length: u8,
    /// mx_sb_len
    pub sense_room: u8,
    /// iovec_count
    pub pieces: u16,
    /// dxfer_len
    pub length: u32,
    /// dxferp
    pub data: u64,
    /// cmdp
    pub cdb: u64,
    /// sbp
    pub sense: u64,
}

impl Header {
    /// The header of a command whose CDB, sense buffer and data stand at [`CDB`], [`SENSE`] and [`DATA`].
    pub fn new(cdb_length: usize, direction: i32, length: usize) -> Header {
        Header {
            interface: i32::from(b'S'),
            direction,
            cdb_length: cdb_length as u8,
            sense_room: 64,
            pieces: 0,
            length: length as u32,
            data: DATA,
            cdb: CDB,
            sense: SENSE,
        }
    }

    /// Returns the header as it stands in the caller's memory.
    pub fn bytes(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, &self.interface.to_ne_bytes());
        put(4, &self.direction.to_ne_bytes());
        put(8, &[self.cdb_length, self.sense_room]);
        put(10, &self.pieces.to_ne_bytes());
        put(12, &self.length.to_ne_bytes());
        put(16, &self.data.to_ne_bytes());
        put(24, &self.cdb.to_ne_bytes());
        put(32, &self.sense.to_ne_bytes());
        // timeout, flags, pack_id and usr_ptr go through unchanged.
        put(40, &5000u32.to_ne_bytes());
        put(44, &0x10u32.to_ne_bytes());
        put(48, &77i32.to_ne_bytes());
        put(56, &0x1234_5678_9abcu64.to_ne_bytes());
        // What the kernel fills in.
        put(64, &[POISON; HEADER_LENGTH - 64]);
        bytes
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
        Disk { host, entry: "/x=scsi", settings: Settings::new(), nexus: Nexus::new() }
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
        self.send(cdb, &Header::new(cdb.len(), NONE, 0))
    }

    /// Sends a command with a data-in buffer of this length.
    #[track_caller]
    pub fn read(&self, cdb: &[u8], room: usize) -> Reply {
        self.put(DATA, &vec![POISON; room + 64]);
        self.send(cdb, &Header::new(cdb.len(), FROM_DEV, room))
    }

    /// Sends a command with a data-out buffer.
    #[track_caller]
    pub fn write(&self, cdb: &[u8], data: &[u8]) -> Reply {
        self.put(DATA, data);
        self.send(cdb, &Header::new(cdb.len(), TO_DEV, data.len()))
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
        let header =
            Header { pieces: lengths.len() as u16, data: LIST, ..Header::new(cdb.len(), direction, length) };
        self.send(cdb, &header)
    }

    /// Writes the list of pieces of these lengths, and returns the address and length of each.
    pub fn lay_out(&self, lengths: &[usize]) -> Vec<(u64, u64)> {
        let mut at = DATA;
        let mut places = Vec::new();
        for (element, &length) in lengths.iter().enumerate() {
            let piece = [at.to_ne_bytes(), (length as u64).to_ne_bytes()].concat();
            self.put(LIST + (PIECE * element) as u64, &piece);
            places.push((at, length as u64));
            at += length as u64 + 16;
        }
        places
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
    pub fn send(&self, cdb: &[u8], header: &Header) -> Reply {
        self.try_send(cdb, header).expect("the request is right")
    }

    /// Sends a command, and checks what holds for every command.
    #[track_caller]
    pub fn try_send(&self, cdb: &[u8], header: &Header) -> Result<Reply, Errno> {
        self.put(CDB, cdb);
        self.put(SENSE, &[POISON; 256]);
        let sent = header.bytes();
        self.put(HEADER, &sent);
        let before = self.host.far.borrow().clone();
        let answer = self.ask(SG_IO, HEADER);
        let got = self.got(HEADER, HEADER_LENGTH);
        match answer {
            Answer::Value(0) => {}
            Answer::Error(errno) => {
                assert_eq!(got, sent, "an error leaves the header alone");
                return Err(errno);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(got[..64], sent[..64], "what the caller filled in stays");
        let [status, masked, message, sense_length] = got[64..68] else { unreachable!() };
        let half = |at: usize| u16::from_ne_bytes(got[at..at + 2].try_into().expect("two bytes"));
        let word = |at: usize| u32::from_ne_bytes(got[at..at + 4].try_into().expect("four bytes"));
        let (host_status, driver_status) = (half(68), half(70));
        let (resid, duration, info) = (word(72) as i32, word(76), word(80));
        assert_eq!(masked, status >> 1 & 0x1f);
        assert_eq!(message, 0);
        assert_eq!(driver_status, if status == CHECK_CONDITION { 8 } else { 0 });
        assert_eq!(info, u32::from(status != 0 || host_status != 0));
        assert!(status == CHECK_CONDITION || sense_length == 0);
        assert!(sense_length <= header.sense_room);
        if header.sense != SENSE {
            assert_eq!(sense_length, 0);
        }
        let sense = self.got(SENSE, 256);
        assert!(sense[sense_length.into()..].iter().all(|&byte| byte == POISON));

        let pieces = self.pieces(header);
        let room: u64 = pieces.iter().map(|(_, length)| length).sum();
        assert!((0..=room as i32).contains(&resid), "{resid} of {room}");
        let mut left =
            if header.direction == TO_DEV || host_status == ERROR { 0 } else { room - resid as u64 };
        let mut data = Vec::new();
        let mut expected = before;
        let mut keep = |address: u64, bytes: &[u8]| {
            let at = (address - FAR) as usize;
            expected[at..at + bytes.len()].copy_from_slice(bytes);
        };
        keep(HEADER, &got);
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
        Ok(Reply { status, host_status, resid, duration, sense: sense[..sense_length.into()].to_vec(), data })
    }

    /// Returns address and length of each piece of a header's buffer.
    fn pieces(&self, header: &Header) -> Vec<(u64, u64)> {
        let length = u64::from(header.length);
        if length == 0 {
            return vec![];
        }
        if header.pieces == 0 {
            return vec![(header.data, length)];
        }
        let mut left = length;
        let list = self.got(header.data, PIECE * usize::from(header.pieces));
        let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
        list.chunks(PIECE)
            .map(|piece| {
                let length = number(&piece[8..]).min(left);
                left -= length;
                (number(&piece[..8]), length)
            })
            .collect()
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
