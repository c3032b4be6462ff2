//! `vmware-bdwrapper vmdk create`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bdwrapper_vmdk::adapter::Adapter;
use bdwrapper_vmdk::descriptor::{Data, Descriptor, Extent};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use disk::entry::{Entry, Printed, Problem};
use rustix::rand::{GetRandomFlags, getrandom};

use super::device::{Present, path};
use super::partitioned::{self, Copies, Layout};
use super::problem::of_descriptor;
use super::{GEOMETRY, lock, options, snapshot};
use crate::entries;
use crate::file::{self, Place};
use crate::say::failure::{Failure, print, say, shown};
use crate::say::finding::{Code, Finding};

/// The arguments of `create`.
#[derive(clap::Args)]
pub struct Create {
    /// The device: PATH[=OPTION,...]; with --flat it need not name a kind
    entry: OsString,
    /// Write the descriptor to this file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Make the descriptor for this adapter (default: one that suits the kind of disk)
    #[arg(long, value_name = "ADAPTER", value_parser = adapter())]
    adapter: Option<Adapter>,
    /// Give the virtual machine only partitions, with a private copy of the partition table
    #[arg(long, conflicts_with = "flat")]
    partitions: bool,
    /// Give it only this partition (may be repeated), as with --partitions
    #[arg(long = "partition", value_name = "N", conflicts_with = "flat", value_parser = number)]
    chosen: Vec<u32>,
    /// Describe an image file as an ordinary virtual disk, for which VMware needs no library
    #[arg(long)]
    flat: bool,
    /// Replace an existing descriptor
    #[arg(long)]
    force: bool,
}

/// What is to be said of a descriptor that was written.
pub struct Written {
    /// What of the device VMware does not take well.
    pub findings: Vec<Finding>,
    /// What was done.
    text: String,
}

impl Create {
    /// Returns the arguments for a whole device.
    pub fn of(entry: OsString, output: PathBuf) -> Create {
        let (chosen, adapter) = (Vec::new(), None);
        Create { entry, output, adapter, partitions: false, chosen, flat: false, force: false }
    }

    /// Writes the descriptor, and says so.
    pub fn run(self) -> Result<(), Failure> {
        let written = self.write()?;
        written.findings.iter().for_each(say);
        print(written.text)
    }

    /// Writes the descriptor.
    pub fn write(mut self) -> Result<Written, Failure> {
        self.partitions |= !self.chosen.is_empty();
        let texts = [self.entry()];
        let listed = entries::parse(&texts)?;
        let entry = listed[0].entry;
        let (place, old) = self.place(path(&entry))?;
        self.output = place.path().into();
        let device = Present::look(entry).map_err(Finding::from)?;
        if self.flat && device.is_block {
            let finding = Finding::problem(Code::Usage, "is a block device, and --flat is for image files");
            return Err(finding.of(path(&entry)).hint("omit --flat").into());
        }
        let adapter = self.adapter.unwrap_or(Adapter::of(entry.kind));
        if !self.flat && !adapter.suits(device.disk.adapter) {
            let why = format!(
                "answers as a disk of {}, which VMware refuses on {}",
                device.disk.adapter,
                adapter.name()
            );
            let option = if adapter == Adapter::Ide { "ide" } else { "scsi" };
            let hint = format!("omit --adapter, or give the entry the option {option}");
            return Err(Finding::problem(Code::Usage, why).of(path(&entry)).hint(hint).into());
        }
        let name = self.name(&entry)?;
        let old = old.as_ref();
        let (copy, extents) = self.extents(&device, &name, &place, old)?;
        let text = self.text(&device, adapter, &extents)?;
        // The old one stays, with its copy of the table, which other descriptors may use, too.
        let written = match old {
            Some(_) => place.replace(text.as_bytes(), true),
            None => place.create(text.as_bytes()).map(|()| None),
        };
        let backup = match written {
            Ok(backup) => backup,
            Err(finding) => {
                if let Some(copy) = copy {
                    let _ = fs::remove_file(place.beside(copy));
                }
                return Err(finding.into());
            }
        };
        let findings = device.findings(self.flat);
        let (file, sectors) = (shown(&self.output), device.disk.capacity);
        let mut said = format!(
            "{file} describes {}: {sectors} sectors, for {}.\n",
            entry.printed_path(),
            adapter.name()
        );
        if let Some(backup) = backup {
            let written =
                Descriptor::parse(text.as_bytes()).map_err(|error| of_descriptor(error, &self.output))?;
            said += &format!("The old file is {}.\n", shown(&backup));
            said += &partitioned::describe_spare_copies(&written, &self.output, old);
        }
        Ok(Written { findings, text: said })
    }

