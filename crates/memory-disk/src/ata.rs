//! ATA commands by every request that carries them.

use disk::abi::{Abi, IdeTaskRequest};
use disk::ata::Registers;
use disk::ata::command::Protocol;
use disk::request::{HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE};
use disk::{Answer, Errno};
use zerocopy::IntoBytes;

use crate::host::{FAR, POISON};
use crate::sense::registers;
use crate::sg_io::{CHECK_CONDITION, DATA, Disk, FROM_DEV, NONE, Reply, TO_DEV, sg_io_hdr};

/// A request that carries an ATA command to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `HDIO_DRIVE_CMD`
    Cmd,
    /// `HDIO_DRIVE_TASK`
    Task,
    /// `HDIO_DRIVE_TASKFILE`
    Taskfile,
    /// ATA PASS-THROUGH(12)
    Twelve,
    /// ATA PASS-THROUGH(16)
    Sixteen,
}

/// The ways that each kind of disk has.
pub const WAYS: [(&str, &[Way]); 2] = [
    ("/x=ide", &[Way::Cmd, Way::Task, Way::Taskfile]),
    ("/x=sata", &[Way::Cmd, Way::Task, Way::Twelve, Way::Sixteen]),
];

/// The way of each kind of disk that carries every command.
pub const WHOLE: [(&str, Way); 2] = [("/x=ide", Way::Taskfile), ("/x=sata", Way::Sixteen)];

/// DEVICE: the address is an LBA.
pub const LBA: u8 = 0x40;

/// The signature of SMART in LBA mid and high.
pub const SMART_SIGNATURE: u64 = 0xc2_4f00;

/// STATUS and ERROR of a command that succeeded.
pub const DONE: (u8, u8) = (0x50, 0x00);
/// STATUS and ERROR of a command that was aborted.
pub const ABORTED: (u8, u8) = (0x51, 0x04);
/// STATUS and ERROR: ID NOT FOUND.
pub const NOT_FOUND: (u8, u8) = (0x51, 0x10);
/// STATUS and ERROR: UNCORRECTABLE ERROR.
pub const UNREADABLE: (u8, u8) = (0x51, 0x40);
/// STATUS and ERROR: DEVICE FAULT.
pub const FAULT: (u8, u8) = (0x71, 0x04);

/// A command, and the buffer that the caller offers for its data.
#[derive(Clone, Debug)]
pub struct Ata {
    /// COMMAND
    pub command: u8,
    /// FEATURES
    pub features: u16,
    /// COUNT
    pub count: u16,
    /// LBA
    pub lba: u64,
    /// DEVICE
    pub device: u8,
    /// The protocol.
    pub protocol: Protocol,
    /// EXTEND of ATA PASS-THROUGH(16)
    pub extended: bool,
    /// The length of the data-in buffer.
    pub room: usize,
    /// The data-out buffer.
    pub data: Vec<u8>,
}

impl Ata {
    /// A command without data.
    pub fn new(command: u8) -> Ata {
        Ata {
            command,
            features: 0,
            count: 0,
            lba: 0,
            device: 0,
            protocol: Protocol::NonData,
            extended: false,
            room: 0,
            data: Vec::new(),
        }
    }

    /// A data-in command.
    pub fn gives(command: u8, protocol: Protocol, room: usize) -> Ata {
        Ata { protocol, room, ..Ata::new(command) }
    }

    /// A data-out command.
    pub fn takes(command: u8, protocol: Protocol, data: Vec<u8>) -> Ata {
        Ata { protocol, data, ..Ata::new(command) }
    }

    /// The command on these blocks, by their 28-bit or 48-bit address.
    pub fn on(self, first: u64, count: u16) -> Ata {
        if self.extended {
            return Ata { lba: first, count, device: LBA, ..self };
        }
        Ata { lba: first & 0xff_ffff, device: LBA | (first >> 24) as u8, count, ..self }
    }

    /// The command with 48-bit registers.
    pub fn wide(self) -> Ata {
        Ata { extended: true, ..self }
    }

    fn length(&self) -> usize {
        self.room.max(self.data.len())
    }

