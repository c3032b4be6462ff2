//! What library, trace and replay say to each other.

use disk::abi::{Abi, SgIoHdr};
use disk::entry::Kind;
use disk::record::{Header, Words};
use disk::request::{HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, SCSI_IOCTL_SEND_COMMAND, SG_IO};
use proptest::collection::vec;
use proptest::prelude::*;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use zerocopy::IntoBytes;

use super::decode;
use super::receiver::{self, Message, Receiver};
use super::record::Record;
use super::replay::difference::difference;
use super::replay::input::{Input, input};
use super::replay::lines::parse;

/// A message as the library would send it.
fn message(head: &Header, parts: &[Vec<u8>; 6]) -> Vec<u8> {
    let words: Words = head.words(parts.each_ref().map(|part| part.len() as u64));
    let words = words.iter().flat_map(|word| word.to_ne_bytes());
    words.chain(parts.iter().flatten().copied()).collect()
}

fn head(request: u32, result: Result<i32, disk::Errno>) -> Header {
    head_of(Abi::Native, request, Some(result))
}

fn head_of(abi: Abi, request: u32, result: Option<Result<i32, disk::Errno>>) -> Header {
    Header {
        process: 1,
        thread: 2,
        name: *b"a program's name",
        fd: 3,
        request,
        argument: u64::MAX,
        kind: Kind::Sata,
        abi,
        result,
        forwarded: false,
        duration: 5,
        data_length: 6,
    }
}

/// Known requests, and any other.
fn requests() -> impl Strategy<Value = u32> {
    let known = disk::request::REQUESTS.iter().map(|request| request.number).collect::<Vec<_>>();
    prop_oneof![Just(SG_IO), Just(SCSI_IOCTL_SEND_COMMAND), prop::sample::select(known), any::<u32>()]
}

proptest! {
    #[test]
    fn any_record_has_words_and_a_line(
        request in requests(),
        result in prop::option::of(prop_oneof![Just(Ok(7)), any::<i32>().prop_filter_map("an errno", |errno| (errno != 0).then_some(Err(disk::Errno(errno))))]),
        abi in prop_oneof![Just(Abi::Native), Just(Abi::I386)],
        parts in [vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..90), vec(any::<u8>(), 0..600), vec(any::<u8>(), 0..33),
            vec(any::<u8>(), 0..256), vec(any::<u8>(), 0..600)],
        code in any::<u8>(),
        write in any::<bool>(),
    ) {
        let mut parts = parts;
        if let Some(first) = parts[3].first_mut() {
            *first = [0x12, 0x28, 0x85, 0xa1, 0x9e, code][usize::from(code) % 6];
        }
        let head = head_of(abi, request, result);
        let bytes = message(&head, &parts);
        let (parsed, found) = Header::parse(&bytes).expect("it is whole");
        prop_assert_eq!(parsed, head);
        let record = Record::new(&parsed, &found);
        let words = decode::request(&record) + &decode::outcome(&record);
        prop_assert!(!words.chars().any(char::is_control), "{}", words);
        prop_assert!(record.given.0 == parts[1] && record.program == "a program's name");
        let line = serde_json::to_string(&record).expect("it can be written");
        let read: Record = parse(line.as_bytes()).expect("it can be read");
        prop_assert_eq!(&read, &record);
        prop_assert_eq!(difference(&read, &record), []);
        let native = read.as_native();
        prop_assert_eq!(native.as_ref().map(|record| record.abi), native.as_ref().and(Some(Abi::Native)));
        if let Some(Ok(Input::Command { cdb, .. })) = native.map(|record| input(&record, write)) {
            prop_assert_eq!(cdb, read.cdb.0);
        }
        // One byte more or less is none.
        prop_assert_eq!(Header::parse(&bytes[..bytes.len() - 1]), None);
        prop_assert!(Header::parse(&[&bytes[..], &[0]].concat()).is_none());
    }

    #[test]
    fn any_message_is_a_record_or_none(bytes in vec(any::<u8>(), 0..400), at in 0usize..200, word in any::<u64>()) {
        let _ = Header::parse(&bytes);
        let mut damaged = message(&head(SG_IO, Ok(0)), &Default::default());
        let at = 8 * (at % (damaged.len() / 8));
        damaged[at..at + 8].copy_from_slice(&word.to_ne_bytes());
        if let Some((head, parts)) = Header::parse(&damaged) {
            decode::outcome(&Record::new(&head, &parts));
        }
    }
}

