//! `vmware-bdwrapper vmdk attach` and `vmdk detach`.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use disk::entry::Kind;

use super::adapter::{Adapter, Bus, Guest, Slot};
use super::descriptor::{Data, Descriptor, Extent};
use super::text::{Pair, Text};
use super::{options, snapshot};
use crate::file::replace::{self, Place};
use crate::say::failure::{Failure, print, quoted, shown};

/// What is asked for by `attach`.
#[derive(clap::Args)]
pub struct Attach {
    /// The descriptor
    file: PathBuf,
    /// The virtual machine's .vmx file
    vmx: PathBuf,
    /// The place of the disk; without it the next free one of the adapter
    #[arg(long, value_name = "SLOT", value_parser = Slot::parse)]
    slot: Option<Slot>,
}

/// What is asked for by `detach`.
#[derive(clap::Args)]
pub struct Detach {
    /// The descriptor
    file: PathBuf,
    /// The virtual machine's .vmx file
    vmx: PathBuf,
}

impl Attach {
    /// Adds the disk to the virtual machine.
    pub fn run(self) -> Result<(), Failure> {
        self.attach().map_err(|sentence| Failure::new(Failure::FAILED, sentence))?
    }

    fn attach(self) -> Result<Result<(), Failure>, String> {
        let mut place = Place::of(&self.file)?;
        let descriptor = super::descriptor(&mut place)?;
        let mut machine = Machine::open(&self.vmx)?;
        replace::is_free(&self.file)?;
        if let Some(slot) = machine.slots_of(&self.file).next() {
            return Err(format!(
                "{}: has {} already, as {slot}; to move it, take it away first by 'vmware-bdwrapper vmdk detach {} {}'.",
                shown(&self.vmx),
                shown(&self.file),
                quoted(&self.file),
                quoted(&self.vmx)
            ));
        }
        snapshot::refuse(&descriptor, &place)?;
        machine
            .shares_no_device(&descriptor, &place)
            .map_err(|why| format!("{}: {why}", shown(&self.vmx)))?;
        let adapter = options::adapter(&descriptor);
        let slot = match self.slot {
            Some(slot) => machine.judge(slot).map(|()| slot),
            None => machine.free(adapter),
        };
        let slot = slot.map_err(|why| format!("{}: {why}", shown(&self.vmx)))?;
        // The other controllers all have descriptors for SCSI.
        if (slot.bus == Bus::Ide) != (adapter.bus() == Bus::Ide) {
            return Err(format!(
                "{}: is a disk for {}, and {slot} is none of its slots; name one such as {}0:0.",
                shown(&self.file),
                adapter.name(),
                adapter.bus().name(),
            ));
        }
        machine.knows(slot.bus).map_err(|why| format!("{}: {why}", shown(&self.vmx)))?;
        let mut lines = machine.controller_lines(slot, adapter);
        // What the descriptor names stands beside it, and not beside a link to it.
        let name = machine.name_of(&replace::followed(&self.file))?;
        lines.push(format!("{slot}.present = \"TRUE\""));
        lines.push(format!("{slot}.fileName = \"{name}\""));
        if descriptor.is_on_device() {
            lines.push(format!("{slot}.deviceType = \"rawDisk\""));
        }
        machine.text.append(lines);
        let backup = machine.write()?;
        Ok(print(format!("{} has {} as {slot} now.\n{backup}", shown(&self.vmx), shown(&self.file))))
    }
}

impl Detach {
    /// Takes the disk away from the virtual machine.
    pub fn run(self) -> Result<(), Failure> {
        self.detach().map_err(|sentence| Failure::new(Failure::FAILED, sentence))?
    }

    fn detach(self) -> Result<Result<(), Failure>, String> {
        let mut machine = Machine::open(&self.vmx)?;
        replace::is_free(&self.file)?;
        let slots: Vec<Slot> = machine.slots_of(&self.file).collect();
        let Some(first) = slots.first() else {
            return Err(format!(
                "{}: does not have {}; name a disk of it.",
                shown(&self.vmx),
                shown(&self.file)
            ));
        };
        let of_slots = machine
            .text
            .pairs()
            .filter(|pair| Slot::of_key(pair.key).is_some_and(|slot| slots.contains(&slot)));
        let lines: Vec<usize> = of_slots.map(|pair| pair.line).collect();
        if let Some(other) =
            machine.disks().find(|(slot, name)| slots.contains(slot) && !machine.is(name, &self.file))
        {
            return Err(format!(
                "{}: gives {} two disks, {} and {}; take the wrong line away in a text editor.",
                shown(&self.vmx),
                other.0,
                shown(&self.file),
                shown(OsStr::from_bytes(&other.1))
            ));
        }
        machine.text.remove(&lines);
        let backup = machine.write()?;
        Ok(print(format!(
            "{} no longer has {}, which was {first}.\n{backup}",
            shown(&self.vmx),
            shown(&self.file)
        )))
    }
}

/// A virtual machine's file.
struct Machine {
    /// Locked: nobody else writes what was read here.
    place: Place,
    text: Text,
}