    /// Returns whether a way can carry the command.
    pub fn goes(&self, way: Way) -> bool {
        let is_short = self.features < 0x100 && self.count < 0x100 && self.lba < 1 << 24 && !self.extended;
        let no_data = self.protocol == Protocol::NonData && self.length() == 0;
        match way {
            Way::Cmd => {
                let sectors = self.room / 512;
                let pio = self.protocol == Protocol::PioIn && sectors > 0 && sectors < 256;
                let registers = match self.command {
                    0xb0 => self.lba >> 8 == 0xc24f && usize::from(self.count) == sectors,
                    _ => self.lba == 0,
                };
                is_short && self.device == 0 && registers && (no_data || pio)
            }
            Way::Task => is_short && no_data,
            Way::Taskfile => self.length() <= 65536 && (no_data || self.length() > 0),
            Way::Twelve => is_short,
            Way::Sixteen => is_short || self.extended,
        }
    }

    /// Returns `struct ide_task_request`, without flags, and the data behind it.
    pub fn taskfile(&self) -> Vec<u8> {
        let [low, mid, high, d, e, f, ..] = self.lba.to_le_bytes();
        let [features, features_high] = self.features.to_le_bytes();
        let [count, count_high] = self.count.to_le_bytes();
        // TASKFILE_… and IDE_DRIVE_TASK_…
        let (data_phase, req_cmd) = match self.protocol {
            Protocol::NonData => (0, 0),
            Protocol::PioIn => (0x01, 2),
            Protocol::PioOut => (0x04, 3),
            Protocol::DmaIn => (0x20, 2),
            Protocol::DmaOut => (0x40, 4),
        };
        let request = IdeTaskRequest {
            io_ports: [0, features, count, low, mid, high, self.device, self.command],
            hob_ports: [0, features_high, count_high, d, e, f, 0, 0],
            data_phase,
            req_cmd,
            out_size: self.data.len() as u64,
            in_size: self.room as u64,
            ..IdeTaskRequest::default()
        };
        let mut bytes = [request.as_bytes(), &self.data].concat();
        bytes.resize(bytes.len() + self.room, POISON);
        bytes
    }

    /// Returns the CDB of an ATA PASS-THROUGH with CK_COND, and with T_LENGTH 3: as much data as the buffer holds.
    pub fn cdb(&self, way: Way) -> Vec<u8> {
        let (protocol, flags) = match self.protocol {
            Protocol::NonData => (3, 0x20),
            Protocol::PioIn => (4, 0x2b),
            Protocol::PioOut => (5, 0x23),
            Protocol::DmaIn => (6, 0x2b),
            Protocol::DmaOut => (6, 0x23),
        };
        self.pass_through(way, protocol, flags)
    }

    /// Returns the CDB of an ATA PASS-THROUGH with this PROTOCOL and these flags in byte 2.
    pub fn pass_through(&self, way: Way, protocol: u8, flags: u8) -> Vec<u8> {
        let [low, mid, high, d, e, f, ..] = self.lba.to_le_bytes();
        let [features, features_high] = self.features.to_le_bytes();
        let [count, count_high] = self.count.to_le_bytes();
        let how = protocol << 1 | u8::from(self.extended);
        let (device, command) = (self.device, self.command);
        match way {
            Way::Twelve => vec![0xa1, how, flags, features, count, low, mid, high, device, command, 0, 0],
            _ => [
                [0x85, how, flags, features_high, features, count_high, count, d],
                [low, e, mid, f, high, device, command, 0],
            ]
            .concat(),
        }
    }

    /// Returns the registers of a command that leaves nothing in them: as they were, with the obsolete bits of DEVICE and without
    /// its bit for the second disk of a cable.
    pub fn leaves(&self, (status, error): (u8, u8)) -> Registers {
        let device = self.device & 0x4f | 0xa0;
        Registers { status, error, count: self.count, lba: self.lba, device }
    }
}

/// SET FEATURES
pub fn set_features(features: u16, count: u16) -> Ata {
    Ata { features, count, ..Ata::new(0xef) }
}

/// SET MULTIPLE MODE
pub fn set_multiple_mode(count: u16) -> Ata {
    Ata { count, ..Ata::new(0xc6) }
}

