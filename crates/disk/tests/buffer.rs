//! READ BUFFER and WRITE BUFFER: the echo buffer (SPC-4, 6.18 and 6.49).

use memory_disk::sense::*;
use memory_disk::sg_io::*;
use memory_disk::{Cluster, Disk, numbered_blocks};

const DESCRIPTOR: u8 = 0x03;
const ECHO: u8 = 0x0a;
const ECHO_DESCRIPTOR: u8 = 0x0b;

fn cluster() -> Cluster {
    Cluster::new(Disk::new(numbered_blocks(8)), 3)
}

fn cdb(code: u8, mode: u8, length: u32) -> Vec<u8> {
    [&[code, mode, 0, 0, 0, 0], &length.to_be_bytes()[1..], &[0]].concat()
}

fn write(disk: &Disk, data: &[u8]) -> Reply {
    disk.write(&cdb(0x3b, ECHO, data.len() as u32), data)
}

fn read(disk: &Disk) -> Reply {
    disk.read(&cdb(0x3c, ECHO, 4096), 4096)
}

#[test]
fn descriptors() {
    let mut cluster = cluster();
    let disk = cluster.at(0);
    assert_eq!(disk.read(&cdb(0x3c, ECHO_DESCRIPTOR, 252), 252).good(), [0x01, 0, 1, 0], "EBOS, 256 bytes");
    assert_eq!(disk.read(&cdb(0x3c, ECHO_DESCRIPTOR, 3), 252).good(), [0x01, 0, 1]);
    for id in [0, 1, 0xff] {
        let mut cdb = cdb(0x3c, DESCRIPTOR, 4);
        cdb[2] = id;
        assert_eq!(disk.read(&cdb, 4).good(), [0; 4], "there is no buffer with any ID");
    }
    for mode in (0..0x20).filter(|mode| ![DESCRIPTOR, ECHO, ECHO_DESCRIPTOR].contains(mode)) {
        assert_eq!(disk.read(&cdb(0x3c, mode, 4), 4).check(), cdb_field(1, 4));
    }
    for mode in (0..0x20).filter(|&mode| mode != ECHO) {
        assert_eq!(disk.write(&cdb(0x3b, mode, 4), &[0; 4]).check(), cdb_field(1, 4));
    }
}

#[test]
fn the_echo_buffer_returns_what_the_nexus_wrote() {
    let mut cluster = cluster();
    let disk = cluster.at(0);
    assert_eq!(read(disk).check(), COMMAND_SEQUENCE_ERROR);
    for length in [256, 4, 0, 13] {
        let data: Vec<u8> = (0..length).map(|at| at as u8 ^ 0x5a).collect();
        write(disk, &data).good();
        for _ in 0..2 {
            assert_eq!(read(disk).good(), data);
        }
        let cut = (data.len() / 2) as u32;
        assert_eq!(disk.read(&cdb(0x3c, ECHO, cut), 4096).good(), data[..cut as usize]);
    }
    // Buffer ID and offset are ignored.
    let mut elsewhere = cdb(0x3b, ECHO, 4);
    elsewhere[2..6].fill(0xff);
    disk.write(&elsewhere, b"echo").good();
    elsewhere[0] = 0x3c;
    assert_eq!(disk.read(&elsewhere, 4).good(), b"echo");
    // What is too long, or not there, changes nothing.
    assert_eq!(write(disk, &[0; 257]).check(), cdb_field(6, 7));
    assert_eq!(disk.write(&cdb(0x3b, ECHO, 4), &[0; 3]).host_status, ERROR);
    assert_eq!(read(disk).good(), b"echo");
}

#[test]
fn a_nexus_is_told_that_another_has_overwritten_the_echo_buffer() {
    let mut cluster = cluster();
    write(cluster.at(0), b"zero").good();
    assert_eq!(read(cluster.at(1)).check(), COMMAND_SEQUENCE_ERROR);
    write(cluster.at(1), b"one").good();
    assert_eq!(read(cluster.at(0)).check(), ECHO_BUFFER_OVERWRITTEN);
    assert_eq!(read(cluster.at(2)).check(), COMMAND_SEQUENCE_ERROR);
    assert_eq!(read(cluster.at(1)).good(), b"one");
    write(cluster.at(0), b"again").good();
    assert_eq!(read(cluster.at(0)).good(), b"again");
    assert_eq!(read(cluster.at(1)).check(), ECHO_BUFFER_OVERWRITTEN);
}

#[test]
fn who_may_send_them() {
    let mut cluster = cluster();
    let disk = cluster.at(0);
    disk.host.root = false;
    let header = sg_io_hdr(10, TO_DEV, 4);
    assert_eq!(disk.try_send(&cdb(0x3b, ECHO, 4), &header), Err(disk::Errno::EPERM));
    disk.host.writable = false;
    assert_eq!(disk.read(&cdb(0x3c, DESCRIPTOR, 4), 4).good(), [0; 4]);
    let alone = Disk::new(numbered_blocks(8));
    assert_eq!(read(&alone).check(), INVALID_COMMAND_OPERATION_CODE);
    assert_eq!(write(&alone, &[0; 4]).check(), INVALID_COMMAND_OPERATION_CODE);
}
