//! ATA PASS-THROUGH: an ATA command in a CDB (SAT-3, 12.2).

use super::sense::Sense;
use super::{Direction, Done, Ended, Task};
use crate::Host;
use crate::ata::command::{self, Operation, Transfer};
use crate::ata::{self, Offer, Taskfile};

impl<H: Host> Task<'_, H> {
    pub(super) fn ata_pass_through(&mut self) -> Done {
        let sixteen = self.byte(0) == 0x85;
        let (how, flags) = (self.byte(1), self.byte(2));
        let extended = sixteen && how & 0x01 != 0;
        let high = |at| if extended { self.byte(at) } else { 0 };
        let low = |at, of_twelve| self.byte(if sixteen { at } else { of_twelve });
        let input = Taskfile {
            command: low(14, 9),
            features: u16::from_be_bytes([high(3), low(4, 3)]),
            count: u16::from_be_bytes([high(5), low(6, 4)]),
            lba: u64::from_be_bytes([0, 0, high(11), high(9), high(7), low(12, 7), low(10, 6), low(8, 5)]),
            device: low(13, 8),
        };
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
