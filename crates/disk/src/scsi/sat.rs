//! ATA PASS-THROUGH: an ATA command in a CDB (SAT-3, 12.2).

use super::sense::Sense;
use super::{Direction, Done, Ended, Task};
use crate::Host;
use crate::ata::command::{self, Operation, Transfer};
use crate::ata::{self, Offer, Taskfile};

/// The registers in the CDB of an ATA PASS-THROUGH, and whether they are those of a command of 48 bits, for which ATA
/// PASS-THROUGH (12) has no room.
pub fn registers(cdb: &[u8; 16]) -> (Taskfile, bool) {
    match *cdb {
        [0x85, how, _, fh, f, ch, c, lh, l, mh, m, hh, h, device, command, _] => {
            let extended = how & 0x01 != 0;
            let high = |byte| if extended { byte } else { 0 };
            let taskfile = Taskfile {
                command,
                features: u16::from_be_bytes([high(fh), f]),
                count: u16::from_be_bytes([high(ch), c]),
                lba: u64::from_be_bytes([0, 0, high(hh), high(mh), high(lh), h, m, l]),
                device,
            };
            (taskfile, extended)
        }
        [_, _, _, features, count, l, m, h, device, command, ..] => {
            let lba = u32::from_be_bytes([0, h, m, l]).into();
            (Taskfile { command, features: features.into(), count: count.into(), lba, device }, false)
        }
    }
}

impl<H: Host> Task<'_, H> {
    pub(super) fn ata_pass_through(&mut self) -> Done {
        let (how, flags) = (self.byte(1), self.byte(2));
        let (input, extended) = registers(&self.cdb);
        let (check, from_disk, length) = (flags & 0x20 != 0, flags & 0x08 != 0, flags & 0x03);
        let (transfer, direction) = match how >> 1 & 0x0f {
            3 => (Transfer::None, Direction::None),
            4 => (Transfer::PioIn, Direction::In),
            5 => (Transfer::PioOut, Direction::Out),
            6 if from_disk => (Transfer::DmaIn, Direction::In),
            6 => (Transfer::DmaOut, Direction::Out),
            10 => (Transfer::DmaIn, Direction::In),
            11 => (Transfer::DmaOut, Direction::Out),
            _ => return Err(Sense::cdb(1, Some(4)).into()),
        };
        let multiple = command::find(input.command, 0)
            .is_some_and(|command| matches!(command.operation, Operation::Multiple(_)));
        if how & 0xe0 != 0 && !multiple {
            return Err(Sense::cdb(1, Some(7)).into());
        }
        if (length == 0) != (direction == Direction::None) || length == 0 && self.direction != Direction::None
        {
            return Err(Sense::cdb(2, Some(1)).into());
        }
        if length != 0 && from_disk != (direction == Direction::In) {
            return Err(Sense::cdb(2, Some(3)).into());
        }
        if direction != Direction::None {
            self.expect(direction, self.data.left())?;
        }
        // T_LENGTH says where the length stands, BYT_BLOK and T_TYPE in which units.
        let number = match length {
            1 => input.features,
            2 => input.count,
            _ => 0,
        };
        let unit = match (flags & 0x04 != 0, flags & 0x10 != 0) {
            (false, _) => 1,
            (true, false) => 512,
            (true, true) => u64::from(self.capacity.block),
        };
        // 0 stands for the most that the command can move.
        let room = if number == 0 { u64::MAX } else { unit.saturating_mul(number.into()) };
        let offer = Offer { transfer, room, data: &mut self.data };
        let registers = ata::execute(self.device, self.host, &input, offer)?;
        let sense = if registers.failed() { registers.sense() } else { Sense::REGISTERS };
        if registers.failed() || check {
            return Err(Ended::Check(Sense { registers: Some((registers, extended)), ..sense }));
        }
        Ok(())
    }
}
