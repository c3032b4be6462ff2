//! Commands that the disk is known not to have (docs/scsi.md, docs/ata.md): programs may well ask for them.

/// SCSI commands by operation code (SPC-4, SBC-3).
const SCSI: [(u8, &str); 6] = [
    (0x07, "REASSIGN BLOCKS"),
    (0x1c, "RECEIVE DIAGNOSTIC RESULTS"),
    (0x4c, "LOG SELECT"),
    (0x95, "ZONE MANAGEMENT IN"),
    (0xa2, "SECURITY PROTOCOL IN"),
    (0xb5, "SECURITY PROTOCOL OUT"),
];

/// ATA commands by the COMMAND register (ACS-3).
const ATA: [(u8, &str); 13] = [
    (0x5c, "TRUSTED RECEIVE"),
    (0x5e, "TRUSTED SEND"),
    (0x60, "READ FPDMA QUEUED"),
    (0x61, "WRITE FPDMA QUEUED"),
    (0x92, "DOWNLOAD MICROCODE"),
    (0xa1, "IDENTIFY PACKET DEVICE"),
    (0xb1, "DEVICE CONFIGURATION OVERLAY"),
    (0xf1, "SECURITY SET PASSWORD"),
    (0xf2, "SECURITY UNLOCK"),
    (0xf3, "SECURITY ERASE PREPARE"),
    (0xf4, "SECURITY ERASE UNIT"),
    (0xf5, "SECURITY FREEZE LOCK"),
    (0xf6, "SECURITY DISABLE PASSWORD"),
];

/// The name of such a SCSI command.
pub fn scsi(code: u8) -> Option<&'static str> {
    find(&SCSI, code)
}

/// The name of such an ATA command.
pub fn ata(code: u8) -> Option<&'static str> {
    find(&ATA, code)
}

fn find(table: &[(u8, &'static str)], code: u8) -> Option<&'static str> {
    table.iter().find(|(own, _)| *own == code).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who adds one to the disk removes it here.
    #[test]
    fn the_disk_does_not_have_them() {
        for (code, name) in SCSI {
            assert!(disk::scsi::command::COMMANDS.iter().all(|row| row.operation_code() != code), "{name}");
        }
        for (code, name) in ATA {
            assert!(disk::ata::command::COMMANDS.iter().all(|row| row.code != code), "{name}");
        }
    }
}