#[test]
fn what_may_be_made_again() {
    let record = |request, cdb: &[u8], direction: i32, data: &[u8]| {
        let hdr = SgIoHdr {
            interface_id: SgIoHdr::INTERFACE,
            dxfer_direction: direction,
            cmd_len: cdb.len() as u8,
            dxfer_len: 8,
            ..SgIoHdr::default()
        };
        let given = hdr.as_bytes().to_vec();
        let parts = [b"/x".to_vec(), given, vec![], cdb.to_vec(), vec![], data.to_vec()];
        let bytes = message(&head(request, Ok(0)), &parts);
        let (head, parts) = Header::parse(&bytes).expect("it is whole");
        Record::new(&head, &parts)
    };
    // A CDB of 12 bytes is no shorter than it is: DATA SET MANAGEMENT and IDENTIFY DEVICE.
    let trim = record(SG_IO, &[0xa1, 12, 6, 1, 1, 0, 0, 0, 0x40, 0x06, 0, 0], -2, &[1; 8]);
    assert_eq!(decode::name(&trim), "SG_IO ATA PASS-THROUGH(12) DATA SET MANAGEMENT");
    assert!(input(&trim, false).is_err_and(|why| why.contains("--write")) && input(&trim, true).is_ok());
    let identify = record(SG_IO, &[0xa1, 8, 0x0e, 0, 1, 0, 0, 0, 0x40, 0xec, 0, 0], -3, &[]);
    assert!(input(&identify, false).is_ok());
    // The CDB that is sent says what it does, not the one beside it.
    let mut other = record(SCSI_IOCTL_SEND_COMMAND, &[0x12, 0, 0, 0, 36, 0], 0, &[]);
    other.given.0 = [&[0; 8][..], &[0x1b, 0, 0, 0, 1, 0]].concat();
    assert!(input(&other, false).is_err() && input(&other, true).is_ok());
    let mut setting = record(disk::request::SG_SET_TIMEOUT, &[], 0, &[]);
    assert!(input(&setting, false).is_err() && input(&setting, true).is_ok());
    setting.request = disk::request::SG_GET_TIMEOUT;
    assert!(input(&setting, false).is_ok());
    let inquiry = record(SG_IO, &[0x12, 0, 0, 0, 36, 0], -3, &[]);
    assert!(matches!(input(&inquiry, false), Ok(Input::Command { data, length: 8, .. }) if data.is_empty()));
    let select = record(SG_IO, &[0x15, 0x10, 0, 0, 8, 0], -2, &[1; 8]);
    assert!(input(&select, false).is_err_and(|why| why.contains("--write")));
    assert!(matches!(input(&select, true), Ok(Input::Command { data, .. }) if data == [1; 8]));
    let write = record(SG_IO, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], -2, &[]);
    assert!(input(&write, true).is_err_and(|why| why.contains("not recorded")));
    assert!(input(&record(0x5399, &[], 0, &[]), true).is_err());
    // One with an address in it.
    assert!(input(&record(disk::request::BLKPG, &[], 0, &[]), true).is_err());
    assert!(input(&record(disk::request::BLKROSET, &[], 0, &[]), false).is_err());
    assert!(input(&record(disk::request::BLKROSET, &[], 0, &[]), true).is_ok());
}

/// What stands where the caller has put it was not returned.
#[test]
fn registers_that_came_back() {
    let got = |request, errno: i32, given: &[u8], got: &[u8]| {
        let result = if errno == 0 { Ok(0) } else { Err(disk::Errno(errno)) };
        let parts = [vec![], given.to_vec(), got.to_vec(), vec![], vec![], vec![]];
        let bytes = message(&head(request, result), &parts);
        let (head, parts) = Header::parse(&bytes).expect("it is whole");
        decode::outcome(&Record::new(&head, &parts))
    };
    let identify = [0xec, 0, 0, 1];
    assert_eq!(got(HDIO_DRIVE_CMD, 0, &identify, &identify), "0");
    assert_eq!(got(HDIO_DRIVE_CMD, 5, &identify, &identify), "EIO");
    assert_eq!(got(HDIO_DRIVE_CMD, 0, &identify, &[0x50, 0, 1, 1]), "status 50 error 00 count 01");
    let task = [0x40, 0, 1, 2, 3, 4, 0x40];
    assert_eq!(got(HDIO_DRIVE_TASK, 5, &task, &task), "EIO");
    assert_eq!(
        got(HDIO_DRIVE_TASK, 5, &task, &[0x51, 4, 1, 2, 3, 4, 0xe0]),
        "EIO; status 51 error 04 count 01 lba 40302 device e0"
    );
}