    /// The entry. An image file that needs no library need not be of a kind.
    fn entry(&self) -> OsString {
        let mut text = self.entry.clone();
        let is_open = Entry::parse(text.as_bytes()).is_err_and(|error| error.problem == Problem::NoKind);
        if self.flat && is_open {
            text.push(if text.as_bytes().contains(&b'=') { "," } else { "=" });
            text.push(if self.adapter == Some(Adapter::Ide) { "ide" } else { "scsi" });
        }
        text
    }

    /// Finds the place of the descriptor, and locks and reads the one that it replaces. Any other file there is refused.
    fn place(&self, device: &Path) -> Result<(Place, Option<Descriptor>), Finding> {
        if self.output.symlink_metadata().is_err() {
            return Ok((Place::of(&self.output)?, None));
        }
        if self.output.is_dir() {
            let finding = Finding::problem(Code::FileType, "is a directory");
            return Err(finding.of(&self.output).hint("name a file in it"));
        }
        let refuse =
            |code, why: String| Err(Finding::problem(code, why).of(&self.output).hint("choose another name"));
        let own = file::inode(device.metadata());
        if own.is_some() && own == file::inode(self.output.metadata()) {
            return refuse(Code::FileType, "is the disk itself".into());
        }
        if !self.force {
            return Err(file::already_exists(&self.output));
        }
        let mut place = Place::lock(&self.output)?;
        let old = match Descriptor::parse(&place.read()?) {
            Ok(old) => old,
            Err(error) => return refuse(Code::Malformed, format!("would be replaced, but {error}")),
        };
        // The disks of VMware's own are lost without their descriptors.
        let is_own = old.is_on_device() || old.is("monolithicFlat") && old.0.value(options::KEY).is_some();
        if !is_own {
            let kind = Printed(old.0.value("createType").unwrap_or_default());
            let why = format!(
                "would be replaced, but describes a disk of another kind ({kind}), which 'vmware-bdwrapper vmdk create' has not \
                 written"
            );
            return refuse(Code::Unsupported, why);
        }
        lock::check_free(&self.output)?;
        snapshot::refuse(&old, &place)?;
        Ok((place, Some(old)))
    }

    /// The device's name in the descriptor.
    fn name(&self, entry: &Entry<'_>) -> Result<String, Finding> {
        let path = path(entry);
        let cannot = |why: &str| {
            let why = format!("has a name that a descriptor cannot hold ({why})");
            Finding::problem(Code::Unsupported, why).of(path).hint("name it by a symbolic link")
        };
        let text = path.to_str().ok_or_else(|| cannot("it is not UTF-8"))?;
        if text.contains('"') {
            return Err(cannot("it has a quote"));
        }
        if text.contains(char::is_control) {
            return Err(cannot("it has a control character"));
        }
        let beside = self.flat.then(|| super::name_beside(path, &self.output)).flatten();
        Ok(beside.unwrap_or_else(|| text.to_owned()))
    }

