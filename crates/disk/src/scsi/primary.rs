//! Commands that report or change properties of the disk (SPC-4, clause 6; SBC-3, clause 5).

use super::command::{Command, commands, find_for, has, rows, supported};
use super::inquiry::{self, GROUP, PORT};
use super::mode::{self, PageControl};
use super::response::Response;
use super::sense::Sense;
use super::task::{CommandResult, Task};
use crate::host::Host;
use crate::medium::io::{self, Error};
use crate::medium::is_thin;

impl<H: Host> Task<'_, H> {
    pub(super) fn request_sense(&mut self, sense: Sense) -> CommandResult {
        let (bytes, length) = sense.bytes(self.byte(1) & 0x01 != 0);
        let mut out = Response::new();
        out.put(bytes.get(..length).unwrap_or_default());
        self.send_data_in(&out)
    }

    #[inline(never)]
    pub(super) fn inquiry(&mut self) -> CommandResult {
        let page = self.byte(2);
        let mut response = Response::new();
        if self.byte(1) & 0x01 == 0 {
            if page != 0 {
                return Err(Sense::invalid_field_in_cdb(2, Some(7)).into());
            }
            inquiry::standard(self.device, self.host, &mut response);
        } else {
            inquiry::vpd_page(self.device, self.host, page, &mut response)?;
        }
        self.send_data_in(&response)
    }

    pub(super) fn mode_sense(&mut self) -> CommandResult {
        let ten = self.byte(0) == 0x5a;
        let (page, subpage) = (self.byte(2), self.byte(3));
        let values = PageControl::from_field(page >> 6);
        let capacity = self.capacity;
        let mut out = Response::new();
        let specific = if self.is_protected()? { WP | DPOFUA } else { DPOFUA };
        let no_descriptor = self.byte(1) & 0x08 != 0;
        let long = ten && self.byte(1) & 0x10 != 0;
        let descriptor = match (no_descriptor, long) {
            (true, _) => 0,
            (false, true) => 16,
            (false, false) => 8,
        };
        if ten {
            out.put(&[0, 0, 0, specific, u8::from(long && !no_descriptor), 0, 0, descriptor]);
        } else {
            out.put(&[0, 0, specific, descriptor]);
        }
        let blocks = capacity.blocks;
        match descriptor {
            16 => {
                out.put(&blocks.to_be_bytes());
                out.put(&[0; 4]);
                out.put(&capacity.block_size.to_be_bytes());
            }
            8 => {
                out.put(&u32::try_from(blocks).unwrap_or(u32::MAX).to_be_bytes());
                out.put(&capacity.block_size.to_be_bytes());
            }
            _ => {}
        }
        mode::sense(
            self.device.entry.kind,
            &self.device.settings.switches,
            page & 0x3f,
            subpage,
            values,
            |byte| out.put(&[byte]),
        )?;
        if ten {
            out.set_length::<2>(0);
        } else {
            out.set_length::<1>(0);
        }
        self.send_data_in(&out)
    }

    pub(super) fn mode_select(&mut self) -> CommandResult {
        let ten = self.byte(0) == 0x55;
        if self.byte(1) & 0x10 == 0 {
            return Err(Sense::invalid_field_in_cdb(1, Some(4)).into());
        }
        let length = self.parameter_list_length();
        if length == 0 {
            return Ok(());
        }
        let header = if ten { 8 } else { 4 };
        let mut list = [0; 512];
        let list = self.receive_parameter_list(&mut list)?;
        if length < header {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR.into());
        }
        let byte = |at: usize| list.get(at).copied().unwrap_or(0);
        let descriptor = if ten { usize::from(byte(6)) << 8 | usize::from(byte(7)) } else { byte(3).into() };
        let start = header + descriptor;
        if start > length {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR.into());
        }
        if descriptor != 0 {
            // The block length, at the end of the only descriptor, cannot be changed.
            let long = ten && byte(4) & 0x01 != 0;
            let expected = if long { 16 } else { 8 };
            let bytes = if long { start - 4 } else { start - 3 }..start;
            let block = bytes.fold(0, |block, at| block << 8 | u32::from(byte(at)));
            if descriptor != expected || block != self.capacity.block_size {
                return Err(Sense::invalid_field_in_parameter_list(header as u16, None).into());
            }
        }
        let settings = self.device.settings;
        let before = settings.switches.get();
        mode::select(self.device.entry.kind, &settings.switches, list, start)?;
        if settings.switches.get() != before {
            // The nexus that changed them need not be told.
            self.device.nexus.skip_mode_change(settings.count_mode_change());
        }
        Ok(())
    }

    pub(super) fn log_sense(&mut self) -> CommandResult {
        let (page, subpage) = (self.byte(2) & 0x3f, self.byte(3));
        // SP saves parameters whose page has DS 0: none.
        if subpage != 0 {
            return Err(Sense::invalid_field_in_cdb(3, Some(7)).into());
        }
        // PARAMETER POINTER
        if self.u16(5) > if page == TEMPERATURE { 1 } else { 0 } {
            return Err(Sense::invalid_field_in_cdb(5, Some(7)).into());
        }
        let mut out = Response::new();
        // DS, if the page has parameters.
        out.put(&[if page == 0 { 0 } else { DS | page }, subpage, 0, 0]);
        match page {
            0x00 => out.put(&[0x00, TEMPERATURE, INFORMATIONAL_EXCEPTIONS]),
            // Neither the temperature nor a reference is available.
            TEMPERATURE => out.put(&[0, 0, BINARY_LIST, 2, 0, 0xff, 0, 1, BINARY_LIST, 2, 0, 0xff]),
            // No informational exception.
            INFORMATIONAL_EXCEPTIONS => out.put(&[0, 0, BINARY_LIST, 3, 0, 0, 0xff]),
            _ => return Err(Sense::invalid_field_in_cdb(2, Some(5)).into()),
        }
        out.set_length::<2>(2);
        self.send_data_in(&out)
    }

    /// Handles START STOP UNIT of a disk that has no motor and cannot be ejected.
    pub(super) fn start_stop(&mut self) -> CommandResult {
        // There are no power conditions (SPC-4, 7.5.13).
        match self.byte(4) {
            condition if condition & 0xf0 != 0 => return Err(Sense::invalid_field_in_cdb(4, Some(7)).into()),
            eject if eject & 0x02 != 0 => return Err(Sense::invalid_field_in_cdb(4, Some(1)).into()),
            // START or NO_FLUSH
            start if start & 0x05 != 0 => return Ok(()),
            _ => {}
        }
        Ok(io::flush(self.device, self.host)?)
    }

    pub(super) fn send_diagnostic(&mut self) -> CommandResult {
        if self.parameter_list_length() != 0 {
            return Err(Sense::invalid_field_in_cdb(3, Some(7)).into());
        }
        // The default self-test, or none, and the short and extended ones in the background and
        // foreground: all pass at once, so there is nothing to abort (4).
        match self.byte(1) >> 5 {
            0 | 1 | 2 | 4 | 5 | 6 => Ok(()),
            _ => Err(Sense::invalid_field_in_cdb(1, Some(7)).into()),
        }
    }

    pub(super) fn read_capacity_10(&mut self) -> CommandResult {
        let (address, partial) = (self.u32(2), self.byte(8) & 0x01 != 0);
        if address != 0 && !partial {
            return Err(Sense::invalid_field_in_cdb(2, Some(7)).into());
        }
        let capacity = self.capacity;
        let last = u32::try_from(capacity.blocks.saturating_sub(1)).unwrap_or(u32::MAX);
        let mut out = Response::new();
        out.put(&last.to_be_bytes());
        out.put(&capacity.block_size.to_be_bytes());
        self.send_data_in(&out)
    }

    pub(super) fn read_capacity_16(&mut self) -> CommandResult {
        let (address, partial) = (self.u64(2), self.byte(14) & 0x01 != 0);
        if address != 0 && !partial {
            return Err(Sense::invalid_field_in_cdb(2, Some(7)).into());
        }
        let capacity = self.capacity;
        let physical = self.device.physical_block(self.host).map_err(Error::backing)?;
        let exponent = physical.checked_div(capacity.block_size).and_then(u32::checked_ilog2).unwrap_or(0);
        let mut out = Response::new();
        out.put(&capacity.blocks.saturating_sub(1).to_be_bytes());
        out.put(&capacity.block_size.to_be_bytes());
        let thin = if is_thin(self.host) { LBPME | LBPRZ } else { 0 };
        out.put(&[0, exponent as u8 & 0x0f, thin]);
        out.fill(32);
        self.send_data_in(&out)
    }

    /// Handles READ DEFECT DATA: a header in the requested format, and no defects.
    pub(super) fn read_defect_data(&mut self) -> CommandResult {
        let ten = self.byte(0) == 0x37;
        let mut out = Response::new();
        let format = if ten { self.byte(2) } else { self.byte(1) };
        out.put(&[0, format]);
        out.fill(if ten { 4 } else { 8 });
        self.send_data_in(&out)
    }

    pub(super) fn report_luns(&mut self) -> CommandResult {
        let mut out = Response::new();
        // There are no well-known logical units.
        match self.byte(2) {
            0x00 | 0x02 => out.put(&[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            0x01 => out.put(&[0; 8]),
            _ => return Err(Sense::invalid_field_in_cdb(2, Some(7)).into()),
        }
        self.send_data_in(&out)
    }

    /// Handles REPORT TARGET PORT GROUPS: the only group is always active/optimized.
    pub(super) fn report_target_port_groups(&mut self) -> CommandResult {
        let mut out = Response::new();
        out.put(&[0; 4]);
        match self.byte(1) >> 5 {
            0 => {}
            // The extended header: a transition takes no time.
            1 => out.put(&[0x10, 0, 0, 0]),
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(7)).into()),
        }
        // The state; the group; no status; one port, which follows.
        out.put(&[0x00, AO_SUP, GROUP[0], GROUP[1], 0, 0, 0, 1]);
        out.put(&[0, 0, PORT[0], PORT[1]]);
        out.set_length::<4>(0);
        self.send_data_in(&out)
    }

    /// Handles SET TARGET PORT GROUPS, which changes nothing: the only group is always
    /// active/optimized.
    pub(super) fn set_target_port_groups(&mut self) -> CommandResult {
        // At most one descriptor, of the only group.
        let mut list = [0; 8];
        match self.parameter_list_length() {
            0 => return Ok(()),
            8 => {}
            _ => return Err(Sense::invalid_field_in_cdb(6, Some(7)).into()),
        }
        self.receive_parameter_list(&mut list)?;
        let [.., state, _, group_high, group_low] = list;
        if state & 0x0f != 0 {
            return Err(Sense::invalid_field_in_parameter_list(4, Some(3)).into());
        }
        if [group_high, group_low] != GROUP {
            return Err(Sense::invalid_field_in_parameter_list(6, Some(7)).into());
        }
        Ok(())
    }

    pub(super) fn report_operation_codes(&mut self) -> CommandResult {
        let timeouts = self.byte(2) & 0x80 != 0;
        let (code, action) = (self.byte(3), self.u16(4));
        if self.byte(2) & 0x07 == 0 {
            return self.report_all_operation_codes(timeouts);
        }
        let mut out = Response::new();
        let first = rows(self.device, self.host, code).next();
        let has_actions = first.is_some_and(|row| row.service_action);
        match self.byte(2) & 0x07 {
            // REPORTING OPTIONS: 1 without a service action, 2 with one, 3 either.
            1 if has_actions => return Err(Sense::invalid_field_in_cdb(2, Some(2)).into()),
            2 if !has_actions && first.is_some() => {
                return Err(Sense::invalid_field_in_cdb(2, Some(2)).into());
            }
            1..=3 => {}
            _ => return Err(Sense::invalid_field_in_cdb(2, Some(2)).into()),
        }
        let action_wanted = if has_actions { u8::try_from(action).unwrap_or(0xff) } else { 0 };
        // 3 compares the service action of a command that has none, too.
        let is_compared = action == 0 || has_actions || self.byte(2) & 0x07 == 1;
        let command = supported(self.device, self.host, find_for(self.host, code, action_wanted), code)
            .ok()
            .filter(|_| is_compared);
        self.report_operation_code(command, timeouts, &mut out);
        self.send_data_in(&out)
    }

    /// Reports all commands, which can take more than a [`Response`].
    fn report_all_operation_codes(&mut self, timeouts: bool) -> CommandResult {
        let (device, host) = (self.device, self.host);
        let all = || commands(host).iter().filter(move |row| has(device, host, row));
        let descriptor = if timeouts { 8 + NO_TIMEOUTS.len() } else { 8 };
        let mut left = usize::try_from(self.allocation_length()).unwrap_or(usize::MAX);
        self.send_part(&((all().count() * descriptor) as u32).to_be_bytes(), &mut left)?;
        for command in all() {
            let [high, low] = u16::from(command.action().unwrap_or(0)).to_be_bytes();
            let flags = u8::from(timeouts) << 1 | u8::from(command.service_action);
            let length = command.usage.len() as u8;
            self.send_part(&[command.operation_code(), 0, high, low, 0, flags, 0, length], &mut left)?;
            if timeouts {
                self.send_part(&NO_TIMEOUTS, &mut left)?;
            }
        }
        Ok(())
    }

    fn report_operation_code(&self, command: Option<&'static Command>, timeouts: bool, out: &mut Response) {
        match command {
            Some(command) => {
                let length = (command.usage.len() as u16).to_be_bytes();
                // SUPPORT: in conformance with a standard.
                out.put(&[0, u8::from(timeouts) << 7 | 0x03, length[0], length[1]]);
                out.put(command.usage);
                if timeouts {
                    out.put(&NO_TIMEOUTS);
                }
            }
            None => out.put(&[0, 0x01, 0, 0]),
        }
    }

    /// Handles REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS: `SG_SCSI_RESET` requests a reset, no
    /// request the other functions.
    pub(super) fn report_task_management(&mut self) -> CommandResult {
        let extended = self.byte(2) & 0x80 != 0;
        if self.allocation_length() < 4 {
            return Err(Sense::invalid_field_in_cdb(6, Some(7)).into());
        }
        let mut out = Response::new();
        out.put(&[LURS, 0, 0, 0]);
        if extended {
            out.set(3, &[12]);
            out.fill(16);
        }
        self.send_data_in(&out)
    }
}

/// DEVICE-SPECIFIC PARAMETER of a disk's mode parameter header.
const WP: u8 = 0x80;
const DPOFUA: u8 = 0x10;

/// Log pages, byte 0: parameters are not saved; FORMAT AND LINKING of a parameter: a binary list
/// (SPC-4, 7.3.2).
const DS: u8 = 0x80;
const BINARY_LIST: u8 = 0x03;
const TEMPERATURE: u8 = 0x0d;
const INFORMATIONAL_EXCEPTIONS: u8 = 0x2f;

/// READ CAPACITY (16), byte 14.
const LBPME: u8 = 0x80;
const LBPRZ: u8 = 0x40;

/// REPORT TARGET PORT GROUPS: active/optimized is supported.
const AO_SUP: u8 = 0x01;

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS: LOGICAL UNIT RESET.
const LURS: u8 = 0x08;

/// A command timeouts descriptor (SPC-4, 6.35.4) without timeouts.
const NO_TIMEOUTS: [u8; 12] = [0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
