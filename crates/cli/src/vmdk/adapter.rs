//! The adapters of virtual machines, and the places of disks on them.

use std::fmt;

use clap::ValueEnum;
use disk::entry::Kind;

/// What a virtual disk is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Adapter {
    /// IDE
    Ide,
    /// LSI Logic, parallel or SAS
    Lsilogic,
    /// BusLogic, for old guests
    Buslogic,
    /// VMware's paravirtual SCSI adapter
    Pvscsi,
    /// AHCI, from virtual hardware 10
    Sata,
    /// NVMe, from virtual hardware 13
    Nvme,
}

impl Adapter {
    /// All of them.
    const ALL: [Adapter; 6] =
        [Adapter::Ide, Adapter::Lsilogic, Adapter::Buslogic, Adapter::Pvscsi, Adapter::Sata, Adapter::Nvme];

    /// The one that suits a kind of disk.
    pub fn of(kind: Kind) -> Adapter {
        match kind {
            Kind::Scsi => Adapter::Lsilogic,
            Kind::Ide => Adapter::Ide,
            Kind::Sata => Adapter::Sata,
        }
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Adapter::Ide => "ide",
            Adapter::Lsilogic => "lsilogic",
            Adapter::Buslogic => "buslogic",
            Adapter::Pvscsi => "pvscsi",
            Adapter::Sata => "sata",
            Adapter::Nvme => "nvme",
        }
    }

    /// The one of a name.
    pub fn named(name: &[u8]) -> Option<Adapter> {
        Adapter::ALL.into_iter().find(|adapter| name.eq_ignore_ascii_case(adapter.name().as_bytes()))
    }

    /// The word in a descriptor, which knows `ide`, `buslogic` and `lsilogic` alone; for the others VMware goes by what the disk
    /// itself is.
    pub fn in_descriptor(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Adapter::Ide, _) | (Adapter::Sata | Adapter::Nvme, Kind::Ide) => "ide",
            (Adapter::Buslogic, _) => "buslogic",
            _ => "lsilogic",
        }
    }

    /// Whether VMware takes a disk on it that answers so; for SATA and NVMe it goes by the disk.
    pub fn suits(self, disk: client::Adapter) -> bool {
        match self {
            Adapter::Ide => disk == client::Adapter::Ide,
            Adapter::Lsilogic | Adapter::Buslogic | Adapter::Pvscsi => disk != client::Adapter::Ide,
            Adapter::Sata | Adapter::Nvme => true,
        }
    }

    /// The bus that it has.
    pub fn bus(self) -> Bus {
        match self {
            Adapter::Ide => Bus::Ide,
            Adapter::Sata => Bus::Sata,
            Adapter::Nvme => Bus::Nvme,
            Adapter::Lsilogic | Adapter::Buslogic | Adapter::Pvscsi => Bus::Scsi,
        }
    }

    /// Whether a SCSI controller's `virtualDev` is this one; VMware's default is BusLogic.
    pub fn is_virtual_dev(self, word: Option<&[u8]>) -> bool {
        let is = |name: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
        match self {
            Adapter::Lsilogic => is("lsilogic") || is("lsisas1068"),
            Adapter::Buslogic => is("buslogic") || word.is_none(),
            _ => is(self.name()),
        }
    }
}

/// A kind of controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// `scsi`
    Scsi,
    /// `ide`
    Ide,
    /// `sata`
    Sata,
    /// `nvme`
    Nvme,
}

impl Bus {
    /// All of them.
    const ALL: [Bus; 4] = [Bus::Scsi, Bus::Ide, Bus::Sata, Bus::Nvme];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Bus::Scsi => "scsi",
            Bus::Ide => "ide",
            Bus::Sata => "sata",
            Bus::Nvme => "nvme",
        }
    }

    /// The virtual hardware (`virtualHW.version`) from which on there are such controllers.
    pub fn hardware(self) -> u32 {
        match self {
            Bus::Scsi | Bus::Ide => 0,
            Bus::Sata => 10,
            Bus::Nvme => 13,
        }
    }

    /// How many controllers a virtual machine can have.
    pub fn controllers(self) -> u8 {
        if self == Bus::Ide { 2 } else { 4 }
    }

    /// The places of disks on one controller.
    pub fn units(self) -> impl Iterator<Item = u8> {
        let count = match self {
            Bus::Scsi => 16,
            Bus::Ide => 2,
            Bus::Sata => 30,
            Bus::Nvme => 15,
        };
        // The controller's own.
        (0..count).filter(move |unit| self != Bus::Scsi || *unit != 7)
    }
}

/// The place of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The kind of controller.
    pub bus: Bus,
    /// The controller's number.
    pub controller: u8,
    /// The place on it.
    pub unit: u8,
}

impl Slot {
    /// All places on a bus.
    pub fn all(bus: Bus) -> impl Iterator<Item = Slot> {
        (0..bus.controllers())
            .flat_map(move |controller| bus.units().map(move |unit| Slot { bus, controller, unit }))
    }

    /// The place of a name such as `scsi0:1`.
    pub fn parse(text: &str) -> Result<Slot, String> {
        let found = Bus::ALL
            .into_iter()
            .flat_map(Slot::all)
            .find(|slot| text.eq_ignore_ascii_case(&slot.to_string()));
        found.ok_or(format!(
            "{} is no place of a disk: there are scsi0:0 to scsi3:15 without unit 7, ide0:0 to ide1:1, sata0:0 to sata3:29 and \
             nvme0:0 to nvme3:14",
            text.escape_debug()
        ))
    }

    /// The place that a key such as `scsi0:1.fileName` speaks of.
    pub fn of_key(key: &[u8]) -> Option<Slot> {
        let name = key.split(|&byte| byte == b'.').next()?;
        Slot::parse(std::str::from_utf8(name).ok()?).ok()
    }

    /// The controller's name, such as `scsi0`.
    pub fn controller_name(&self) -> String {
        format!("{}{}", self.bus.name(), self.controller)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", self.bus.name(), self.controller, self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (bus, count) in [(Bus::Scsi, 60), (Bus::Ide, 4), (Bus::Sata, 120), (Bus::Nvme, 60)] {
            let all: Vec<Slot> = Slot::all(bus).collect();
            assert_eq!(all.len(), count);
            assert!(all.iter().all(|slot| Slot::parse(&slot.to_string()) == Ok(*slot)));
        }
        for wrong in [
            "", "scsi0", "scsi0:7", "scsi0:16", "scsi4:0", "ide0:2", "ide2:0", "sata0:30", "nvme0:15",
            "scsi00:1", "scsi0:01", "scsi0:-1",
        ] {
            assert!(Slot::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            Slot::of_key(b"SCSI0:1.fileName").map(|slot| slot.to_string()).as_deref(),
            Some("scsi0:1")
        );
        assert_eq!(Slot::of_key(b"scsi0.present"), None);
    }
}
