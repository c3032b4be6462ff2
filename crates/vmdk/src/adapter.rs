//! The adapters of virtual machines, and the places of disks on them.

use std::fmt;
use std::str::FromStr;

use disk::entry::Kind;

/// What a virtual disk is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// `ide`
    Ide,
    /// `lsilogic`
    Lsilogic,
    /// `lsisas1068`
    Lsisas1068,
    /// `buslogic`
    Buslogic,
    /// `pvscsi`
    Pvscsi,
    /// `sata`
    Sata,
    /// `nvme`
    Nvme,
}

impl Adapter {
    /// All of them.
    pub const ALL: [Adapter; 7] = [
        Adapter::Ide,
        Adapter::Lsilogic,
        Adapter::Lsisas1068,
        Adapter::Buslogic,
        Adapter::Pvscsi,
        Adapter::Sata,
        Adapter::Nvme,
    ];

    /// The one that suits a kind of disk where nothing is known of the guest.
    pub fn of(kind: Kind) -> Adapter {
        Guest::Other.adapter(kind)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Adapter::Ide => "ide",
            Adapter::Lsilogic => "lsilogic",
            Adapter::Lsisas1068 => "lsisas1068",
            Adapter::Buslogic => "buslogic",
            Adapter::Pvscsi => "pvscsi",
            Adapter::Sata => "sata",
            Adapter::Nvme => "nvme",
        }
    }

    /// What it is, for lists of adapters.
    pub fn about(self) -> &'static str {
        match self {
            Adapter::Ide => "IDE",
            Adapter::Lsilogic => "LSI Logic, of the kind (parallel or SAS) that the guest knows",
            Adapter::Lsisas1068 => "LSI Logic SAS",
            Adapter::Buslogic => "BusLogic, for old guests",
            Adapter::Pvscsi => "VMware's paravirtual SCSI adapter",
            Adapter::Sata => "AHCI, from virtual hardware 10",
            Adapter::Nvme => "NVMe, from virtual hardware 13",
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
    pub fn suits(self, disk: vmware::Adapter) -> bool {
        match self {
            Adapter::Ide => disk == vmware::Adapter::Ide,
            Adapter::Sata | Adapter::Nvme => true,
            _ => disk != vmware::Adapter::Ide,
        }
    }

    /// The bus that it has.
    pub fn bus(self) -> Bus {
        match self {
            Adapter::Ide => Bus::Ide,
            Adapter::Sata => Bus::Sata,
            Adapter::Nvme => Bus::Nvme,
            _ => Bus::Scsi,
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

/// A guest, by the drivers that it brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// It has a driver for LSI Logic SAS, and none for the parallel one.
    Windows,
    /// Windows before Vista, which has drivers for IDE alone.
    OldWindows,
    /// All others.
    Other,
}

/// Which adapter a guest has for which kind of disk, and first for the kind that suits it best; the manual prints it.
const ADAPTERS: [(Guest, Kind, Adapter); 9] = [
    (Guest::Windows, Kind::Scsi, Adapter::Lsisas1068),
    (Guest::Windows, Kind::Ide, Adapter::Ide),
    (Guest::Windows, Kind::Sata, Adapter::Sata),
    (Guest::OldWindows, Kind::Ide, Adapter::Ide),
    (Guest::OldWindows, Kind::Scsi, Adapter::Lsilogic),
    (Guest::OldWindows, Kind::Sata, Adapter::Sata),
    (Guest::Other, Kind::Scsi, Adapter::Lsilogic),
    (Guest::Other, Kind::Ide, Adapter::Ide),
    (Guest::Other, Kind::Sata, Adapter::Sata),
];

impl Guest {
    /// The one of a virtual machine's `guestOS`; VMware's words for Windows since Vista begin so (open-vm-tools, guest_os_tables.h).
    pub fn of(word: Option<&[u8]>) -> Guest {
        let word = word.unwrap_or_default().to_ascii_lowercase();
        let since_vista = [&b"winvista"[..], b"longhorn", b"winserver2008", b"windows", b"winhyperv"];
        match since_vista.iter().any(|start| word.starts_with(start)) {
            true => Guest::Windows,
            false if word.starts_with(b"win") => Guest::OldWindows,
            false => Guest::Other,
        }
    }

    /// The kind of disk that suits it best.
    pub fn kind(self) -> Kind {
        let found = ADAPTERS.iter().find(|(guest, ..)| *guest == self);
        found.map_or(Kind::Scsi, |(_, kind, _)| *kind)
    }

    /// The adapter that suits a kind of disk.
    pub fn adapter(self, kind: Kind) -> Adapter {
        let found = ADAPTERS.iter().find(|(guest, of, _)| (*guest, *of) == (self, kind));
        found.map_or(Adapter::Lsilogic, |(_, _, adapter)| *adapter)
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

    /// The place that a key such as `scsi0:1.fileName` speaks of.
    pub fn of_key(key: &[u8]) -> Option<Slot> {
        let name = key.split(|&byte| byte == b'.').next()?;
        std::str::from_utf8(name).ok()?.parse().ok()
    }

    /// The controller's name, such as `scsi0`.
    pub fn controller_name(&self) -> String {
        format!("{}{}", self.bus.name(), self.controller)
    }
}

/// Reads a name such as `scsi0:1`.
impl FromStr for Slot {
    type Err = InvalidSlot;

    fn from_str(name: &str) -> Result<Slot, InvalidSlot> {
        let mut slots = Bus::ALL.into_iter().flat_map(Slot::all);
        slots.find(|slot| name.eq_ignore_ascii_case(&slot.to_string())).ok_or(InvalidSlot)
    }
}

/// A name is not that of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSlot;

impl fmt::Display for InvalidSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "slots are scsi0:0 to scsi3:15 without unit 7, ide0:0 to ide1:1, sata0:0 to sata3:29 and nvme0:0 to nvme3:14",
        )
    }
}