impl Machine {
    /// Reads a file of a virtual machine that is shut down.
    fn open(path: &Path) -> Result<Machine, String> {
        let name = shown(path);
        let mut place = Place::locked(path)?;
        let text = Text::new(&place.read()?);
        if text.value("config.version").is_none() {
            return Err(format!(
                "{name}: is no .vmx file, for it gives no config.version; name one of a virtual machine."
            ));
        }
        if text.value("encryption.data").is_some() {
            return Err(format!(
                "{name}: is encrypted, so its disks are not to be seen; add the disk in VMware."
            ));
        }
        let is_of_suspended = |pair: &Pair<'_>| {
            pair.is("checkpoint.vmState") && pair.value.is_none_or(|state| !state.is_empty())
        };
        if text.pairs().any(|pair| is_of_suspended(&pair)) {
            return Err(format!("{name}: is of a suspended virtual machine; resume it and shut it down."));
        }
        replace::is_free(path)?;
        Ok(Machine { place, text })
    }

    /// Writes the file; a sentence says where the old one is.
    fn write(&self) -> Result<String, String> {
        let backup = self.place.replace(&self.text.bytes(), true)?;
        Ok(format!("The old file is {}.\n", shown(backup.as_deref().unwrap_or(self.place.path()))))
    }

    /// The disks by place and name; a place that has several is given several times.
    fn disks(&self) -> impl Iterator<Item = (Slot, Vec<u8>)> {
        self.text.pairs().filter_map(|pair| {
            let slot = Slot::of_key(pair.key)?;
            let is_file_name = pair.key.len() == slot.to_string().len() + ".fileName".len()
                && pair.key.to_ascii_lowercase().ends_with(b".filename");
            Some((slot, unescaped(pair.value.filter(|_| is_file_name)?)))
        })
    }

    /// Whether a name in this file is a disk's.
    fn is(&self, name: &[u8], disk: &Path) -> bool {
        let path = super::named(self.place.path(), name);
        absolute(&replace::followed(&path)) == absolute(&replace::followed(disk))
    }

    /// Where a disk is attached.
    fn slots_of(&self, disk: &Path) -> impl Iterator<Item = Slot> {
        self.disks().filter(|(_, name)| self.is(name, disk)).map(|(slot, _)| slot)
    }

    /// Why a disk cannot be added: another one has a part of the same device.
    fn shares_no_device(&self, descriptor: &Descriptor, place: &Place) -> Result<(), String> {
        let own = places(descriptor, place);
        for (slot, name) in self.disks() {
            let path = super::named(self.place.path(), &name);
            let Ok(mut other) = Place::of(&path) else { continue };
            let Ok(descriptor) = super::descriptor(&mut other) else { continue };
            let shared = places(&descriptor, &other).into_iter().find(|(device, theirs)| {
                own.iter().any(|(path, own)| {
                    options::is_same(path, device) && own.start < theirs.end && theirs.start < own.end
                })
            });
            if let Some((device, _)) = shared {
                return Err(format!(
                    "has {} already, by {} as {slot}, and two disks on one device destroy what is on it; take that away first by \
                     'vmware-bdwrapper vmdk detach {} {}'.",
                    shown(&device),
                    shown(&path),
                    quoted(&path),
                    quoted(self.place.path())
                ));
            }
        }
        Ok(())
    }

    /// Why it has no controllers of this kind: its hardware is too old.
    fn knows(&self, bus: Bus) -> Result<(), String> {
        let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<u32>().ok();
        match self.text.value("virtualHW.version").and_then(number) {
            Some(version) if version < bus.hardware() => Err(format!(
                "has virtual hardware {version}, and {} needs {}; change its hardware compatibility in VMware, or choose a place \
                 of another kind by --slot.",
                bus.name(),
                bus.hardware()
            )),
            _ => Ok(()),
        }
    }

    /// The next free place for an adapter: on a controller that is there, else on one that is not.
    fn free(&self, adapter: Adapter) -> Result<Slot, String> {
        let free = |is_wanted: bool| {
            Slot::all(adapter.bus()).find(|slot| {
                let suits = match self.controller(slot) {
                    Controller::Absent => !is_wanted,
                    Controller::Off => false,
                    Controller::Present => {
                        let key = format!("{}.virtualDev", slot.controller_name());
                        is_wanted && (slot.bus != Bus::Scsi || adapter.is_virtual_dev(self.text.value(&key)))
                    }
                };
                suits && !self.is_taken(*slot)
            })
        };
        free(true).or_else(|| free(false)).ok_or_else(|| {
            format!(
                "has no free place for a disk of {}; remove a disk, or choose a place by --slot.",
                adapter.name()
            )
        })
    }

    /// Why a place cannot be used.
    fn judge(&self, slot: Slot) -> Result<(), String> {
        if self.is_taken(slot) {
            return Err(format!("has lines for {slot} already; remove them or choose another place."));
        }
        match self.controller(&slot) {
            Controller::Off => Err(format!(
                "has its controller {} switched off; choose a place on another one.",
                slot.controller_name()
            )),
            Controller::Absent | Controller::Present => Ok(()),
        }
    }

    fn is_taken(&self, slot: Slot) -> bool {
        self.text.pairs().any(|pair| Slot::of_key(pair.key) == Some(slot))
    }

    fn controller(&self, slot: &Slot) -> Controller {
        let key = format!("{}.present", slot.controller_name());
        let mut values = self.text.pairs().filter(|pair| pair.is(&key)).map(|pair| pair.value).peekable();
        // An IDE controller is always there.
        if values.peek().is_none() && slot.bus != Bus::Ide {
            return Controller::Absent;
        }
        let is_on = values.all(|value| value.is_some_and(|value| value.eq_ignore_ascii_case(b"true")));
        if is_on { Controller::Present } else { Controller::Off }
    }

    /// The lines of a controller that is missing.
    fn controller_lines(&self, slot: Slot, adapter: Adapter) -> Vec<String> {
        if !matches!(self.controller(&slot), Controller::Absent) {
            return Vec::new();
        }
        let name = slot.controller_name();
        let mut lines = vec![format!("{name}.present = \"TRUE\"")];
        if slot.bus == Bus::Scsi && self.text.value(&format!("{name}.virtualDev")).is_none() {
            let adapter = match adapter {
                Adapter::Lsisas1068 | Adapter::Buslogic | Adapter::Pvscsi => adapter,
                _ => Guest::of(self.text.value("guestOS")).adapter(Kind::Scsi),
            };
            lines.push(format!("{name}.virtualDev = \"{}\"", adapter.name()));
        }
        lines
    }

    /// The name of a disk in this file.
    fn name_of(&self, disk: &Path) -> Result<String, String> {
        let name =
            super::beside(disk, self.place.path()).map(PathBuf::from).unwrap_or_else(|| absolute(disk));
        let is_utf8 =
            self.text.value(".encoding").is_none_or(|encoding| encoding.eq_ignore_ascii_case(b"UTF-8"));
        match name.to_str() {
            Some(text) if is_utf8 || text.is_ascii() => Ok(escaped(text)),
            _ => Err(format!(
                "{}: has a name that {} cannot hold in its encoding; rename it to one of ASCII characters.",
                shown(disk),
                shown(self.place.path())
            )),
        }
    }
}