#[test]
fn nobody_else_is_heard() {
    let mut receiver = Receiver::new().expect("it can be made");
    let variable = receiver.variable();
    let (name, secret) = variable.split_at(disk::record::TOKEN);
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("it is short");
    let connected = || {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let socket = socket.expect("it can be made");
        connect(&socket, &address).expect("somebody listens");
        socket
    };
    let send = |message: &[u8]| {
        send(connected(), message, SendFlags::NOSIGNAL).expect("somebody listens");
    };
    let record = message(&head(SG_IO, Ok(0)), &Default::default());
    // Many that say nothing yet stand in nobody's way, nor does one that has left.
    let silent: Vec<_> = (0..300).map(|_| connected()).collect();
    drop(connected());
    for message in
        [b"end", &record[..], &[name.as_bytes(), b"end"].concat(), &[secret.as_bytes(), b"x"].concat(), b""]
    {
        send(message);
    }
    send(&[secret.as_bytes(), &record].concat());
    receiver.ender().expect("there are descriptors").end();
    let mut buffer = receiver::buffer();
    assert!(matches!(receiver.next(&mut buffer), Message::Record(record) if record.fd == 3));
    assert!(matches!(receiver.next(&mut buffer), Message::End));
    // They are still heard.
    let message = [secret.as_bytes(), &record].concat();
    rustix::net::send(&silent[0], &message, SendFlags::NOSIGNAL).expect("somebody listens");
    assert!(matches!(receiver.next(&mut buffer), Message::Record(_)));
    drop(silent);
}

/// The buffer takes whatever the library can send.
#[test]
fn the_longest_record() {
    let path = vec![b'/'; 4096];
    let longest = disk::record::TOKEN
        + size_of::<Words>()
        + path.len()
        + size_of::<SgIoHdr>()
        + 512
        + 32
        + 255
        + disk::record::MOST_DATA as usize;
    assert!(longest <= receiver::buffer().len());
}

/// What an i386 program asks is asked anew as a 64-bit program does it.
#[test]
fn requests_of_i386_programs() {
    let record = |request, given: &[u8], got: &[u8]| {
        let parts = [b"/x".to_vec(), given.to_vec(), got.to_vec(), vec![], vec![], vec![]];
        let bytes = message(&head_of(Abi::I386, request, Some(Ok(0))), &parts);
        let (head, parts) = Header::parse(&bytes).expect("it is whole");
        Record::new(&head, &parts)
    };
    let hdr =
        SgIoHdr { interface_id: SgIoHdr::INTERFACE, dxfer_len: 8, sbp: 9, resid: 3, ..SgIoHdr::default() };
    let i386 = disk::abi::i386::SgIoHdr::from(hdr);
    let inquiry = record(SG_IO, i386.as_bytes(), i386.as_bytes());
    assert_eq!(inquiry.moved().map(|moved| (moved.length, moved.done)), Some((8, 5)));
    let native = inquiry.as_native().expect("a 64-bit program can");
    assert_eq!((&native.given.0[..], &native.got.0[..]), (hdr.as_bytes(), hdr.as_bytes()));
    // Numbers that hold the size of a structure, and a `long`.
    let size = record(0x8004_1272, &[], &[7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((decode::name(&size).as_str(), decode::outcome(&size).as_str()), ("BLKGETSIZE64", "7"));
    assert_eq!(size.as_native().map(|record| record.request), Some(disk::request::BLKGETSIZE64));
    let sectors = record(disk::request::BLKGETSIZE, &[], &[7, 0, 0, 0]);
    assert_eq!(decode::outcome(&sectors), "7");
    assert_eq!(sectors.as_native().map(|record| record.got.0.len()), Some(8));
    // A 64-bit program's number means nothing there, and what holds an address is not known.
    let other = record(disk::request::BLKGETSIZE64, &[], &[]);
    assert!(other.is_unknown() && other.as_native().is_none());
    assert!(record(disk::request::BLKPG, &[0; 16], &[]).as_native().is_none());
}

/// A trace of an earlier version has neither a layout nor a result that is not known.
#[test]
fn earlier_traces() {
    let line = br#"{"program":"x","pid":1,"tid":1,"fd":3,"device":"/x","kind":"scsi","request":21378,"argument":4096,"result":0,"errno":0,"forwarded":false,"nanoseconds":9,"got":"0000007f7f000000","data_length":0,"name":"SCSI_IOCTL_GET_IDLUN","unknown":false,"asked":"SCSI_IOCTL_GET_IDLUN","outcome":"host 127 channel 0 id 0 lun 0"}"#;
    let record: Record = parse(line).expect("it can be read");
    assert_eq!((record.abi, record.result), (Abi::Native, Some(0)));
    assert_eq!(decode::outcome(&record), "host 127 channel 0 id 0 lun 0");
}
