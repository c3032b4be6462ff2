//! The caller's memory that is recorded with a request: no user data, no data of unknown commands.

use core::slice;

use super::record::{Header, MOST_DATA, PARTS};
use crate::abi::{Abi, IdeTaskRequest, ScsiIoctlCommand, SgIoHdr};
use crate::ata::command::Command;
use crate::ata::{self, Taskfile};
use crate::bytes::copy;
use crate::errno::Errno;
use crate::host::{Host, Segment};
use crate::ioctl::request::{
    Argument, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, HDIO_GET_IDENTITY,
    SCSI_IOCTL_SEND_COMMAND, SG_IO, find, meant,
};
use crate::ioctl::sg_io::MAX_CDB;
use crate::ioctl::{hdio_drive, sg_io};
use crate::sat;
use crate::scsi::command::{self, DataPhase};
use crate::scsi::task::Direction;

/// The longest input that is recorded, in bytes.
const MAX_INPUT: usize = size_of::<SgIoHdr>();
/// The offset of the CDB of `SCSI_IOCTL_SEND_COMMAND`.
const SEND_COMMAND_CDB: usize = size_of::<ScsiIoctlCommand>();

/// The most elements of a scatter-gather list that are recorded.
const MAX_SEGMENTS: usize = 8;

/// The caller's memory that goes with a request.
pub struct Capture {
    /// A copy of the input, which a request can write over.
    input: [u8; MAX_INPUT],
    input_length: usize,
    cdb: [u8; MAX_CDB],
    cdb_length: usize,
    /// The output, the sense data and the data buffer.
    output: Segment,
    sense: Segment,
    data: [Segment; MAX_SEGMENTS],
    /// The most data that is recorded, and the length of the buffer.
    max_data: u64,
    data_length: u64,
}

/// The data of a command that may be recorded.
enum Recorded {
    Nothing,
    /// Data from the disk.
    DataIn,
    /// This many bytes to the disk.
    DataOut(u64),
}

const EMPTY: Segment = Segment { address: 0, length: 0 };

impl Capture {
    /// Captures the input, and finds the rest, before the request is answered.
    pub fn before(host: &impl Host, request: u32, argument: u64) -> Capture {
        let mut capture = Capture {
            input: [0; MAX_INPUT],
            input_length: 0,
            cdb: [0; MAX_CDB],
            cdb_length: 0,
            output: EMPTY,
            sense: EMPTY,
            data: [EMPTY; MAX_SEGMENTS],
            max_data: MOST_DATA,
            data_length: 0,
        };
        let abi = host.abi();
        let row = meant(abi, request).and_then(find);
        let (input, output) = match (request, row.map(|request| request.argument)) {
            (SG_IO, _) => (abi.size_of::<SgIoHdr>(), abi.size_of::<SgIoHdr>()),
            (HDIO_DRIVE_CMD, _) => (4, 4),
            (HDIO_DRIVE_TASK, _) => (7, 7),
            (HDIO_DRIVE_TASKFILE, _) => (abi.size_of::<IdeTaskRequest>(), abi.size_of::<IdeTaskRequest>()),
            (SCSI_IOCTL_SEND_COMMAND, _) => (SEND_COMMAND_CDB + 16, 0),
            (HDIO_GET_IDENTITY, _) => (0, 512),
            (_, Some(Argument::In(shape))) => (shape.bytes(abi), 0),
            (_, Some(Argument::Out(shape))) => (0, shape.bytes(abi)),
            _ => (0, 0),
        };
        let buffer = capture.input.get_mut(..input).unwrap_or_default();
        if argument == 0 || host.copy_in(argument, buffer).is_err() {
            return capture;
        }
        capture.input_length = input;
        capture.output = Segment { address: argument, length: output as u64 };
        let (at, out_size, in_size) = match request {
            SG_IO => return capture.of_sg_io(host),
            SCSI_IOCTL_SEND_COMMAND => return capture.of_send_command(host, argument),
            HDIO_DRIVE_CMD => (4, 0, 512 * u64::from(capture.input[3])),
            HDIO_DRIVE_TASKFILE => {
                let (_, length) = hdio_drive::task_request(abi, &capture.input);
                let whole = capture.input.get_mut(..length).unwrap_or_default();
                if host.copy_in(argument, whole).is_ok() {
                    capture.input_length = length;
                    capture.output.length = length as u64;
                }
                let (task_request, _) = hdio_drive::task_request(abi, &capture.input);
                let (out_size, in_size) = hdio_drive::data_lengths(&task_request);
                (length as u64, out_size.into(), in_size.into())
            }
            _ => return capture,
        };
        capture.data_length = out_size + in_size;
        let registers = hdio_drive::registers(abi, request, &capture.input).unwrap_or_default();
        if let Some(command) = recorded_ata_command(&registers) {
            let is_to_disk = command.protocol.is_to_disk();
            let (at, length) = if is_to_disk { (at, out_size) } else { (at + out_size, in_size) };
            let length = length.min(command.page_bytes(&registers));
            capture.add(0, Segment { address: argument.wrapping_add(at), length });
        }
        capture
    }