/// DATA SET MANAGEMENT with TRIM, of these LBAs and numbers of blocks.
pub fn trim(ranges: &[(u64, u16)]) -> Ata {
    let mut data: Vec<u8> =
        ranges.iter().flat_map(|&(first, blocks)| (first | u64::from(blocks) << 48).to_le_bytes()).collect();
    data.resize(data.len().next_multiple_of(512), 0);
    let count = (data.len() / 512) as u16;
    Ata { features: 1, count, device: LBA, ..Ata::takes(0x06, Protocol::DmaOut, data).wide() }
}

/// What a command ends with.
#[derive(Clone, Debug)]
pub struct Got {
    /// The way it took.
    pub way: Way,
    /// The result of the request.
    pub result: Result<(), Errno>,
    /// The registers, and which of their bits the way shows.
    pub registers: Option<(Registers, Registers)>,
    /// The data-in buffer.
    pub data: Vec<u8>,
    /// What ATA PASS-THROUGH ended with.
    pub reply: Option<Reply>,
}

impl Got {
    /// Checks the registers as far as the way shows them, and that the result of the request goes with them.
    #[track_caller]
    pub fn holds(&self, expected: Registers) {
        let failed = expected.status & 0x21 != 0;
        if let Some((got, seen)) = self.registers {
            let masked = Registers {
                status: expected.status & seen.status,
                error: expected.error & seen.error,
                count: expected.count & seen.count,
                lba: expected.lba & seen.lba,
                device: expected.device & seen.device,
            };
            assert_eq!(got, masked, "{:?}", self.way);
        }
        if self.reply.is_none() {
            assert_eq!(self.result, if failed { Err(Errno::EIO) } else { Ok(()) }, "{:?}", self.way);
        }
    }
}

impl Disk {
    /// Sends an ATA command.
    #[track_caller]
    pub fn ata(&self, way: Way, command: &Ata) -> Got {
        assert!(command.goes(way), "{way:?} {command:x?}");
        match way {
            Way::Cmd => self.drive_cmd(command),
            Way::Task => self.drive_task(command),
            Way::Taskfile => self.drive_taskfile(command),
            Way::Twelve | Way::Sixteen => self.pass_through(way, command),
        }
    }

