//! READ BUFFER and WRITE BUFFER (SPC-4, 6.18 and 6.49): the echo buffer.

use super::response::Response;
use super::sense::Sense;
use super::task::{CommandResult, Task, unreachable};
use crate::host::Host;
use crate::shared::ECHO_BUFFER;

/// Modes.
const DESCRIPTOR: u8 = 0x03;
const ECHO_BUFFER_DATA: u8 = 0x0a;
const ECHO_BUFFER_DESCRIPTOR: u8 = 0x0b;

/// Echo buffer descriptor: data that another I_T nexus has overwritten is reported.
const EBOS: u8 = 0x01;

impl<H: Host> Task<'_, H> {
    /// Handles READ BUFFER. Buffer IDs and offsets are ignored: no other buffer can be read.
    pub(super) fn read_buffer(&mut self) -> CommandResult {
        let mut out = Response::new();
        match self.byte(1) & 0x1f {
            // There is no buffer with any ID.
            DESCRIPTOR => out.fill(4),
            ECHO_BUFFER_DESCRIPTOR => {
                let [high, low] = (ECHO_BUFFER as u16).to_be_bytes();
                out.put(&[EBOS, 0, high, low]);
            }
            ECHO_BUFFER_DATA => {
                let nexus = self.device.nexus;
                if !nexus.has_written_echo_buffer() {
                    return Err(Sense::COMMAND_SEQUENCE_ERROR.into());
                }
                let is_own = self.host.look(|shared| {
                    let data = shared.echo_buffer(nexus.number);
                    out.put(data.unwrap_or_default());
                    data.is_some()
                });
                if !is_own.map_err(unreachable)? {
                    return Err(Sense::ECHO_BUFFER_OVERWRITTEN.into());
                }
            }
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(4)).into()),
        }
        self.send_data_in(&out)
    }

    /// Handles WRITE BUFFER.
    pub(super) fn write_buffer(&mut self) -> CommandResult {
        if self.byte(1) & 0x1f != ECHO_BUFFER_DATA {
            return Err(Sense::invalid_field_in_cdb(1, Some(4)).into());
        }
        if self.parameter_list_length() > ECHO_BUFFER {
            return Err(Sense::invalid_field_in_cdb(6, Some(7)).into());
        }
        let mut data = [0; ECHO_BUFFER];
        let data = self.receive_parameter_list(&mut data)?;
        let nexus = self.device.nexus;
        self.host.change(|shared| shared.set_echo_buffer(nexus.number, data)).map_err(unreachable)?;
        nexus.set_written_echo_buffer();
        Ok(())
    }
}
