//! A virtual machine's file: its controllers, the places of its disks, and the names in it.

use std::fmt;

use disk::entry::Kind;

use crate::adapter::{Adapter, Bus, Guest, Slot};
use crate::text::{Pair, Text};

/// The text of a .vmx file.
pub struct Vmx(pub Text);

/// Why a disk cannot be added to a virtual machine. Displayed as words that follow the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The file does not give `config.version`.
    NotAVmx,
    /// The file is encrypted.
    Encrypted,
    /// The virtual machine is suspended.
    Suspended,
    /// The virtual hardware is too old for controllers of this kind.
    OldHardware {
        /// The kind.
        bus: Bus,
        /// The version of the virtual hardware.
        version: u32,
    },
    /// There is no free slot for this adapter.
    NoFreeSlot(Adapter),
    /// There are lines for this slot already.
    SlotTaken(Slot),
    /// The controller of this slot is switched off.
    ControllerOff(Slot),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotAVmx => f.write_str("is not a .vmx file (it gives no config.version)"),
            Error::Encrypted => f.write_str("is encrypted, so its disks cannot be seen"),
            Error::Suspended => f.write_str("is of a suspended virtual machine"),
            Error::OldHardware { bus, version } => {
                write!(f, "has virtual hardware {version}, and {} needs {}", bus.name(), bus.hardware())
            }
            Error::NoFreeSlot(adapter) => write!(f, "has no free slot for a disk of {}", adapter.name()),
            Error::SlotTaken(slot) => write!(f, "has lines for {slot} already"),
            Error::ControllerOff(slot) => {
                write!(f, "has its controller {} switched off", slot.controller_name())
            }
        }
    }
}

impl std::error::Error for Error {}

impl Vmx {
    /// Reads the file of a virtual machine that is shut down.
    pub fn parse(bytes: &[u8]) -> Result<Vmx, Error> {
        let text = Text::new(bytes);
        let is_of_suspended = |pair: &Pair<'_>| {
            pair.is("checkpoint.vmState") && pair.value.is_none_or(|state| !state.is_empty())
        };
        if text.value("config.version").is_none() {
            Err(Error::NotAVmx)
        } else if text.value("encryption.data").is_some() {
            Err(Error::Encrypted)
        } else if text.pairs().any(|pair| is_of_suspended(&pair)) {
            Err(Error::Suspended)
        } else {
            Ok(Vmx(text))
        }
    }

    /// The disks by slot and name; a slot that has several is listed several times.
    pub fn disks(&self) -> impl Iterator<Item = (Slot, Vec<u8>)> {
        self.0.pairs().filter_map(|pair| {
            let slot = Slot::of_key(pair.key)?;
            let is_file_name = pair.key.len() == slot.to_string().len() + ".fileName".len()
                && pair.key.to_ascii_lowercase().ends_with(b".filename");
            Some((slot, unescape(pair.value.filter(|_| is_file_name)?)))
        })
    }

    /// Checks that the virtual hardware has controllers of a kind.
    pub fn check_hardware(&self, bus: Bus) -> Result<(), Error> {
        let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<u32>().ok();
        match self.0.value("virtualHW.version").and_then(number) {
            Some(version) if version < bus.hardware() => Err(Error::OldHardware { bus, version }),
            _ => Ok(()),
        }
    }

    /// Finds the next free slot for an adapter: on a controller that exists, else on one that does not.
    pub fn find_free_slot(&self, adapter: Adapter) -> Result<Slot, Error> {
        let free = |is_wanted: bool| {
            Slot::all(adapter.bus()).find(|slot| {
                let suits = match self.controller(slot) {
                    Controller::Absent => !is_wanted,
                    Controller::Off => false,
                    Controller::Present => {
                        let key = format!("{}.virtualDev", slot.controller_name());
                        is_wanted && (slot.bus != Bus::Scsi || adapter.is_virtual_dev(self.0.value(&key)))
                    }
                };
                suits && !self.is_taken(*slot)
            })
        };
        free(true).or_else(|| free(false)).ok_or(Error::NoFreeSlot(adapter))
    }

    /// Checks that a slot can be used.
    pub fn check_slot(&self, slot: Slot) -> Result<(), Error> {
        if self.is_taken(slot) {
            return Err(Error::SlotTaken(slot));
        }
        match self.controller(&slot) {
            Controller::Off => Err(Error::ControllerOff(slot)),
            Controller::Absent | Controller::Present => Ok(()),
        }
    }

    fn is_taken(&self, slot: Slot) -> bool {
        self.0.pairs().any(|pair| Slot::of_key(pair.key) == Some(slot))
    }

    fn controller(&self, slot: &Slot) -> Controller {
        let key = format!("{}.present", slot.controller_name());
        let mut values = self.0.pairs().filter(|pair| pair.is(&key)).map(|pair| pair.value).peekable();
        // An IDE controller is always there.
        if values.peek().is_none() && slot.bus != Bus::Ide {
            return Controller::Absent;
        }
        let is_on = values.all(|value| value.is_some_and(|value| value.eq_ignore_ascii_case(b"true")));
        if is_on { Controller::Present } else { Controller::Off }
    }

    /// Returns the lines that add the controller of a slot, if it is missing.
    pub fn controller_lines(&self, slot: Slot, adapter: Adapter) -> Vec<String> {
        if !matches!(self.controller(&slot), Controller::Absent) {
            return Vec::new();
        }
        let name = slot.controller_name();
        let mut lines = vec![format!("{name}.present = \"TRUE\"")];
        if slot.bus == Bus::Scsi && self.0.value(&format!("{name}.virtualDev")).is_none() {
            let adapter = match adapter {
                Adapter::Lsisas1068 | Adapter::Buslogic | Adapter::Pvscsi => adapter,
                _ => Guest::of(self.0.value("guestOS")).adapter(Kind::Scsi),
            };
            lines.push(format!("{name}.virtualDev = \"{}\"", adapter.name()));
        }
        lines
    }
}