    /// Sends an `HDIO_…` request with these bytes at its argument, and returns them as they are afterwards.
    #[track_caller]
    pub fn hdio(&self, request: u32, bytes: &[u8]) -> (Result<(), Errno>, Vec<u8>) {
        self.put(DATA, &[bytes, &[POISON; 64]].concat());
        let before = self.host.far.borrow().clone();
        let answer = self.ask(request, DATA);
        let got = self.got(DATA, bytes.len());
        let mut expected = before;
        expected[(DATA - FAR) as usize..][..bytes.len()].copy_from_slice(&got);
        assert!(*self.host.far.borrow() == expected, "nothing beside the argument changes");
        assert!(self.host.untouched());
        match answer {
            Answer::Value(0) => (Ok(()), got),
            Answer::Error(errno) => (Err(errno), got),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn drive_cmd(&self, command: &Ata) -> Got {
        let &Ata { command: code, features, count, lba, .. } = command;
        let sectors = (command.room / 512) as u8;
        let second = if code == 0xb0 { lba as u8 } else { count as u8 };
        let mut bytes = vec![code, second, features as u8, sectors];
        bytes.resize(4 + 512 * usize::from(sectors), POISON);
        let (result, got) = self.hdio(HDIO_DRIVE_CMD, &bytes);
        let none = Registers { status: 0, error: 0, count: 0, lba: 0, device: 0 };
        let registers = Registers { status: got[0], error: got[1], count: got[2].into(), ..none };
        let seen = Registers { status: 0xff, error: 0xff, count: 0xff, ..none };
        // libata says nothing of registers beside data, nor of a command that failed.
        let shown = self.entry.contains("ide") || sectors == 0 && result.is_ok();
        if !shown {
            assert_eq!(got[..4], bytes[..4]);
        }
        assert_eq!(got[3], sectors);
        let data = got[4..].to_vec();
        Got { way: Way::Cmd, result, registers: shown.then_some((registers, seen)), data, reply: None }
    }

    #[track_caller]
    fn drive_task(&self, command: &Ata) -> Got {
        let [low, mid, high, ..] = command.lba.to_le_bytes();
        let &Ata { command: code, features, count, device, .. } = command;
        let bytes = [code, features as u8, count as u8, low, mid, high, device];
        let (result, got) = self.hdio(HDIO_DRIVE_TASK, &bytes);
        let registers = Registers {
            status: got[0],
            error: got[1],
            count: got[2].into(),
            lba: u32::from_le_bytes([got[3], got[4], got[5], 0]).into(),
            device: got[6],
        };
        let seen = Registers { status: 0xff, error: 0xff, count: 0xff, lba: 0xff_ffff, device: 0xff };
        let shown = self.entry.contains("ide") || result.is_ok();
        if !shown {
            assert_eq!(got, bytes);
        }
        let registers = shown.then_some((registers, seen));
        Got { way: Way::Task, result, registers, data: Vec::new(), reply: None }
    }

    #[track_caller]
    fn drive_taskfile(&self, command: &Ata) -> Got {
        let bytes = command.taskfile();
        let (result, got) = self.hdio(HDIO_DRIVE_TASKFILE, &bytes);
        let [given, back]: [IdeTaskRequest; 2] = [&bytes, &got].map(|bytes| Abi::Native.parse(bytes));
        let [_, error, count, low, mid, high, device, status] = back.io_ports;
        let [_, hob_error, count_high, d, e, f, ..] = back.hob_ports;
        let registers = Registers {
            status,
            error,
            count: u16::from_le_bytes([count, count_high]),
            lba: u64::from_le_bytes([low, mid, high, d, e, f, 0, 0]),
            device,
        };
        let all = Registers { status: 0xff, error: 0xff, count: 0xffff, lba: !0, device: 0xff };
        // A command that did not come to its end leaves all as it was.
        let ended = result.is_ok() || back.io_ports[1..] != given.io_ports[1..];
        // DATA and what does not come from registers; ERROR is read beside the high bytes once more.
        assert_eq!((back.io_ports[0], back.hob_ports[0]), (given.io_ports[0], given.hob_ports[0]));
        assert_eq!(hob_error, if ended { error } else { given.hob_ports[1] });
        assert_eq!(back.hob_ports[6..], given.hob_ports[6..]);
        let (io_ports, hob_ports) = (back.io_ports, back.hob_ports);
        assert_eq!(back, IdeTaskRequest { io_ports, hob_ports, ..given });
        let got = &got[size_of::<IdeTaskRequest>()..];
        assert_eq!(got[..command.data.len()], command.data);
        let data = got[command.data.len()..].to_vec();
        Got { way: Way::Taskfile, result, registers: ended.then_some((registers, all)), data, reply: None }
    }

    #[track_caller]
    fn pass_through(&self, way: Way, command: &Ata) -> Got {
        let cdb = command.cdb(way);
        let (direction, length) = match command.protocol {
            Protocol::NonData => (NONE, 0),
            Protocol::PioIn | Protocol::DmaIn => (FROM_DEV, command.room),
            Protocol::PioOut | Protocol::DmaOut => (TO_DEV, command.data.len()),
        };
        self.put(DATA, &[&command.data[..], &vec![POISON; command.room + 64]].concat());
        let result = self.try_send(&cdb, &sg_io_hdr(cdb.len(), direction, length));
        let data = self.got(DATA, command.room);
        let (result, reply) = match result {
            Ok(reply) => (Ok(()), Some(reply)),
            Err(errno) => (Err(errno), None),
        };
        let registers = reply.as_ref().filter(|reply| reply.status == CHECK_CONDITION).and_then(|reply| {
            let (registers, extended) = registers(&reply.check())?;
            assert_eq!(extended, command.extended);
            assert_eq!(reply.sense.len(), 22);
            let (count, lba) = if extended { (0xffff, 0xffff_ffff_ffff) } else { (0xff, 0xff_ffff) };
            Some((registers, Registers { status: 0xff, error: 0xff, count, lba, device: 0xff }))
        });
        Got { way, result, registers, data, reply }
    }
}