impl std::error::Error for InvalidSlot {}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", self.bus.name(), self.controller, self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests() {
        for word in ["winVista-64", "longhorn", "windows7", "windows9-64", "windows2019srv-64", "winHyperV"] {
            assert_eq!(Guest::of(Some(word.as_bytes())), Guest::Windows, "{word}");
        }
        for word in ["winXPPro", "win2000Serv", "winNetStandard", "win98"] {
            assert_eq!(Guest::of(Some(word.as_bytes())), Guest::OldWindows, "{word}");
        }
        for word in ["ubuntu-64", "other", ""] {
            assert_eq!(Guest::of(Some(word.as_bytes())), Guest::Other, "{word}");
        }
        assert_eq!([Guest::Windows, Guest::OldWindows].map(Guest::kind), [Kind::Scsi, Kind::Ide]);
        assert_eq!(Guest::of(None), Guest::Other);
    }

    #[test]
    fn the_manual_has_the_table() {
        let manual = include_str!("../../../man/vmware-bdwrapper-vmdk.1.md");
        let title = "guest                 kind   adapter\n";
        let (_, table) = manual.split_once(title).expect("the manual has the table");
        let rows: Vec<&str> = table.lines().take_while(|line| !line.starts_with("```")).collect();
        let expected = ADAPTERS.map(|(guest, kind, adapter)| {
            let guest = match guest {
                Guest::Windows => "Windows since Vista",
                Guest::OldWindows => "Windows before",
                Guest::Other => "all others",
            };
            format!("{guest:<22}{:<7}{}", kind.name(), adapter.name())
        });
        assert_eq!(rows, expected);
    }

    #[test]
    fn places() {
        for (bus, count) in [(Bus::Scsi, 60), (Bus::Ide, 4), (Bus::Sata, 120), (Bus::Nvme, 60)] {
            let all: Vec<Slot> = Slot::all(bus).collect();
            assert_eq!(all.len(), count);
            assert!(all.iter().all(|slot| slot.to_string().parse() == Ok(*slot)));
        }
        for wrong in [
            "", "scsi0", "scsi0:7", "scsi0:16", "scsi4:0", "ide0:2", "ide2:0", "sata0:30", "nvme0:15",
            "scsi00:1", "scsi0:01", "scsi0:-1",
        ] {
            assert_eq!(wrong.parse::<Slot>(), Err(InvalidSlot), "{wrong}");
        }
        assert_eq!(
            Slot::of_key(b"SCSI0:1.fileName").map(|slot| slot.to_string()).as_deref(),
            Some("scsi0:1")
        );
        assert_eq!(Slot::of_key(b"scsi0.present"), None);
    }
}