    fn of_sg_io(mut self, host: &impl Host) -> Capture {
        let hdr: SgIoHdr = host.abi().parse(&self.input);
        let cdb_length = usize::from(hdr.cmd_len).min(MAX_CDB);
        if host.copy_in(hdr.cmdp, self.cdb.get_mut(..cdb_length).unwrap_or_default()).is_ok() {
            self.cdb_length = cdb_length;
        }
        if hdr.sbp != 0 {
            self.sense = Segment { address: hdr.sbp, length: hdr.mx_sb_len.into() };
        }
        self.data_length = hdr.dxfer_len.into();
        let direction = sg_io::direction(hdr.dxfer_direction);
        let from_disk = matches!(direction, Direction::In | Direction::Both);
        self.max_data = match self.recorded(host) {
            Recorded::DataIn if from_disk => MOST_DATA,
            Recorded::DataOut(list) => MOST_DATA.min(list),
            _ => return self,
        };
        if hdr.iovec_count == 0 {
            self.add(0, Segment { address: hdr.dxferp, length: hdr.dxfer_len.into() });
        }
        let size = host.abi().size_of::<Segment>();
        for index in 0..usize::from(hdr.iovec_count).min(MAX_SEGMENTS) {
            let Ok(segment) = host.fetch(hdr.dxferp.wrapping_add((size * index) as u64)) else { break };
            self.add(index, segment);
        }
        self
    }

    /// The CDB follows two lengths; data-in or sense data are written over it.
    fn of_send_command(mut self, host: &impl Host, argument: u64) -> Capture {
        let ScsiIoctlCommand { inlen, outlen } = Abi::Native.parse(&self.input);
        self.cdb_length = sg_io::cdb_length(self.input[SEND_COMMAND_CDB]);
        self.input_length = SEND_COMMAND_CDB + self.cdb_length;
        let cdb = self.input.get(SEND_COMMAND_CDB..self.input_length).unwrap_or_default();
        copy(&mut self.cdb, 0, cdb);
        let at = argument.wrapping_add(SEND_COMMAND_CDB as u64);
        self.sense = Segment { address: at, length: sg_io::SEND_COMMAND_SENSE as u64 };
        self.data_length = inlen.max(outlen).into();
        // Data to the disk, which follow the CDB, may be overwritten by then.
        if inlen == 0 && matches!(self.recorded(host), Recorded::DataIn) {
            self.add(0, Segment { address: at, length: outlen.into() });
        }
        self
    }

    /// Returns which data of the SCSI command may be recorded, by the command's row.
    fn recorded(&self, host: &impl Host) -> Recorded {
        let cdb = self.cdb.first_chunk().copied().unwrap_or([0; 16]);
        let [code, action, ..] = cdb;
        let command = command::find_for(host, code, action & 0x1f).filter(|_| self.cdb_length > 0);
        let Some(command) = command.filter(|command| command.recorded) else { return Recorded::Nothing };
        match command.data {
            DataPhase::In(_) => Recorded::DataIn,
            DataPhase::Out(Some(length)) => Recorded::DataOut(command.value(length, &cdb)),
            DataPhase::OfAtaCommand => {
                let (registers, _) = sat::registers(&cdb);
                match recorded_ata_command(&registers) {
                    Some(command) if command.protocol.is_to_disk() => {
                        Recorded::DataOut(command.page_bytes(&registers))
                    }
                    Some(_) => Recorded::DataIn,
                    None => Recorded::Nothing,
                }
            }
            DataPhase::Out(None) | DataPhase::None | DataPhase::BlocksIn | DataPhase::BlocksOut => {
                Recorded::Nothing
            }
        }
    }

