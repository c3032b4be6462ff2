//! SCSI commands to a disk in memory, through `SG_IO`.

use super::{FAR, Fake, POISON};
use disk::ata::Registers;
use disk::request::SG_IO;
use disk::scsi::sense::{Field, Sense};
use disk::{Answer, Errno, State};

/// Where in the caller's memory the parts of a command stand.
pub const HEADER: u64 = FAR;
pub const CDB: u64 = FAR + 0x100;
pub const SENSE: u64 = FAR + 0x200;
pub const LIST: u64 = FAR + 0x400;
pub const DATA: u64 = FAR + 0x8000;

/// The length of `struct sg_io_hdr`.
pub const HEADER_LENGTH: usize = 88;

/// The length of a `struct iovec`.
const PIECE: usize = 16;

/// `SG_DXFER_NONE`, `SG_DXFER_TO_DEV`, `SG_DXFER_FROM_DEV`, `SG_DXFER_TO_FROM_DEV`
pub const NONE: i32 = -1;
pub const TO_DEV: i32 = -2;
pub const FROM_DEV: i32 = -3;
pub const TO_FROM_DEV: i32 = -4;

/// How much room there is for data at first; it grows with what is put there.
const DATA_ROOM: usize = 4096;

/// A disk in memory and who sends commands to it.
pub struct Disk {
    pub host: Fake,
    pub entry: &'static str,
    pub state: State,
}

/// The fields of a header that a caller fills in.
#[derive(Clone, Debug)]
pub struct Header {
    pub interface: i32,
    pub direction: i32,
    pub cdb_length: u8,
    pub sense_room: u8,
    pub pieces: u16,
    pub length: u32,
    pub data: u64,
    pub cdb: u64,
    pub sense: u64,
}

impl Header {
    /// For a CDB that stands at [`CDB`].
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

/// What a command came back with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u8,
    pub host_status: u16,
    pub resid: i32,
    pub duration: u32,
    /// As many bytes as were written.
    pub sense: Vec<u8>,
    /// What was moved from the disk, in the order of the list.
    pub data: Vec<u8>,
}

/// The status CHECK CONDITION and BUSY; the host status NO CONNECT and ERROR.
pub const CHECK_CONDITION: u8 = 2;
pub const BUSY: u8 = 8;
pub const NO_CONNECT: u16 = 1;
pub const ERROR: u16 = 7;

impl Reply {
    /// The data of a command that ended GOOD.
    #[track_caller]
    pub fn good(self) -> Vec<u8> {
        assert_eq!((self.status, self.host_status), (0, 0), "{:02x?}", self.sense);
        self.data
    }

    /// The sense data of a command that ended with CHECK CONDITION.
    #[track_caller]
    pub fn check(&self) -> Sense {
        assert_eq!((self.status, self.host_status), (CHECK_CONDITION, 0));
        parse_sense(&self.sense)
    }
}

/// Takes sense data apart, in both formats (SPC-4, 4.5.2 and 4.5.3).
#[track_caller]
pub fn parse_sense(bytes: &[u8]) -> Sense {
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    let field = |bytes: &[u8]| {
        (bytes[0] & 0x80 != 0).then(|| Field {
            in_cdb: bytes[0] & 0x40 != 0,
            byte: number(&bytes[1..3]) as u16,
            bit: (bytes[0] & 0x08 != 0).then_some(bytes[0] & 7),
        })
    };
    let code = |bytes: &[u8]| number(&bytes[..2]) as u16;
    match bytes[0] {
        0x70 | 0xf0 => {
            assert_eq!(bytes.len(), 18, "{bytes:02x?}");
            assert_eq!((bytes[1], bytes[7], &bytes[8..12], bytes[14]), (0, 10, &[0; 4][..], 0));
            let valid = bytes[0] & 0x80 != 0;
            let information = number(&bytes[3..7]);
            assert!(valid || information == 0, "{bytes:02x?}");
            Sense {
                key: bytes[2],
                code: code(&bytes[12..]),
                information: valid.then_some(information),
                field: field(&bytes[15..18]),
                descriptor: None,
            }
        }
        0x72 => {
            assert_eq!(bytes.len(), 8 + usize::from(bytes[7]), "{bytes:02x?}");
            let mut got = sense(bytes[1], code(&bytes[2..]));
            let mut rest = &bytes[8..];
            while let [kind, length, ..] = *rest {
                let (this, next) = rest.split_at(2 + usize::from(length));
                match (kind, length) {
                    (0, 10) => got.information = Some(number(&this[4..])),
                    (2, 6) => got.field = field(&this[4..]),
                    (9, 12) => got.descriptor = this.try_into().ok(),
                    _ => panic!("no such descriptor: {this:02x?}"),
                }
                rest = next;
            }
            got
        }
        _ => panic!("no sense data: {bytes:02x?}"),
    }
}

