//! A disk with several I_T nexuses.

use std::cell::RefCell;
use std::mem::swap;

use disk::{Nexus, Shared};

use crate::sg_io::Disk;

/// A disk whose engine knows all its I_T nexuses.
pub struct Cluster {
    disk: Disk,
    /// The nexuses, but in the place of `current` a fresh one: the disk has it.
    nexuses: Vec<Nexus>,
    current: usize,
}

impl Cluster {
    /// The disk, with so many nexuses; their numbers begin with 1.
    pub fn new(mut disk: Disk, nexuses: usize) -> Cluster {
        let mut shared = Shared::default();
        let mut nexuses: Vec<Nexus> = (0..nexuses).map(|_| Nexus::new(shared.add_nexus())).collect();
        disk.host.shared = Some(RefCell::new(shared));
        swap(&mut disk.nexus, &mut nexuses[0]);
        Cluster { disk, nexuses, current: 0 }
    }

    /// The disk as a nexus sees it; the first one is 0.
    pub fn at(&mut self, nexus: usize) -> &mut Disk {
        swap(&mut self.disk.nexus, &mut self.nexuses[self.current]);
        self.current = nexus;
        swap(&mut self.disk.nexus, &mut self.nexuses[nexus]);
        &mut self.disk
    }

    /// Changes what the nexuses share.
    pub fn change<R>(&self, change: impl FnOnce(&mut Shared) -> R) -> R {
        change(&mut self.disk.host.shared.as_ref().expect("the engine knows the nexuses").borrow_mut())
    }
}