    /// Adds a segment of the data, as much as is recorded.
    fn add(&mut self, index: usize, segment: Segment) {
        let left = self.max_data.saturating_sub(self.data.iter().map(|segment| segment.length).sum());
        if let Some(place) = self.data.get_mut(index) {
            *place = Segment { length: segment.length.min(left), ..segment };
        }
    }

    /// Returns the length of the data buffer in bytes.
    pub fn data_length(&self) -> u64 {
        self.data_length
    }

    /// Cuts the segments, after the request, to what the request wrote: a trace has nothing that
    /// was in a buffer before.
    pub fn cut_to_answer(&mut self, host: &impl Host, header: &Header) {
        let mut transferred = u64::MAX;
        match (header.request, header.result) {
            (HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE, Some(Err(Errno::EIO))) => {
                transferred = 0;
            }
            (_, None | Some(Err(_))) => (self.output, self.sense, transferred) = (EMPTY, EMPTY, 0),
            (SG_IO, Some(Ok(_))) => {
                let hdr: Option<SgIoHdr> = host.fetch(header.argument).ok();
                self.sense.length = self.sense.length.min(hdr.map_or(0, |hdr| hdr.sb_len_wr.into()));
                transferred = hdr.map_or(0, |hdr| hdr.transferred(self.data_length));
            }
            (SCSI_IOCTL_SEND_COMMAND, Some(Ok(status))) if status == sg_io::CHECK_CONDITION.into() => {
                // The descriptor format has its length (SPC-4, 4.5.2).
                let mut sense = [0; 8];
                let is_read = host.copy_in(self.sense.address, &mut sense).is_ok();
                self.sense.length = match sense[0] & 0x7f {
                    0x72 | 0x73 => self.sense.length.min(8 + u64::from(sense[7])),
                    _ if is_read => self.sense.length,
                    _ => 0,
                };
                transferred = 0;
            }
            (SCSI_IOCTL_SEND_COMMAND, Some(Ok(_))) => self.sense = EMPTY,
            _ => {}
        }
        for segment in &mut self.data {
            segment.length = segment.length.min(transferred);
            transferred -= segment.length;
        }
    }

    /// Returns what the argument's address held before the request.
    pub fn input(&self) -> &[u8] {
        self.input.get(..self.input_length).unwrap_or_default()
    }

    /// Returns the CDB.
    pub fn cdb(&self) -> &[u8] {
        self.cdb.get(..self.cdb_length).unwrap_or_default()
    }

    /// Returns the caller's memory after the request: the output, the sense data and the data.
    pub fn of_caller(&self) -> [&[Segment]; 3] {
        [slice::from_ref(&self.output), slice::from_ref(&self.sense), &self.data]
    }

    /// Returns the segments of a message that follow its header, and the length of each part.
    /// `all`: with the caller's memory, which may be bad.
    pub fn segments(&self, path: &[u8], all: bool) -> ([Segment; PARTS - 1 + MAX_SEGMENTS], [u64; PARTS]) {
        let [input, cdb] = [self.input(), self.cdb()].map(Segment::of);
        let of_caller = |segment: Segment| if all { segment } else { EMPTY };
        let [output, sense] = [self.output, self.sense].map(of_caller);
        let [a, b, c, d, e, f, g, h] = self.data.map(of_caller);
        let data = [a, b, c, d, e, f, g, h].iter().map(|segment| segment.length).sum();
        let path = Segment::of(path);
        let lengths = [path.length, input.length, output.length, cdb.length, sense.length, data];
        ([path, input, output, cdb, sense, a, b, c, d, e, f, g, h], lengths)
    }
}

/// Returns the row of an ATA command whose data may be recorded.
fn recorded_ata_command(registers: &Taskfile) -> Option<&'static Command> {
    ata::command::find(registers.command, registers.features.to_le_bytes()[0])
        .filter(|command| command.recorded)
}