/// The parts of devices and files, in sectors, that a disk consists of.
fn places(descriptor: &Descriptor, place: &Place) -> Vec<(PathBuf, Range<u64>)> {
    let of_extent = |extent: Extent<'_>| match extent.data {
        Data::Flat { name, offset } => {
            let path = super::named(place.path(), name);
            Some((path, offset..offset.saturating_add(extent.sectors)))
        }
        _ => None,
    };
    descriptor.extents().filter_map(of_extent).collect()
}

/// A controller of a virtual machine.
enum Controller {
    Absent,
    Off,
    Present,
}

/// The name of a file that may be gone, without symbolic links on the way to its directory.
fn absolute(path: &Path) -> PathBuf {
    let directory = replace::directory(path);
    let directory =
        directory.canonicalize().or_else(|_| std::path::absolute(directory)).unwrap_or(directory.into());
    path.file_name().map_or(directory.clone(), |name| directory.join(name))
}

/// A value as VMware writes it: quotes, `|` and control characters but the tab as `|` and two hexadecimal digits.
fn escaped(text: &str) -> String {
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

/// The other way round.
fn unescaped(value: &[u8]) -> Vec<u8> {
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

    fn machine(text: &str) -> Machine {
        let place = Place::of(Path::new("/tmp/a.vmx")).expect("there is such a directory");
        Machine { place, text: Text::new(text.as_bytes()) }
    }

    fn free(text: &str, adapter: Adapter) -> String {
        machine(text).free(adapter).map_or_else(|why| why, |slot| slot.to_string())
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
        assert!(free(&full, Adapter::Ide).contains("no free place"));
    }

    #[test]
    fn lines_of_a_controller() {
        let lines = |text: &str, slot: &str, adapter| {
            machine(text).controller_lines(Slot::parse(slot).expect("it is right"), adapter)
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
            match machine.free(adapter) {
                Ok(slot) => {
                    prop_assert!(!taken.contains(&(slot.controller, slot.unit)));
                    prop_assert!(slot.bus != Bus::Scsi || slot.unit != 7);
                    prop_assert!(machine.judge(slot).is_ok());
                }
                Err(_) => prop_assert!(Slot::all(adapter.bus()).all(|slot| taken.contains(&(slot.controller, slot.unit)))),
            }
        }

        #[test]
        fn names_survive(name in "[ -~\t\n\u{1}\u{e4}]{0,20}") {
            let escaped = escaped(&name);
            prop_assert!(!escaped.contains('"'));
            let name = name.into_bytes();
            prop_assert_eq!(unescaped(escaped.as_bytes()), name);
        }
    }
}