    /// The name of the private copy, and the lines of the extents.
    fn extents(
        &self,
        device: &Present<'_>,
        name: &str,
        place: &Place,
        old: Option<&Descriptor>,
    ) -> Result<(Option<String>, Vec<Vec<u8>>), Finding> {
        if !self.partitions {
            let data = Data::Flat { name: name.as_bytes(), offset: 0 };
            return Ok((None, vec![Extent::new(device.disk.capacity, data).line()]));
        }
        let is_chosen = |number| self.chosen.is_empty() || self.chosen.contains(&number);
        let layout = Layout::new(device, None, |partition| is_chosen(partition.number))?;
        let mut numbers: Vec<u32> = layout.partitions().map(|partition| partition.number).collect();
        if let Some(missing) = self.chosen.iter().find(|number| !numbers.contains(number)) {
            numbers.sort();
            let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
            let why = format!("has no partition {missing} with data");
            let hint = format!("choose from {}", numbers.join(", "));
            return Err(Finding::problem(Code::NotFound, why).of(path(&device.entry)).hint(hint));
        }
        let rights = old.map(|old| Copies::open(old, place).rights(place)).transpose()?;
        let (copy, lines) = layout.write(place, name, rights, None)?;
        Ok((Some(copy), lines))
    }

    /// The descriptor, as VMware's own interface writes it.
    fn text(&self, device: &Present<'_>, adapter: Adapter, extents: &[Vec<u8>]) -> Result<String, Finding> {
        let kind = match (self.flat, self.partitions) {
            (true, _) => "monolithicFlat",
            (_, true) => "partitionedDevice",
            _ => "fullDevice",
        };
        let mut random = [0; 20];
        let count = getrandom(&mut random, GetRandomFlags::empty());
        if count != Ok(random.len()) {
            let why = "The system gives no random numbers";
            return Err(Finding::problem(Code::Io, why).hint("try again later"));
        }
        let [a, b, c, d, ref uuid @ ..] = random;
        // FFFFFFFE and FFFFFFFF mean that there is none.
        let content = u32::from_ne_bytes([a, b, c, d]) & 0x7fff_ffff;
        let mut text = "# Disk DescriptorFile\nversion=1\n".to_owned();
        if !extents.iter().all(|line| line.is_ascii()) {
            text += "encoding=\"UTF-8\"\n";
        }
        text += &format!(
            "CID={content:08x}\nparentCID=ffffffff\ncreateType=\"{kind}\"\n\n# Extent description\n"
        );
        for extent in extents {
            text += &format!("{}\n", String::from_utf8_lossy(extent));
        }
        text += "\n# The Disk Data Base \n#DDB\n\nddb.virtualHWVersion = \"4\"\n";
        for (key, number) in GEOMETRY.into_iter().zip(super::geometry_numbers(&device.disk)) {
            text += &format!("{key} = \"{number}\"\n");
        }
        text += &format!("ddb.uuid = \"{}\"\n", identifier(uuid));
        if let Some(options) = options::options_to_remember(&device.entry, adapter, self.flat) {
            text += &format!("{} = \"{options}\"\n", options::KEY);
        }
        if adapter.name() != adapter.in_descriptor(device.entry.kind) {
            text += &format!("{} = \"{}\"\n", options::ADAPTER, adapter.name());
        }
        text += &format!("ddb.adapterType = \"{}\"\n", adapter.in_descriptor(device.entry.kind));
        Ok(text)
    }
}

/// Returns the parser of the adapters' names.
fn adapter() -> impl TypedValueParser<Value = Adapter> {
    let names = Adapter::ALL.map(|adapter| PossibleValue::new(adapter.name()).help(adapter.about()));
    PossibleValuesParser::new(names)
        .try_map(|name| Adapter::named(name.as_bytes()).ok_or("there is no such adapter"))
}

/// The number of a partition.
fn number(text: &str) -> Result<u32, &'static str> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or("a partition has a number from 1, which 'lsblk' shows at the end of its name")
}

/// The identifier of a disk in VMware's form: bytes of which the first say that VMware gave it (NAA 6 and VMware's OUI 000C29).
fn identifier(random: &[u8; 16]) -> String {
    let mut bytes = *random;
    bytes[3] = 0x90 | bytes[3] & 0xf;
    let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    format!("60 00 C2 {}-{}", text(&bytes[3..8]), text(&bytes[8..]))
}