/// The registers of an ATA Status Return descriptor (SAT-3, 12.2.2.6), and whether they have their high bytes.
pub fn registers(sense: &Sense) -> Option<(Registers, bool)> {
    let [_, _, extended, error, count_high, count, d, a, e, b, f, c, device, status] = sense.descriptor?;
    let registers = Registers {
        status,
        error,
        count: u16::from_be_bytes([count_high, count]),
        lba: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        device,
    };
    Some((registers, extended & 1 != 0))
}

/// Sense data with nothing but a key and a code.
pub fn sense(key: u8, code: u16) -> Sense {
    Sense { key, code, information: None, field: None, descriptor: None }
}

/// INVALID FIELD IN CDB at a byte, with or without a bit.
pub fn cdb_field(byte: u16, bit: impl Into<Option<u8>>) -> Sense {
    Sense { field: Some(Field { in_cdb: true, byte, bit: bit.into() }), ..sense(5, 0x2400) }
}

/// INVALID FIELD IN PARAMETER LIST.
pub fn list_field(byte: u16, bit: impl Into<Option<u8>>) -> Sense {
    Sense { field: Some(Field { in_cdb: false, byte, bit: bit.into() }), ..sense(5, 0x2600) }
}

impl Disk {
    /// A disk that holds what is given, and a caller who may do anything.
    pub fn new(content: Vec<u8>) -> Disk {
        Disk::on(Fake::with_content(content))
    }

    pub fn on(host: Fake) -> Disk {
        host.far.borrow_mut().resize((DATA - FAR) as usize + DATA_ROOM, POISON);
        Disk { host, entry: "/x=scsi", state: State::new() }
    }

    /// Puts bytes somewhere in the caller's memory.
    pub fn put(&self, address: u64, bytes: &[u8]) {
        let at = (address - FAR) as usize;
        let mut memory = self.host.far.borrow_mut();
        let end = memory.len().max(at + bytes.len());
        memory.resize(end, POISON);
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Bytes of the caller's memory.
    pub fn got(&self, address: u64, length: usize) -> Vec<u8> {
        let at = (address - FAR) as usize;
        self.host.far.borrow()[at..at + length].to_vec()
    }

    /// A command without data.
    #[track_caller]
    pub fn none(&self, cdb: &[u8]) -> Reply {
        self.send(cdb, &Header::new(cdb.len(), NONE, 0))
    }

    /// A command that asks for data, with so much room for it.
    #[track_caller]
    pub fn read(&self, cdb: &[u8], room: usize) -> Reply {
        self.put(DATA, &vec![POISON; room + 64]);
        self.send(cdb, &Header::new(cdb.len(), FROM_DEV, room))
    }

    /// A command that brings data.
    #[track_caller]
    pub fn write(&self, cdb: &[u8], data: &[u8]) -> Reply {
        self.put(DATA, data);
        self.send(cdb, &Header::new(cdb.len(), TO_DEV, data.len()))
    }

    /// A command whose data stands in pieces of these lengths, with gaps between them. Data from the disk comes back
    /// joined; what brings data, brings `data`.
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

    /// Writes a list of pieces of these lengths, each behind the one before it and a gap.
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

    /// Sends a command that comes back.
    #[track_caller]
    pub fn send(&self, cdb: &[u8], header: &Header) -> Reply {
        self.try_send(cdb, header).expect("the request is right")
    }

    /// Sends a command and checks all that holds for every one.
    #[track_caller]
    pub fn try_send(&self, cdb: &[u8], header: &Header) -> Result<Reply, Errno> {
        self.put(CDB, cdb);
        self.put(SENSE, &[POISON; 256]);
        let sent = header.bytes();
        self.put(HEADER, &sent);
        let before = self.host.far.borrow().clone();
        let answer = self.host.ask_at(self.entry, &self.state, SG_IO, HEADER);
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

    /// The places that a header's data has.
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

/// A CDB with a logical block address and a number of blocks, of the length that its operation code's group has. Flags go
/// into byte 1.
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

/// An UNMAP and its parameter list: first block and number of blocks of each descriptor.
pub fn unmap(ranges: &[(u64, u32)]) -> (Vec<u8>, Vec<u8>) {
    let length = 16 * ranges.len() as u16;
    let mut list = [&(length + 6).to_be_bytes()[..], &length.to_be_bytes(), &[0; 4]].concat();
    for (block, blocks) in ranges {
        list.extend([&block.to_be_bytes()[..], &blocks.to_be_bytes(), &[0; 4]].concat());
    }
    (unmap_cdb(length + 8), list)
}

/// An UNMAP with a parameter list of this length.
pub fn unmap_cdb(length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    vec![0x42, 0, 0, 0, 0, 0, 0, high, low, 0]
}