/// A controller of a virtual machine.
enum Controller {
    Absent,
    Off,
    Present,
}

/// Escapes a value as VMware does: quotes, `|` and control characters but the tab as `|` and two hexadecimal digits.
pub fn escape(text: &str) -> String {
    let mut value = String::new();
    for character in text.chars() {
        match character {
            '"' | '|' | '\x7f' | '\0'..='\x08' | '\n'..='\x1f' => {
                value += &format!("|{:02X}", character as u32)
            }
            _ => value.push(character),
        }
    }
    value
}

/// Undoes [`escape`].
pub fn unescape(value: &[u8]) -> Vec<u8> {
    let (mut bytes, mut at) = (Vec::new(), 0);
    while let Some(&byte) = value.get(at) {
        let digits = value.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| byte == b'|').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                at += 3;
            }
            None => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn machine(text: &str) -> Vmx {
        Vmx(Text::new(text.as_bytes()))
    }

    fn free(text: &str, adapter: Adapter) -> String {
        machine(text).find_free_slot(adapter).expect("there is one").to_string()
    }

    #[test]
    fn the_next_free_place() {
        assert_eq!(free("", Adapter::Lsilogic), "scsi0:0");
        assert_eq!(free("", Adapter::Ide), "ide0:0");
        assert_eq!(free("ide0:0.present = \"TRUE\"\nIDE0:1.present = FALSE", Adapter::Ide), "ide1:0");
        let scsi = "scsi0.present = \"TRUE\"\nscsi0.virtualDev = \"lsilogic\"\nscsi0:0.present = \"TRUE\"\n";
        assert_eq!(free(scsi, Adapter::Lsilogic), "scsi0:1");
        assert_eq!(free(scsi, Adapter::Pvscsi), "scsi1:0", "another controller");
        assert_eq!(free(scsi, Adapter::Buslogic), "scsi1:0");
        assert_eq!(free("scsi1.present = \"TRUE\"", Adapter::Buslogic), "scsi1:0", "one that is there");
        assert_eq!(free("scsi0.present = \"FALSE\"", Adapter::Lsilogic), "scsi1:0");
        assert_eq!(free("scsi0.present = \"TRUE\"\nscsi0.present = \"FALSE\"", Adapter::Lsilogic), "scsi1:0");
        let full: String = (0..7).map(|unit| format!("scsi0:{unit}.fileName = \"x\n")).collect();
        assert_eq!(
            free(&format!("{scsi}{full}"), Adapter::Lsilogic),
            "scsi0:8",
            "7 is the controller's, and a broken line counts"
        );
        let full: String = Slot::all(Bus::Ide).map(|slot| format!("{slot}.present=TRUE\n")).collect();
        assert_eq!(machine(&full).find_free_slot(Adapter::Ide), Err(Error::NoFreeSlot(Adapter::Ide)));
    }

    #[test]
    fn lines_of_a_controller() {
        let lines = |text: &str, slot: &str, adapter| {
            machine(text).controller_lines(slot.parse().expect("it is right"), adapter)
        };
        assert_eq!(
            lines("", "scsi1:0", Adapter::Pvscsi),
            ["scsi1.present = \"TRUE\"", "scsi1.virtualDev = \"pvscsi\""]
        );
        assert_eq!(
            lines("", "scsi0:0", Adapter::Sata),
            ["scsi0.present = \"TRUE\"", "scsi0.virtualDev = \"lsilogic\""]
        );
        assert_eq!(
            lines("scsi0.virtualDev = \"x\"", "scsi0:0", Adapter::Pvscsi),
            ["scsi0.present = \"TRUE\""]
        );
        for (guest, virtual_dev) in [("windows9-64", "lsisas1068"), ("winxppro", "lsilogic")] {
            assert_eq!(
                lines(&format!("guestOS = \"{guest}\""), "scsi1:0", Adapter::Lsilogic)[1],
                format!("scsi1.virtualDev = \"{virtual_dev}\"")
            );
        }
        assert_eq!(
            lines("guestOS = \"windows9-64\"", "scsi1:0", Adapter::Pvscsi)[1],
            "scsi1.virtualDev = \"pvscsi\""
        );
        assert_eq!(lines("", "sata0:0", Adapter::Sata), ["sata0.present = \"TRUE\""]);
        assert_eq!(lines("", "ide0:0", Adapter::Ide), [""; 0]);
        assert_eq!(lines("SATA0.PRESENT = true", "sata0:0", Adapter::Sata), [""; 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_free_place_is_free(taken in prop::collection::vec((0u8..4, 0u8..32), 0..60), index in 0usize..6) {
            let adapter = [Adapter::Ide, Adapter::Lsilogic, Adapter::Buslogic, Adapter::Pvscsi, Adapter::Sata, Adapter::Nvme][index];
            let bus = adapter.bus().name();
            let text: String = taken.iter().map(|(controller, unit)| format!("{bus}{controller}:{unit}.present = \"TRUE\"\n")).collect();
            let machine = machine(&text);
            match machine.find_free_slot(adapter) {
                Ok(slot) => {
                    prop_assert!(!taken.contains(&(slot.controller, slot.unit)));
                    prop_assert!(slot.bus != Bus::Scsi || slot.unit != 7);
                    prop_assert!(machine.check_slot(slot).is_ok());
                }
                Err(_) => prop_assert!(Slot::all(adapter.bus()).all(|slot| taken.contains(&(slot.controller, slot.unit)))),
            }
        }

        #[test]
        fn names_survive(name in "[ -~\t\n\u{1}\u{e4}]{0,20}") {
            let escaped = escape(&name);
            prop_assert!(!escaped.contains('"'));
            let name = name.into_bytes();
            prop_assert_eq!(unescape(escaped.as_bytes()), name);
        }
    }
}
