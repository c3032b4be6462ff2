//! Reservations: what PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE and `IOC_PR_…` answer, and what other commands do
//! under the reservations of others.

use disk::abi::{
    PrClear, PrPreempt, PrReadKeys, PrReadReservation, PrRegistration, PrReservation, Structure,
};
use disk::request::*;
use disk::scsi::command::{COMMANDS, DataPhase};
use disk::scsi::sense::Sense;
use disk::{Abi, Answer, Caller, Capability, Errno, Medium};
use memory_disk::sense::*;
use memory_disk::sg_io::*;
use memory_disk::{Cluster, Disk, numbered_blocks};
use zerocopy::IntoBytes;

/// Service actions of PERSISTENT RESERVE IN.
const READ_KEYS: u8 = 0;
const READ_RESERVATION: u8 = 1;
const REPORT_CAPABILITIES: u8 = 2;
const READ_FULL_STATUS: u8 = 3;

/// Service actions of PERSISTENT RESERVE OUT.
const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_AND_IGNORE: u8 = 6;
const REGISTER_AND_MOVE: u8 = 7;

/// The types of a persistent reservation.
const WRITE_EXCLUSIVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 3;
const WRITE_EXCLUSIVE_REGISTRANTS_ONLY: u8 = 5;
const EXCLUSIVE_ACCESS_REGISTRANTS_ONLY: u8 = 6;
const WRITE_EXCLUSIVE_ALL_REGISTRANTS: u8 = 7;
const EXCLUSIVE_ACCESS_ALL_REGISTRANTS: u8 = 8;
const TYPES: [u8; 6] = [1, 3, 5, 6, 7, 8];

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const RESERVE_6: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
const RELEASE_6: [u8; 6] = [0x17, 0, 0, 0, 0, 0];

fn cluster(nexuses: usize) -> Cluster {
    Cluster::new(Disk::new(numbered_blocks(64)), nexuses)
}

fn in_cdb(action: u8, length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    vec![0x5e, action, 0, 0, 0, 0, 0, high, low, 0]
}

fn out_cdb(action: u8, scope_type: u8, length: usize) -> Vec<u8> {
    [&[0x5f, action, scope_type, 0, 0][..], &(length as u32).to_be_bytes(), &[0]].concat()
}

/// The basic parameter list.
fn list(key: u64, service_action_key: u64, flags: u8) -> Vec<u8> {
    [&key.to_be_bytes()[..], &service_action_key.to_be_bytes(), &[0, 0, 0, 0, flags, 0, 0, 0]].concat()
}

/// The TransportID of a nexus, whose number is greater by one.
fn transport_id(nexus: usize) -> Vec<u8> {
    let mut id = vec![0x06, 0, 0, 0, 0x30, 0, 0, 0, 0, 0, 0, nexus as u8 + 1];
    id.resize(24, 0);
    id
}

fn transport_ids(nexuses: &[usize]) -> Vec<u8> {
    let ids: Vec<u8> = nexuses.iter().flat_map(|&nexus| transport_id(nexus)).collect();
    [&(ids.len() as u32).to_be_bytes()[..], &ids].concat()
}

/// The parameter list of REGISTER AND MOVE.
fn move_list(key: u64, new: u64, flags: u8, port: u16, to: &[u8]) -> Vec<u8> {
    [&key.to_be_bytes()[..], &new.to_be_bytes(), &[0, flags], &port.to_be_bytes(), to].concat()
}

/// Sends PERSISTENT RESERVE OUT.
#[track_caller]
fn out(disk: &Disk, action: u8, scope_type: u8, key: u64, service_action_key: u64) -> Reply {
    disk.write(&out_cdb(action, scope_type, 24), &list(key, service_action_key, 0))
}

#[track_caller]
fn register(disk: &Disk, key: u64) {
    out(disk, REGISTER_AND_IGNORE, 0, 0, key).good();
}

#[track_caller]
fn reserve(disk: &Disk, key: u64, kind: u8) {
    out(disk, RESERVE, kind, key, 0).good();
}

/// Returns PRGENERATION and the keys.
#[track_caller]
fn keys(disk: &Disk) -> (u32, Vec<u64>) {
    let data = disk.read(&in_cdb(READ_KEYS, 4096), 4096).good();
    let (header, list) = data.split_at(8);
    assert_eq!(header[4..], (list.len() as u32).to_be_bytes());
    let generation = u32::from_be_bytes(header[..4].try_into().expect("four bytes"));
    let key = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    (generation, list.chunks(8).map(key).collect())
}

/// Returns the key of the holder, and the type.
#[track_caller]
fn held(disk: &Disk) -> Option<(u64, u8)> {
    let data = disk.read(&in_cdb(READ_RESERVATION, 4096), 4096).good();
    match data[4..] {
        [0, 0, 0, 0] => None,
        [0, 0, 0, 16, ref rest @ ..] => {
            let (key, rest) = rest.split_at(8);
            let [0, 0, 0, 0, 0, kind, 0, 0] = *rest else { panic!("{data:02x?}") };
            Some((u64::from_be_bytes(key.try_into().expect("eight bytes")), kind))
        }
        _ => panic!("{data:02x?}"),
    }
}

/// Reports the unit attentions of a nexus, one a command, until there is none.
#[track_caller]
fn attentions(disk: &Disk) -> Vec<Sense> {
    let mut reported = Vec::new();
    loop {
        let reply = disk.none(&TEST_UNIT_READY);
        if reply.status != CHECK_CONDITION {
            return reported;
        }
        reported.push(reply.check());
        assert!(reported.len() < 9, "each is reported once: {reported:?}");
    }
}

/// All nexuses have been told everything.
fn settle(cluster: &mut Cluster, nexuses: usize) {
    (0..nexuses).for_each(|nexus| drop(attentions(cluster.at(nexus))));
}

#[test]
fn nothing_is_reserved_at_first() {
    let mut cluster = cluster(1);
    let disk = cluster.at(0);
    assert_eq!(disk.read(&in_cdb(READ_KEYS, 255), 255).good(), [0; 8]);
    assert_eq!(disk.read(&in_cdb(READ_RESERVATION, 255), 255).good(), [0; 8]);
    assert_eq!(disk.read(&in_cdb(READ_FULL_STATUS, 255), 255).good(), [0; 8]);
    // SIP_C, ATP_C; TMV; the six types.
    let capabilities = [0, 8, 0x0c, 0x80, 0xea, 0x01, 0, 0];
    assert_eq!(disk.read(&in_cdb(REPORT_CAPABILITIES, 255), 255).good(), capabilities);
    for action in 4..0x20 {
        assert_eq!(disk.read(&in_cdb(action, 255), 255).check(), cdb_field(1, 4));
    }
    for action in 8..0x20 {
        assert_eq!(out(disk, action, 0, 0, 0).check(), cdb_field(1, 4));
    }
}

#[test]
fn what_is_reserved_byte_for_byte() {
    let mut cluster = cluster(3);
    register(cluster.at(0), 0x0102_0304_0506_0708);
    register(cluster.at(2), 0xa);
    reserve(cluster.at(2), 0xa, WRITE_EXCLUSIVE_REGISTRANTS_ONLY);
    let keys = [&[0, 0, 0, 2, 0, 0, 0, 16][..], &[1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0xa]].concat();
    let held =
        [&[0, 0, 0, 2, 0, 0, 0, 16][..], &[0, 0, 0, 0, 0, 0, 0, 0xa], &[0, 0, 0, 0, 0, 5, 0, 0]].concat();
    let status = [
        &[0, 0, 0, 2, 0, 0, 0, 96][..],
        &[1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 24],
        &transport_id(0),
        &[0, 0, 0, 0, 0, 0, 0, 0xa, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 1, 0, 0, 0, 24],
        &transport_id(2),
    ]
    .concat();
    // A nexus that is not registered may ask too.
    let disk = cluster.at(1);
    for (action, expected) in [(READ_KEYS, keys), (READ_RESERVATION, held), (READ_FULL_STATUS, status)] {
        for length in [0, 1, 4, 7, 8, 9, 16, 20, 24, 40, 55, 56, 57, 103, 104, 105, 4096] {
            let whole = expected.get(..length).unwrap_or(&expected);
            for room in [0, 1, 8, 12, 50, 4096] {
                let cut = whole.get(..room).unwrap_or(whole);
                let reply = disk.read(&in_cdb(action, length as u16), room);
                if room == 0 && length > 0 {
                    assert_eq!(reply.host_status, ERROR, "there is no buffer");
                    continue;
                }
                assert_eq!(reply.resid as usize, room - cut.len(), "{action} {length} {room}");
                assert_eq!(reply.good(), cut, "{action} {length} {room}");
            }
        }
    }
}

#[test]
fn all_registrants_hold_a_reservation_without_a_key() {
    let mut cluster = cluster(3);
    (0..2).for_each(|nexus| register(cluster.at(nexus), 7));
    reserve(cluster.at(0), 7, EXCLUSIVE_ACCESS_ALL_REGISTRANTS);
    assert_eq!(held(cluster.at(2)), Some((0, EXCLUSIVE_ACCESS_ALL_REGISTRANTS)));
    let status = cluster.at(2).read(&in_cdb(READ_FULL_STATUS, 4096), 4096).good();
    for descriptor in status[8..].chunks(48) {
        assert_eq!(descriptor[12..14], [1, 8], "each holds it");
    }
    // Each can release it, and reserves it again without an effect.
    reserve(cluster.at(1), 7, EXCLUSIVE_ACCESS_ALL_REGISTRANTS);
    out(cluster.at(1), RESERVE, WRITE_EXCLUSIVE, 7, 0).conflict();
    out(cluster.at(1), RELEASE, EXCLUSIVE_ACCESS_ALL_REGISTRANTS, 7, 0).good();
    assert_eq!(held(cluster.at(2)), None);
    assert_eq!(attentions(cluster.at(0)), [RESERVATIONS_RELEASED]);
    assert_eq!(attentions(cluster.at(1)), []);
    // It lasts as long as one is registered.
    reserve(cluster.at(0), 7, WRITE_EXCLUSIVE_ALL_REGISTRANTS);
    register(cluster.at(0), 0);
    assert_eq!(held(cluster.at(2)), Some((0, WRITE_EXCLUSIVE_ALL_REGISTRANTS)));
    register(cluster.at(1), 0);
    assert_eq!(held(cluster.at(2)), None);
    assert_eq!(attentions(cluster.at(0)), []);
}

/// SPC-4, 5.13.7.
#[test]
fn register_compares_the_key() {
    let mut cluster = cluster(2);
    let disk = cluster.at(0);
    // Nothing happens, and PRGENERATION stays.
    out(disk, REGISTER, 0, 0, 0).good();
    out(disk, REGISTER_AND_IGNORE, 0, 9, 0).good();
    assert_eq!(keys(disk), (0, vec![]));
    out(disk, REGISTER, 0, 1, 0).conflict();
    out(disk, REGISTER, 0, 1, 1).conflict();
    // SCOPE and TYPE are ignored.
    out(disk, REGISTER, 0xff, 0, 1).good();
    assert_eq!(keys(disk), (1, vec![1]));
    for wrong in [0, 2] {
        out(disk, REGISTER, 0, wrong, 3).conflict();
    }
    out(disk, REGISTER, 0, 1, 2).good();
    out(disk, REGISTER_AND_IGNORE, 0, 99, 3).good();
    assert_eq!(keys(disk), (3, vec![3]));
    out(cluster.at(1), REGISTER, 0, 0, 3).good();
    assert_eq!(keys(cluster.at(0)), (4, vec![3, 3]));
    out(cluster.at(0), REGISTER, 0, 3, 0).good();
    out(cluster.at(1), REGISTER_AND_IGNORE, 0, 0, 0).good();
    assert_eq!(keys(cluster.at(0)), (6, vec![]));
}

#[test]
fn parameter_lists_have_24_bytes() {
    let mut cluster = cluster(1);
    let disk = cluster.at(0);
    for action in 0..7 {
        for length in [0, 1, 23, 25, 28, 4096] {
            let reply = disk.write(&out_cdb(action, 1, length), &vec![0; length]);
            assert_eq!(reply.check(), PARAMETER_LIST_LENGTH_ERROR, "{action} {length}");
        }
        // The caller's buffer is shorter than the parameter list.
        assert_eq!(disk.write(&out_cdb(action, 1, 24), &[0; 23]).host_status, ERROR);
    }
    // More than all nexuses would need.
    assert_eq!(disk.write(&out_cdb(REGISTER, 0, 1 << 20), &[0; 24]).check(), PARAMETER_LIST_LENGTH_ERROR);
}

#[test]
fn registrations_do_not_survive_a_loss_of_power() {
    let mut cluster = cluster(2);
    for action in [REGISTER, REGISTER_AND_IGNORE] {
        let reply = cluster.at(0).write(&out_cdb(action, 0, 24), &list(0, 1, 0x01));
        assert_eq!(reply.check(), list_field(20, 0));
    }
    register(cluster.at(0), 1);
    register(cluster.at(1), 2);
    // Others ignore it, and ALL_TG_PT changes nothing: there is one port.
    cluster.at(0).write(&out_cdb(RESERVE, WRITE_EXCLUSIVE, 24), &list(1, 0, 0x01)).good();
    let to = move_list(1, 2, 0x01, 1, &transport_ids(&[1]));
    assert_eq!(cluster.at(0).write(&out_cdb(REGISTER_AND_MOVE, 0, to.len()), &to).check(), list_field(17, 0));
    cluster.at(1).write(&out_cdb(REGISTER, 0, 24), &list(2, 3, 0x04)).good();
    assert_eq!(keys(cluster.at(0)).1, [1, 3]);
}

#[test]
fn register_other_initiator_ports() {
    let mut cluster = cluster(4);
    let spec = |key, new, ids: &[u8]| [list(key, new, 0x08), ids.to_vec()].concat();
    let send = |disk: &Disk, action, list: &[u8]| disk.write(&out_cdb(action, 0, list.len()), list);
    register(cluster.at(3), 30);
    // One that is registered keeps its key.
    send(cluster.at(0), REGISTER, &spec(0, 5, &transport_ids(&[1, 2, 3]))).good();
    assert_eq!(keys(cluster.at(0)), (2, vec![30, 5, 5, 5]));
    out(cluster.at(3), REGISTER, 0, 30, 0).good();
    for nexus in 0..3 {
        out(cluster.at(nexus), REGISTER, 0, 5, 0).good();
        assert_eq!(attentions(cluster.at(nexus)), []);
    }
    send(cluster.at(0), REGISTER, &spec(0, 5, &transport_ids(&[]))).good();
    assert_eq!(keys(cluster.at(0)).1, [5]);
    // Not when it is registered, nor without a key.
    let ids = transport_ids(&[1]);
    assert_eq!(send(cluster.at(0), REGISTER, &spec(5, 6, &ids)).check(), list_field(20, 3));
    assert_eq!(send(cluster.at(0), REGISTER, &spec(5, 0, &ids)).check(), list_field(20, 3));
    send(cluster.at(0), REGISTER, &spec(4, 6, &ids)).conflict();
    assert_eq!(send(cluster.at(1), REGISTER, &spec(0, 0, &ids)).check(), list_field(20, 3));
    for action in 1..7 {
        assert_eq!(send(cluster.at(0), action, &spec(5, 6, &ids)).check(), list_field(20, 3));
    }
    // Lists that end too early, and TransportIDs of nobody.
    let whole = spec(0, 6, &transport_ids(&[1, 2]));
    for length in [24, 27, 28, 51, 52, 75] {
        assert_eq!(send(cluster.at(3), REGISTER, &whole[..length]).check(), list_field(24, None), "{length}");
    }
    for (at, byte) in [(28, 0x05), (28, 0x46), (29, 1), (32, 0x50), (39, 9), (39, 0), (51, 1)] {
        let mut wrong = whole.clone();
        wrong[at] = byte;
        assert_eq!(send(cluster.at(3), REGISTER, &wrong).check(), list_field(28, None), "{at}");
        wrong = whole.clone();
        wrong[at + 24] = byte;
        assert_eq!(send(cluster.at(3), REGISTER, &wrong).check(), list_field(52, None), "{at}");
    }
    let mut cut = whole.clone();
    cut[27] = 47;
    assert_eq!(send(cluster.at(3), REGISTER, &cut).check(), list_field(52, None));
    assert_eq!(keys(cluster.at(0)).1, [5], "nothing has been registered");
}

#[test]
fn there_is_room_for_64_registrations() {
    let mut cluster = cluster(66);
    (0..63).for_each(|nexus| register(cluster.at(nexus), 1 + nexus as u64));
    let two = [list(0, 99, 0x08), transport_ids(&[64])].concat();
    let send = |disk: &Disk| disk.write(&out_cdb(REGISTER, 0, two.len()), &two);
    assert_eq!(send(cluster.at(63)).check(), INSUFFICIENT_REGISTRATION_RESOURCES);
    assert_eq!(keys(cluster.at(0)), (63, (1..=63).collect()), "all or nothing");
    register(cluster.at(63), 64);
    for action in [REGISTER, REGISTER_AND_IGNORE] {
        assert_eq!(out(cluster.at(64), action, 0, 0, 5).check(), INSUFFICIENT_REGISTRATION_RESOURCES);
    }
    reserve(cluster.at(0), 1, WRITE_EXCLUSIVE);
    let to = move_list(1, 2, 0, 1, &transport_ids(&[64]));
    let reply = cluster.at(0).write(&out_cdb(REGISTER_AND_MOVE, 0, to.len()), &to);
    assert_eq!(reply.check(), INSUFFICIENT_REGISTRATION_RESOURCES);
    assert_eq!(keys(cluster.at(64)), (64, (1..=64).collect()));
    let status = cluster.at(65).read(&in_cdb(READ_FULL_STATUS, 8192), 8192).good();
    assert_eq!(status.len(), 8 + 64 * 48);
    // Known keys may be changed. A nexus that has lost its own makes room, although it has not been told yet.
    register(cluster.at(5), 600);
    out(cluster.at(0), PREEMPT, 0, 1, 64).good();
    register(cluster.at(64), 5);
    assert_eq!(keys(cluster.at(0)).1.len(), 64);
}

/// SPC-4, 5.13.9 and 5.13.11.2.
#[test]
fn reserve_and_release() {
    for kind in TYPES {
        let mut cluster = cluster(3);
        out(cluster.at(0), RESERVE, kind, 0, 0).conflict();
        out(cluster.at(0), RELEASE, kind, 0, 0).conflict();
        register(cluster.at(0), 1);
        register(cluster.at(1), 2);
        // There is nothing to release.
        out(cluster.at(0), RELEASE, kind, 1, 0).good();
        for wrong in [0, 2] {
            out(cluster.at(0), RESERVE, kind, wrong, 0).conflict();
        }
        for wrong in [0, 2, 4, 9, 0xf, 0x10 | kind, 0xf0 | kind] {
            assert_eq!(out(cluster.at(0), RESERVE, wrong, 1, 0).check(), cdb_field(2, None), "{wrong:x}");
        }
        // The service action key is ignored.
        out(cluster.at(0), RESERVE, kind, 1, 77).good();
        assert_eq!(keys(cluster.at(1)), (2, vec![1, 2]), "PRGENERATION stays");
        let all = kind >= WRITE_EXCLUSIVE_ALL_REGISTRANTS;
        assert_eq!(held(cluster.at(1)), Some((if all { 0 } else { 1 }, kind)));
        for other in TYPES {
            let again = |reply: Reply, may: bool| if may { drop(reply.good()) } else { reply.conflict() };
            again(out(cluster.at(0), RESERVE, other, 1, 0), other == kind);
            again(out(cluster.at(1), RESERVE, other, 2, 0), all && other == kind);
            out(cluster.at(2), RESERVE, other, 0, 0).conflict();
            if other != kind {
                let reply = out(cluster.at(0), RELEASE, other, 1, 0);
                assert_eq!(reply.check(), INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
            }
        }
        let reply = out(cluster.at(0), RELEASE, 0x10 | kind, 1, 0);
        assert_eq!(reply.check(), INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
        out(cluster.at(0), RELEASE, kind, 2, 0).conflict();
        if !all {
            // Another than the holder releases nothing, whatever the type.
            out(cluster.at(1), RELEASE, kind, 2, 0).good();
            out(cluster.at(1), RELEASE, 0xff, 2, 0).good();
            assert_eq!(held(cluster.at(1)), Some((1, kind)));
        }
        settle(&mut cluster, 3);
        out(cluster.at(0), RELEASE, kind, 1, 0).good();
        assert_eq!((keys(cluster.at(2)), held(cluster.at(2))), ((2, vec![1, 2]), None));
        let told = if kind >= 5 { vec![RESERVATIONS_RELEASED] } else { vec![] };
        assert_eq!(attentions(cluster.at(0)), []);
        assert_eq!(attentions(cluster.at(1)), told, "{kind}");
        assert_eq!(attentions(cluster.at(2)), []);
    }
}

/// SPC-4, 5.13.11.3.
#[test]
fn the_holder_unregisters() {
    for kind in TYPES {
        for action in [REGISTER, REGISTER_AND_IGNORE] {
            let mut cluster = cluster(3);
            register(cluster.at(0), 1);
            register(cluster.at(1), 2);
            reserve(cluster.at(0), 1, kind);
            // A new key keeps it.
            out(cluster.at(0), action, 0, 1, 5).good();
            let all = kind >= 7;
            assert_eq!(held(cluster.at(2)), Some((if all { 0 } else { 5 }, kind)));
            out(cluster.at(0), action, 0, 5, 0).good();
            assert_eq!(keys(cluster.at(2)), (4, vec![2]));
            assert_eq!(held(cluster.at(2)), if all { Some((0, kind)) } else { None });
            let told = if matches!(kind, 5 | 6) { vec![RESERVATIONS_RELEASED] } else { vec![] };
            assert_eq!(attentions(cluster.at(1)), told, "{kind}");
            assert_eq!(attentions(cluster.at(0)), []);
            assert_eq!(attentions(cluster.at(2)), []);
        }
    }
}

#[test]
fn clear() {
    let mut cluster = cluster(4);
    (0..3).for_each(|nexus| register(cluster.at(nexus), 1 + nexus as u64));
    reserve(cluster.at(1), 2, EXCLUSIVE_ACCESS);
    out(cluster.at(3), CLEAR, 0, 0, 0).conflict();
    out(cluster.at(0), CLEAR, 0, 2, 0).conflict();
    // SCOPE and TYPE are ignored.
    out(cluster.at(0), CLEAR, 0xff, 1, 0).good();
    assert_eq!((keys(cluster.at(3)), held(cluster.at(3))), ((4, vec![]), None));
    assert_eq!(attentions(cluster.at(0)), []);
    assert_eq!(attentions(cluster.at(1)), [RESERVATIONS_PREEMPTED]);
    assert_eq!(attentions(cluster.at(2)), [RESERVATIONS_PREEMPTED]);
    assert_eq!(attentions(cluster.at(3)), []);
    // Without a reservation too.
    register(cluster.at(0), 1);
    register(cluster.at(1), 1);
    out(cluster.at(0), CLEAR, 0, 1, 0).good();
    assert_eq!(keys(cluster.at(3)), (7, vec![]));
    assert_eq!(attentions(cluster.at(1)), [RESERVATIONS_PREEMPTED]);
}

/// SPC-4, 5.13.11.4.
#[test]
fn preempt_the_holder() {
    for action in [PREEMPT, PREEMPT_AND_ABORT] {
        for kind in [1, 3, 5, 6] {
            for new in TYPES {
                // 0 and 3 hold nothing; 1 and 2 have one key, and 1 the reservation.
                let mut cluster = cluster(5);
                [10, 20, 20, 30]
                    .iter()
                    .enumerate()
                    .for_each(|(nexus, &key)| register(cluster.at(nexus), key));
                reserve(cluster.at(1), 20, kind);
                out(cluster.at(4), action, new, 0, 20).conflict();
                out(cluster.at(0), action, new, 20, 20).conflict();
                assert_eq!(out(cluster.at(0), action, new, 10, 0).check(), list_field(8, None));
                out(cluster.at(0), action, new, 10, 99).conflict();
                assert_eq!(out(cluster.at(0), action, 0, 10, 20).check(), cdb_field(2, None));
                assert_eq!(out(cluster.at(0), action, 0x10 | new, 10, 20).check(), cdb_field(2, None));
                assert_eq!(keys(cluster.at(4)), (4, vec![10, 20, 20, 30]));
                out(cluster.at(0), action, new, 10, 20).good();
                assert_eq!(keys(cluster.at(4)), (5, vec![10, 30]));
                assert_eq!(held(cluster.at(4)), Some((if new >= 7 { 0 } else { 10 }, new)));
                assert_eq!(attentions(cluster.at(0)), []);
                assert_eq!(attentions(cluster.at(1)), [REGISTRATIONS_PREEMPTED]);
                assert_eq!(attentions(cluster.at(2)), [REGISTRATIONS_PREEMPTED]);
                let told = if new == kind { vec![] } else { vec![RESERVATIONS_RELEASED] };
                assert_eq!(attentions(cluster.at(3)), told, "{kind} {new}");
                assert_eq!(cluster.at(4).host.waits.get(), u32::from(action == PREEMPT_AND_ABORT));
            }
        }
    }
}

#[test]
fn preempt_what_holds_nothing() {
    for kind in [0, 1, 3, 5, 6, 7, 8] {
        let mut cluster = cluster(4);
        [10, 20, 20, 30].iter().enumerate().for_each(|(nexus, &key)| register(cluster.at(nexus), key));
        if kind != 0 {
            reserve(cluster.at(3), 30, kind);
        }
        let before = held(cluster.at(0));
        // SCOPE and TYPE are ignored.
        out(cluster.at(0), PREEMPT, 0xff, 10, 20).good();
        assert_eq!(keys(cluster.at(0)), (5, vec![10, 30]));
        assert_eq!(held(cluster.at(0)), before);
        for (nexus, told) in [vec![], vec![REGISTRATIONS_PREEMPTED], vec![REGISTRATIONS_PREEMPTED], vec![]]
            .into_iter()
            .enumerate()
        {
            assert_eq!(attentions(cluster.at(nexus)), told, "{kind} {nexus}");
        }
        // Its own key: it unregisters itself, and is not told.
        out(cluster.at(0), PREEMPT, 0, 10, 10).good();
        assert_eq!(keys(cluster.at(0)), (6, vec![30]));
        assert_eq!(held(cluster.at(0)), before);
        assert_eq!(attentions(cluster.at(0)), []);
        if kind == 0 {
            assert_eq!(out(cluster.at(3), PREEMPT, 1, 30, 0).check(), list_field(8, None));
        }
    }
}

#[test]
fn preempt_all_registrants() {
    for kind in [WRITE_EXCLUSIVE_ALL_REGISTRANTS, EXCLUSIVE_ACCESS_ALL_REGISTRANTS] {
        for new in TYPES {
            let mut cluster = cluster(4);
            [10, 20, 10].iter().enumerate().for_each(|(nexus, &key)| register(cluster.at(nexus), key));
            reserve(cluster.at(1), 20, kind);
            assert_eq!(out(cluster.at(0), PREEMPT, 2, 10, 0).check(), cdb_field(2, None));
            out(cluster.at(0), PREEMPT, new, 10, 0).good();
            assert_eq!(keys(cluster.at(3)), (4, vec![10]));
            assert_eq!(held(cluster.at(3)), Some((if new >= 7 { 0 } else { 10 }, new)));
            assert_eq!(attentions(cluster.at(0)), []);
            assert_eq!(attentions(cluster.at(1)), [REGISTRATIONS_PREEMPTED]);
            assert_eq!(attentions(cluster.at(2)), [REGISTRATIONS_PREEMPTED]);
            assert_eq!(attentions(cluster.at(3)), []);
        }
        // Its own key alone: nobody holds it any more.
        let mut cluster = cluster(1);
        register(cluster.at(0), 10);
        reserve(cluster.at(0), 10, kind);
        out(cluster.at(0), PREEMPT, kind, 10, 10).good();
        assert_eq!((keys(cluster.at(0)), held(cluster.at(0))), ((2, vec![]), None));
    }
}

/// The type of a reservation is changed as one step: the holder preempts itself.
#[test]
fn preempt_ones_own_reservation() {
    let mut cluster = cluster(3);
    [10, 10, 30].iter().enumerate().for_each(|(nexus, &key)| register(cluster.at(nexus), key));
    reserve(cluster.at(0), 10, WRITE_EXCLUSIVE);
    out(cluster.at(0), PREEMPT, EXCLUSIVE_ACCESS_REGISTRANTS_ONLY, 10, 10).good();
    assert_eq!(keys(cluster.at(0)), (4, vec![10, 30]));
    assert_eq!(held(cluster.at(0)), Some((10, EXCLUSIVE_ACCESS_REGISTRANTS_ONLY)));
    assert_eq!(attentions(cluster.at(0)), []);
    assert_eq!(attentions(cluster.at(1)), [REGISTRATIONS_PREEMPTED]);
    assert_eq!(attentions(cluster.at(2)), [RESERVATIONS_RELEASED]);
}

/// SPC-4, 5.13.8.
#[test]
fn register_and_move() {
    let send = |disk: &Disk, list: &[u8]| disk.write(&out_cdb(REGISTER_AND_MOVE, 0xff, list.len()), list);
    for kind in TYPES {
        let mut cluster = cluster(4);
        let to_2 = move_list(10, 99, 0, 1, &transport_ids(&[2]));
        send(cluster.at(0), &to_2).conflict();
        register(cluster.at(0), 10);
        register(cluster.at(1), 20);
        assert_eq!(send(cluster.at(0), &to_2).check(), cdb_field(1, 4), "there is nothing to move");
        reserve(cluster.at(0), 10, kind);
        if kind >= 7 {
            send(cluster.at(0), &to_2).conflict();
            continue;
        }
        send(cluster.at(1), &move_list(20, 99, 0, 1, &transport_ids(&[2]))).conflict();
        send(cluster.at(0), &move_list(20, 99, 0, 1, &transport_ids(&[2]))).conflict();
        let refused = |disk: &Disk, list: Vec<u8>, sense| assert_eq!(send(disk, &list).check(), sense);
        let disk = cluster.at(0);
        refused(disk, move_list(10, 0, 0, 1, &transport_ids(&[2])), list_field(8, None));
        for port in [0, 2, 0x101] {
            refused(disk, move_list(10, 99, 0, port, &transport_ids(&[2])), list_field(18, None));
        }
        refused(disk, move_list(10, 99, 0, 1, &transport_ids(&[0])), list_field(24, None));
        refused(disk, move_list(10, 99, 0, 1, &transport_ids(&[7])), list_field(24, None));
        refused(disk, move_list(10, 99, 0, 1, &transport_ids(&[])), list_field(20, None));
        refused(disk, move_list(10, 99, 0, 1, &transport_ids(&[2, 3])), list_field(20, None));
        refused(disk, to_2[..47].to_vec(), list_field(20, None));
        assert_eq!(keys(disk), (2, vec![10, 20]));
        // To one that is not registered, and back to one that is.
        send(cluster.at(0), &to_2).good();
        assert_eq!(keys(cluster.at(3)), (3, vec![10, 20, 99]));
        assert_eq!(held(cluster.at(3)), Some((99, kind)));
        send(cluster.at(2), &move_list(99, 21, 0x02, 1, &transport_ids(&[1]))).good();
        assert_eq!(keys(cluster.at(3)), (4, vec![10, 21]));
        assert_eq!(held(cluster.at(3)), Some((21, kind)));
        for nexus in 0..4 {
            assert_eq!(attentions(cluster.at(nexus)), [], "{nexus}");
        }
    }
}

#[test]
fn unit_attentions_are_reported_once_and_in_order() {
    let mut cluster = cluster(3);
    (0..3).for_each(|nexus| register(cluster.at(nexus), 1 + nexus as u64));
    reserve(cluster.at(0), 1, WRITE_EXCLUSIVE_REGISTRANTS_ONLY);
    out(cluster.at(0), RELEASE, WRITE_EXCLUSIVE_REGISTRANTS_ONLY, 1, 0).good();
    out(cluster.at(0), PREEMPT, 0, 1, 2).good();
    out(cluster.at(0), CLEAR, 0, 1, 0).good();
    // INQUIRY and REPORT LUNS neither report nor clear them.
    cluster.at(1).read(&[0x12, 0, 0, 0, 96, 0], 96).good();
    cluster.at(1).read(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], 16).good();
    assert_eq!(attentions(cluster.at(1)), [RESERVATIONS_RELEASED, REGISTRATIONS_PREEMPTED]);
    assert_eq!(attentions(cluster.at(2)), [RESERVATIONS_PREEMPTED, RESERVATIONS_RELEASED]);
    // REQUEST SENSE returns one as its parameter data.
    register(cluster.at(0), 1);
    register(cluster.at(1), 2);
    out(cluster.at(0), CLEAR, 0, 1, 0).good();
    let request_sense = [0x03, 0, 0, 0, 252, 0];
    assert_eq!(parse_sense(&cluster.at(1).read(&request_sense, 252).good()), RESERVATIONS_PREEMPTED);
    assert_eq!(parse_sense(&cluster.at(1).read(&request_sense, 252).good()).key, 0);
    // Lost with the nexus, like the reservation of RESERVE; the registration stays.
    register(cluster.at(0), 1);
    register(cluster.at(1), 2);
    register(cluster.at(2), 3);
    reserve(cluster.at(1), 2, EXCLUSIVE_ACCESS_REGISTRANTS_ONLY);
    out(cluster.at(1), RELEASE, EXCLUSIVE_ACCESS_REGISTRANTS_ONLY, 2, 0).good();
    cluster.change(|shared| shared.lose_nexus(3));
    assert_eq!(attentions(cluster.at(0)), [RESERVATIONS_RELEASED]);
    assert_eq!(attentions(cluster.at(2)), []);
    assert_eq!(keys(cluster.at(0)).1, [1, 2, 3]);
}

#[test]
fn a_unit_attention_is_not_reported_by_two_commands_at_the_same_time() {
    let mut cluster = cluster(2);
    register(cluster.at(0), 1);
    register(cluster.at(1), 2);
    out(cluster.at(0), CLEAR, 0, 1, 0).good();
    // Another command of the nexus reports it after this one has looked.
    cluster.at(1).host.before_change_of_shared = Some(Box::new(|shared| {
        shared.reservations.take_attention(2);
    }));
    cluster.at(1).none(&TEST_UNIT_READY).good();
}

#[test]
fn a_reservation_conflict_comes_after_a_unit_attention() {
    let mut cluster = cluster(2);
    register(cluster.at(0), 1);
    register(cluster.at(1), 2);
    out(cluster.at(0), PREEMPT, 0, 1, 2).good();
    reserve(cluster.at(0), 1, EXCLUSIVE_ACCESS);
    let read = blocks_cdb(0x28, 0, 0, 1);
    assert_eq!(cluster.at(1).read(&read, 512).check(), REGISTRATIONS_PREEMPTED);
    let reply = cluster.at(1).read(&read, 512);
    reply.conflict();
    assert_eq!((reply.resid, reply.sense.len()), (512, 0));
    // Reserved bits are looked at later.
    cluster.at(1).read(&[0x28, 0xe0, 0, 0, 0, 0, 0, 0, 1, 0], 512).conflict();
}

#[test]
fn changed_mode_parameters_and_capacity_are_told_to_all_others_once() {
    let mut cluster = cluster(3);
    settle(&mut cluster, 3);
    cluster.at(1).disable_write_cache();
    for (nexus, told) in
        [vec![MODE_PARAMETERS_CHANGED], vec![], vec![MODE_PARAMETERS_CHANGED]].iter().enumerate()
    {
        assert_eq!(attentions(cluster.at(nexus)), *told);
    }
    // What is as before is no change.
    cluster.at(1).disable_write_cache();
    assert_eq!(attentions(cluster.at(0)), []);
    cluster.at(0).host.bytes += 512;
    for nexus in 0..3 {
        assert_eq!(attentions(cluster.at(nexus)), [CAPACITY_DATA_HAS_CHANGED], "{nexus}");
    }
}

#[test]
fn reserve_and_release_of_spc_2() {
    for (take, give) in [(&RESERVE_6[..], &RELEASE_6[..]), (&RESERVE_10, &RELEASE_10)] {
        let mut cluster = cluster(3);
        cluster.at(1).none(give).good();
        cluster.at(0).none(take).good();
        cluster.at(0).none(take).good();
        cluster.at(1).none(take).conflict();
        // That of another than the holder succeeds, and changes nothing.
        cluster.at(1).none(give).good();
        cluster.at(1).none(&TEST_UNIT_READY).conflict();
        cluster.at(0).none(&TEST_UNIT_READY).good();
        // Persistent reservations are out of the question, for the holder too.
        for nexus in 0..2 {
            for action in 0..4 {
                cluster.at(nexus).read(&in_cdb(action, 255), 255).conflict();
            }
            for action in 0..7 {
                out(cluster.at(nexus), action, 1, 0, 1).conflict();
            }
            let to = move_list(0, 1, 0, 1, &transport_ids(&[2]));
            cluster.at(nexus).write(&out_cdb(REGISTER_AND_MOVE, 0, to.len()), &to).conflict();
        }
        cluster.at(0).none(give).good();
        cluster.at(1).none(take).good();
        cluster.at(0).none(&TEST_UNIT_READY).conflict();
        // It ends with the nexus.
        cluster.change(|shared| shared.lose_nexus(1));
        cluster.at(0).none(&TEST_UNIT_READY).conflict();
        cluster.change(|shared| shared.lose_nexus(2));
        cluster.at(0).none(&TEST_UNIT_READY).good();
        // While one is registered there is none, not even for that one.
        register(cluster.at(0), 1);
        for nexus in 0..2 {
            cluster.at(nexus).none(take).conflict();
            cluster.at(nexus).none(give).conflict();
        }
        assert_eq!(attentions(cluster.at(1)), []);
    }
}

const RESERVE_10: [u8; 10] = [0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const RELEASE_10: [u8; 10] = [0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// SPC-2, 5.5.1. Persistent reservations survive it.
#[test]
fn a_reset_ends_the_reservation_of_reserve() {
    let mut cluster = cluster(2);
    let reset = |disk: &Disk, scope: i32| {
        disk.host.put(&scope.to_ne_bytes());
        disk.ask(SG_SCSI_RESET, memory_disk::host::BASE)
    };
    cluster.at(0).none(&RESERVE_6).good();
    assert_eq!(reset(cluster.at(1), 0), Answer::Value(0));
    cluster.at(1).none(&TEST_UNIT_READY).conflict();
    assert_eq!(reset(cluster.at(1), 1), Answer::Value(0));
    cluster.at(1).none(&TEST_UNIT_READY).good();
    register(cluster.at(0), 1);
    reserve(cluster.at(0), 1, EXCLUSIVE_ACCESS);
    assert_eq!(reset(cluster.at(1), 1), Answer::Value(0));
    assert_eq!(held(cluster.at(1)), Some((1, EXCLUSIVE_ACCESS)));
}

#[test]
fn send_command_returns_the_status() {
    let mut cluster = cluster(2);
    cluster.at(0).host.medium = Medium::BlockDevice;
    cluster.at(0).none(&RESERVE_6).good();
    let disk = cluster.at(1);
    let argument = [&[0, 0, 0, 0, 0, 0, 0, 0][..], &TEST_UNIT_READY, &[0x55; 32]].concat();
    disk.put(DATA, &argument);
    assert_eq!(disk.ask(SCSI_IOCTL_SEND_COMMAND, DATA), Answer::Value(0x18));
    assert_eq!(disk.got(DATA, argument.len()), argument);
}

#[test]
fn disks_without_reservations() {
    let refused = |disk: &Disk| {
        let not_there = |reply: Reply| assert_eq!(reply.check(), INVALID_COMMAND_OPERATION_CODE);
        not_there(disk.read(&in_cdb(READ_KEYS, 255), 255));
        not_there(out(disk, REGISTER, 0, 0, 1));
        [&RESERVE_6[..], &RELEASE_6, &RESERVE_10, &RELEASE_10]
            .iter()
            .for_each(|cdb| not_there(disk.none(cdb)));
    };
    // An engine that does not know all nexuses, and libata's disk.
    refused(&Disk::new(numbered_blocks(8)));
    let mut cluster = cluster(1);
    cluster.at(0).entry = "/x=sata";
    refused(cluster.at(0));
    assert_eq!(request(cluster.at(0), IOC_PR_CLEAR, PrClear::default()), Answer::Error(Errno::EOPNOTSUPP));
}

/// Sends an `IOC_PR_…` request.
fn request<T: Structure + IntoBytes>(disk: &Disk, request: u32, argument: T) -> Answer {
    disk.host.store(DATA, argument).expect("it is there");
    disk.ask(request, DATA)
}

const CONFLICT: Answer = Answer::Value(0x18);
/// `PR_STS_IOERR`
const IO_ERROR: Answer = Answer::Value(0x02);
const INVALID: Answer = Answer::Error(Errno::EINVAL);
const UNKNOWN_FLAG: Answer = Answer::Error(Errno::EOPNOTSUPP);
const DONE: Answer = Answer::Value(0);

fn registration(old_key: u64, new_key: u64, flags: u32) -> PrRegistration {
    PrRegistration { old_key, new_key, flags, ..PrRegistration::default() }
}

fn reservation(key: u64, r#type: u32, flags: u32) -> PrReservation {
    PrReservation { key, r#type, flags }
}

fn preemption(old_key: u64, new_key: u64, r#type: u32, flags: u32) -> PrPreempt {
    PrPreempt { old_key, new_key, r#type, flags }
}

#[test]
fn requests_of_the_block_layer() {
    for abi in [Abi::Native, Abi::I386] {
        // enum pr_type
        for (number, kind) in (1..).zip(TYPES) {
            let mut cluster = cluster(3);
            cluster.at(0).host.abi = abi;
            let disk = cluster.at(0);
            assert_eq!(request(disk, IOC_PR_REGISTER, registration(7, 1, 0)), CONFLICT);
            assert_eq!(request(disk, IOC_PR_REGISTER, registration(0, 1, 2)), UNKNOWN_FLAG);
            assert_eq!(request(disk, IOC_PR_REGISTER, registration(0, 1, 0)), DONE);
            assert_eq!(request(disk, IOC_PR_REGISTER, registration(7, 1, 1)), DONE);
            assert_eq!(request(disk, IOC_PR_RESERVE, reservation(7, number, 0)), CONFLICT);
            for wrong in [0, 7, u32::MAX] {
                assert_eq!(request(disk, IOC_PR_RESERVE, reservation(1, wrong, 0)), INVALID);
            }
            for flags in [1, 2] {
                assert_eq!(request(disk, IOC_PR_RESERVE, reservation(1, number, flags)), UNKNOWN_FLAG);
                assert_eq!(request(disk, IOC_PR_RELEASE, reservation(1, number, flags)), UNKNOWN_FLAG);
                assert_eq!(request(disk, IOC_PR_PREEMPT, preemption(1, 1, number, flags)), UNKNOWN_FLAG);
                assert_eq!(
                    request(disk, IOC_PR_PREEMPT_ABORT, preemption(1, 1, number, flags)),
                    UNKNOWN_FLAG
                );
                let clear = PrClear { key: 1, flags, ..PrClear::default() };
                assert_eq!(request(disk, IOC_PR_CLEAR, clear), UNKNOWN_FLAG);
            }
            assert_eq!(request(disk, IOC_PR_RESERVE, reservation(1, number, 0)), DONE);
            let key = if kind >= 7 { 0 } else { 1 };
            assert_eq!(held(cluster.at(1)), Some((key, kind)));
            assert_eq!(request(cluster.at(1), IOC_PR_RESERVE, reservation(0, number, 0)), CONFLICT);
            assert_eq!(request(cluster.at(0), IOC_PR_RELEASE, reservation(1, number % 6 + 1, 0)), INVALID);
            assert_eq!(request(cluster.at(0), IOC_PR_RELEASE, reservation(1, 0, 0)), INVALID);
            assert_eq!(request(cluster.at(0), IOC_PR_RELEASE, reservation(1, number, 0)), DONE);
            assert_eq!(held(cluster.at(1)), None);
            assert_eq!(request(cluster.at(1), IOC_PR_REGISTER, registration(0, 2, 0)), DONE);
            assert_eq!(request(cluster.at(0), IOC_PR_RESERVE, reservation(1, 1, 0)), DONE);
            assert_eq!(request(cluster.at(1), IOC_PR_PREEMPT, preemption(2, 1, 0, 0)), INVALID);
            assert_eq!(request(cluster.at(1), IOC_PR_PREEMPT, preemption(2, 0, 1, 0)), INVALID);
            assert_eq!(request(cluster.at(1), IOC_PR_PREEMPT_ABORT, preemption(2, 9, 1, 0)), CONFLICT);
            assert_eq!(cluster.at(1).host.waits.get(), 0);
            assert_eq!(request(cluster.at(1), IOC_PR_PREEMPT_ABORT, preemption(2, 1, number, 0)), DONE);
            assert_eq!(cluster.at(1).host.waits.get(), 1);
            assert_eq!(keys(cluster.at(1)).1, [2]);
            assert_eq!(held(cluster.at(1)), Some((if kind >= 7 { 0 } else { 2 }, kind)));
            // The request neither reports nor clears a unit attention.
            assert_eq!(
                request(cluster.at(0), IOC_PR_CLEAR, PrClear { key: 1, ..PrClear::default() }),
                CONFLICT
            );
            assert_eq!(attentions(cluster.at(0)), [REGISTRATIONS_PREEMPTED]);
            assert_eq!(request(cluster.at(1), IOC_PR_CLEAR, PrClear { key: 2, ..PrClear::default() }), DONE);
            assert_eq!((keys(cluster.at(1)).1, held(cluster.at(1))), (vec![], None));
            cluster.at(2).none(&RESERVE_6).good();
            assert_eq!(request(cluster.at(1), IOC_PR_REGISTER, registration(0, 1, 0)), CONFLICT);
            for number in [IOC_PR_READ_KEYS, IOC_PR_READ_RESERVATION] {
                assert_eq!(cluster.at(1).ask(number, DATA), CONFLICT);
            }
        }
    }
}

#[test]
fn requests_of_the_block_layer_that_read() {
    const ROOM: u64 = DATA + 512;
    let mut cluster = cluster(3);
    let read_keys = |disk: &Disk, num_keys: u32| {
        disk.put(ROOM, &[0xff; 24]);
        let list = PrReadKeys { generation: u32::MAX, num_keys, keys_ptr: ROOM };
        assert_eq!(request(disk, IOC_PR_READ_KEYS, list), DONE);
        let PrReadKeys { generation, num_keys, keys_ptr } = disk.host.fetch(DATA).expect("it is there");
        assert_eq!(keys_ptr, ROOM);
        let keys = [0, 8, 16].map(|at| disk.host.fetch(ROOM + at).expect("it is there"));
        (generation, num_keys, keys)
    };
    let read_reservation = |disk: &Disk| {
        let held = PrReadReservation { key: u64::MAX, generation: u32::MAX, r#type: u32::MAX };
        assert_eq!(request(disk, IOC_PR_READ_RESERVATION, held), DONE);
        let PrReadReservation { key, generation, r#type } = disk.host.fetch(DATA).expect("it is there");
        (key, generation, r#type)
    };
    const LEFT: u64 = u64::MAX;
    assert_eq!(read_keys(cluster.at(2), 3), (0, 0, [LEFT; 3]));
    assert_eq!(read_reservation(cluster.at(2)), (0, 0, 0));
    register(cluster.at(0), 0x11);
    register(cluster.at(1), 0x22);
    for (room, keys) in [(0, [LEFT; 3]), (1, [0x11, LEFT, LEFT]), (3, [0x11, 0x22, LEFT])] {
        assert_eq!(read_keys(cluster.at(2), room), (2, 2, keys));
    }
    for (number, kind) in (1..).zip(TYPES) {
        assert_eq!(request(cluster.at(0), IOC_PR_RESERVE, reservation(0x11, number, 0)), DONE);
        let key = if kind >= 7 { 0 } else { 0x11 };
        assert_eq!(read_reservation(cluster.at(2)), (key, 2, number));
        assert_eq!(request(cluster.at(0), IOC_PR_RELEASE, reservation(0x11, number, 0)), DONE);
    }
    let too_many = PrReadKeys { generation: 0, num_keys: (1 << 16) + 1, keys_ptr: ROOM };
    assert_eq!(request(cluster.at(2), IOC_PR_READ_KEYS, too_many), INVALID);
    let nowhere = PrReadKeys { generation: 0, num_keys: 2, keys_ptr: 1 };
    assert_eq!(request(cluster.at(2), IOC_PR_READ_KEYS, nowhere), Answer::Error(Errno::EFAULT));
}

#[test]
fn requests_of_the_block_layer_that_fail() {
    let mut cluster = cluster(66);
    let disk = cluster.at(0);
    for number in [
        IOC_PR_REGISTER,
        IOC_PR_RESERVE,
        IOC_PR_RELEASE,
        IOC_PR_PREEMPT,
        IOC_PR_PREEMPT_ABORT,
        IOC_PR_CLEAR,
        IOC_PR_READ_KEYS,
        IOC_PR_READ_RESERVATION,
    ] {
        assert_eq!(disk.ask(number, 1), Answer::Error(Errno::EFAULT));
    }
    disk.host.lacks = Some(Capability::Admin);
    assert_eq!(request(disk, IOC_PR_REGISTER, registration(0, 1, 0)), Answer::Error(Errno::EPERM));
    disk.host.lacks = None;
    (0..64).for_each(|nexus| register(cluster.at(nexus), 1));
    assert_eq!(request(cluster.at(64), IOC_PR_REGISTER, registration(0, 1, 0)), IO_ERROR);
}

#[test]
fn the_block_layer_discards_nothing_under_a_reservation_of_another() {
    let mut cluster = cluster(2);
    let range = |disk: &Disk, number: u32| {
        disk.host.store(DATA, [0u64, 4096]).expect("it is there");
        disk.ask(number, DATA)
    };
    register(cluster.at(0), 1);
    for kind in TYPES {
        reserve(cluster.at(0), 1, kind);
        for medium in [Medium::ImageFile, Medium::BlockDevice] {
            cluster.at(0).host.medium = medium;
            for number in [BLKDISCARD, BLKZEROOUT, BLKSECDISCARD] {
                let own = range(cluster.at(0), number);
                assert_ne!(own, Answer::Error(Errno::EBADE));
                cluster.at(0).host.changed.set(None);
                assert_eq!(range(cluster.at(1), number), Answer::Error(Errno::EBADE));
                assert_eq!(cluster.at(1).host.changed.get(), None);
                // As without a reservation.
                cluster.at(1).host.writable = false;
                let other = range(cluster.at(1), number);
                assert_eq!(other, range(cluster.at(0), number));
                cluster.at(1).host.writable = true;
            }
            assert_ne!(cluster.at(1).ask(BLKFLSBUF, 0), Answer::Error(Errno::EBADE));
        }
        out(cluster.at(0), RELEASE, kind, 1, 0).good();
    }
    cluster.at(1).host.medium = Medium::ImageFile;
    assert_eq!(range(cluster.at(1), BLKDISCARD), DONE);
}

/// What SPC-4, table 65, SBC-3, table 13, and SPC-2, table 9, let a nexus do under reservations of others: under Write
/// Exclusive, Exclusive Access, and RESERVE. A command that is in none of them is obsolete, or of SBC-4.
const ALLOWED: &[(u8, u8, [bool; 3])] = {
    const NOTHING: [bool; 3] = [false, false, false];
    const READS: [bool; 3] = [true, false, false];
    const PERSISTENT: [bool; 3] = [true, true, false];
    const ALL: [bool; 3] = [true, true, true];
    &[
        (0x00, 0, PERSISTENT),
        (0x03, 0, ALL),
        (0x04, 0, NOTHING),
        (0x08, 0, READS),
        (0x0a, 0, NOTHING),
        (0x12, 0, ALL),
        (0x15, 0, NOTHING),
        (0x16, 0, NOTHING),
        // With registrations they conflict: SPC-2, 5.5.1.
        (0x17, 0, [false, false, true]),
        (0x1a, 0, READS),
        (0x1b, 0, NOTHING),
        (0x1d, 0, NOTHING),
        (0x1e, 0, ALL),
        (0x25, 0, PERSISTENT),
        (0x28, 0, READS),
        (0x2a, 0, NOTHING),
        (0x2b, 0, READS),
        (0x2e, 0, NOTHING),
        (0x2f, 0, READS),
        (0x34, 0, READS),
        (0x35, 0, NOTHING),
        (0x37, 0, READS),
        (0x3b, 0, NOTHING),
        (0x3c, 0, READS),
        (0x41, 0, NOTHING),
        (0x42, 0, NOTHING),
        (0x48, 0x01, NOTHING),
        (0x48, 0x02, NOTHING),
        (0x48, 0x03, NOTHING),
        (0x48, 0x1f, NOTHING),
        (0x4d, 0, ALL),
        (0x55, 0, NOTHING),
        (0x56, 0, NOTHING),
        (0x57, 0, [false, false, true]),
        (0x5a, 0, READS),
        (0x5e, READ_KEYS, PERSISTENT),
        (0x5e, READ_RESERVATION, PERSISTENT),
        (0x5e, REPORT_CAPABILITIES, PERSISTENT),
        (0x5e, READ_FULL_STATUS, PERSISTENT),
        (0x83, 0, NOTHING),
        (0x83, 1, NOTHING),
        (0x84, 0, NOTHING),
        (0x84, 1, NOTHING),
        (0x84, 3, NOTHING),
        (0x84, 4, NOTHING),
        (0x88, 0, READS),
        (0x89, 0, NOTHING),
        (0x8a, 0, NOTHING),
        (0x8b, 0, NOTHING),
        (0x8e, 0, NOTHING),
        (0x8f, 0, READS),
        (0x90, 0, READS),
        (0x91, 0, NOTHING),
        (0x93, 0, NOTHING),
        (0x9c, 0, NOTHING),
        (0x9e, 0x10, PERSISTENT),
        (0x9e, 0x12, READS),
        (0xa0, 0, ALL),
        (0xa3, 0x0a, PERSISTENT),
        (0xa3, 0x0c, READS),
        (0xa3, 0x0d, READS),
        (0xa4, 0x0a, NOTHING),
        (0xa8, 0, READS),
        (0xaa, 0, NOTHING),
        (0xae, 0, NOTHING),
        (0xaf, 0, READS),
        (0xb7, 0, READS),
    ]
};

/// Variants of commands whose tables tell them apart: START, PREVENT and a power condition.
const VARIANTS: &[(&[u8], [bool; 3])] = &[
    (&[0x1b, 0, 0, 0, 1, 0], [true, true, false]),
    (&[0x1b, 1, 0, 0, 1, 0], [true, true, false]),
    (&[0x1b, 0, 0, 0, 0, 0], [false; 3]),
    (&[0x1b, 0, 0, 0, 0x11, 0], [false; 3]),
    (&[0x1e, 0, 0, 0, 0, 0], [true; 3]),
    (&[0x1e, 0, 0, 0, 1, 0], [false; 3]),
];

/// Each command of the disk, with as few bits set as possible, and what it tolerates.
fn commands() -> Vec<(Vec<u8>, DataPhase, [bool; 3])> {
    let is_scsi = |code: u8| ![0x01, 0x0b, 0x85, 0xa1].contains(&code);
    let rows = COMMANDS.iter().filter(|row| is_scsi(row.operation_code()) && row.operation_code() != 0x5f);
    let table = rows.map(|row| {
        let (code, action) = (row.operation_code(), row.action().unwrap_or(0));
        let stands = ALLOWED.iter().find(|known| (known.0, known.1) == (code, action));
        let &(.., allowed) = stands.unwrap_or_else(|| panic!("{} is not in the table", row.name));
        let mut cdb = vec![0; row.usage.len()];
        (cdb[0], cdb[1]) = (code, action);
        (cdb, row.data, allowed)
    });
    table.chain(VARIANTS.iter().map(|&(cdb, allowed)| (cdb.to_vec(), DataPhase::None, allowed))).collect()
}

/// Sends a command, and returns whether it conflicts with a reservation.
#[track_caller]
fn conflicts(disk: &Disk, cdb: &[u8], data: DataPhase) -> bool {
    let reply = match data {
        DataPhase::Out(_) | DataPhase::BlocksOut => disk.write(cdb, &[0; 512]),
        DataPhase::In(_) | DataPhase::BlocksIn => disk.read(cdb, 512),
        _ => disk.none(cdb),
    };
    assert!(reply.status != CHECK_CONDITION || reply.check().key != 6, "{cdb:02x?}: {:x?}", reply.check());
    reply.status == RESERVATION_CONFLICT
}

#[test]
fn every_command_under_every_persistent_reservation() {
    for kind in TYPES {
        for (cdb, data, [write_exclusive, exclusive_access, _]) in commands() {
            let mut cluster = cluster(3);
            register(cluster.at(0), 1);
            register(cluster.at(1), 2);
            reserve(cluster.at(0), 1, kind);
            let is_reserve = matches!(cdb[0], 0x16 | 0x17 | 0x56 | 0x57);
            let allowed = if matches!(kind, 1 | 5 | 7) { write_exclusive } else { exclusive_access };
            let registered = if kind >= 5 { !is_reserve } else { allowed };
            // The holder comes last, for it may do what others are told of.
            for (nexus, may) in [(2, allowed), (1, registered), (0, !is_reserve)] {
                let got = conflicts(cluster.at(nexus), &cdb, data);
                assert_eq!(got, !may, "{cdb:02x?} of {nexus} under {kind}");
                if may && nexus > 0 {
                    settle(&mut cluster, 3);
                }
            }
        }
    }
}

#[test]
fn persistent_reserve_out_under_every_persistent_reservation() {
    for kind in TYPES {
        for action in 0..8 {
            let mut cluster = cluster(3);
            register(cluster.at(0), 1);
            register(cluster.at(1), 2);
            reserve(cluster.at(0), 1, kind);
            let send = |disk: &Disk, key| {
                let to = move_list(key, 9, 0, 1, &transport_ids(&[2]));
                let basic =
                    list(key, if action == PREEMPT || action == PREEMPT_AND_ABORT { 2 } else { key }, 0);
                let list = if action == REGISTER_AND_MOVE { to } else { basic };
                disk.write(&out_cdb(action, kind, list.len()), &list)
            };
            // SPC-4, table 66.
            let unregistered = matches!(action, REGISTER | REGISTER_AND_IGNORE);
            assert_eq!(send(cluster.at(2), 0).status, if unregistered { 0 } else { 0x18 }, "{action}");
            let all = kind >= 7;
            let registered = match action {
                RESERVE => all,
                REGISTER_AND_MOVE => false,
                _ => true,
            };
            assert_eq!(send(cluster.at(1), 2).status, if registered { 0 } else { 0x18 }, "{action} {kind}");
        }
    }
}

#[test]
fn every_command_under_reserve() {
    for (cdb, data, [.., allowed]) in commands() {
        let mut cluster = cluster(2);
        cluster.at(0).none(&RESERVE_6).good();
        assert_eq!(conflicts(cluster.at(1), &cdb, data), !allowed, "{cdb:02x?}");
        // Persistent ones conflict for the holder too.
        assert_eq!(conflicts(cluster.at(0), &cdb, data), cdb[0] == 0x5e, "{cdb:02x?}");
    }
}

/// Nothing is granted where the engine cannot reach what the nexuses share.
#[test]
fn without_the_shared_state_nothing_is_granted() {
    let not_ready = |reply: Reply| assert_eq!(reply.check(), NOT_READY_CAUSE_NOT_REPORTABLE);
    let mut cluster = cluster(2);
    register(cluster.at(0), 1);
    reserve(cluster.at(0), 1, EXCLUSIVE_ACCESS);
    cluster.at(0).host.is_shared_lost.set(true);
    for nexus in 0..2 {
        let disk = cluster.at(nexus);
        disk.host.changed.set(None);
        for (cdb, data, _) in commands() {
            match data {
                _ if matches!(cdb[0], 0x03 | 0x12 | 0xa0) => continue,
                DataPhase::Out(_) | DataPhase::BlocksOut => not_ready(disk.write(&cdb, &[0; 512])),
                DataPhase::In(_) | DataPhase::BlocksIn => not_ready(disk.read(&cdb, 512)),
                _ => not_ready(disk.none(&cdb)),
            }
        }
        for action in 0..7 {
            not_ready(out(disk, action, EXCLUSIVE_ACCESS, 1, 1));
        }
        // These say who the disk is, and what is wrong with it.
        disk.read(&[0x12, 0, 0, 0, 96, 0], 96).good();
        disk.read(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], 16).good();
        let sense = parse_sense(&disk.read(&[0x03, 0, 0, 0, 252, 0], 252).good());
        assert_eq!(sense, NOT_READY_CAUSE_NOT_REPORTABLE);
        assert_eq!(request(disk, IOC_PR_REGISTER, registration(0, 1, 0)), IO_ERROR);
        disk.host.store(DATA, [0u64, 4096]).expect("it is there");
        assert_eq!(disk.ask(BLKDISCARD, DATA), Answer::Error(Errno::EIO));
        assert_eq!(disk.host.changed.get(), None);
    }
    cluster.at(0).host.is_shared_lost.set(false);
    assert_eq!((keys(cluster.at(1)).1, held(cluster.at(1))), (vec![1], Some((1, EXCLUSIVE_ACCESS))));
}

mod model {
    //! Random sequences of PERSISTENT RESERVE OUT against a model that follows SPC-4, 5.13, with a map and a list.

    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::FileFailurePersistence;

    const NEXUSES: usize = 4;

    #[derive(Clone, Copy, Debug)]
    struct Step {
        nexus: usize,
        action: u8,
        kind: u8,
        /// Its own key is sent.
        honest: bool,
        key: u64,
        service_action_key: u64,
        to: usize,
        unregister: bool,
    }

    #[derive(Default)]
    struct Model {
        generation: u32,
        keys: BTreeMap<usize, u64>,
        /// The type, and who holds it if not all registrants do.
        held: Option<(u8, usize)>,
        /// ASCQ of the unit attentions of each nexus, without repetitions.
        told: [Vec<u16>; NEXUSES],
    }

    /// A SCSI status, or the sense data of CHECK CONDITION.
    #[derive(Debug, PartialEq, Eq)]
    enum Result {
        Good,
        Conflict,
        Check(Sense),
    }

    impl Model {
        fn holds(&self, nexus: usize) -> bool {
            match self.held {
                Some((7 | 8, _)) => self.keys.contains_key(&nexus),
                Some((_, holder)) => holder == nexus,
                None => false,
            }
        }

        fn tell(&mut self, nexus: usize, qualifier: u16) {
            if !self.told[nexus].contains(&qualifier) {
                self.told[nexus].push(qualifier);
            }
        }

        fn tell_registrants_but(&mut self, but: usize, qualifier: u16) {
            let others: Vec<usize> = self.keys.keys().copied().filter(|&nexus| nexus != but).collect();
            others.into_iter().for_each(|nexus| self.tell(nexus, qualifier));
        }

        fn remove(&mut self, nexus: usize) {
            let held = self.holds(nexus);
            self.keys.remove(&nexus);
            match self.held {
                Some((7 | 8, _)) if self.keys.is_empty() => self.held = None,
                Some((kind @ 1..=6, _)) if held => {
                    self.held = None;
                    if kind >= 5 {
                        self.tell_registrants_but(nexus, 4);
                    }
                }
                _ => {}
            }
        }

        fn out(&mut self, step: &Step) -> Result {
            let &Step { nexus, action, kind, service_action_key: new, to, .. } = step;
            let key = self.sent_key(step);
            let own = self.keys.get(&nexus).copied();
            if action == REGISTER && key != own.unwrap_or(0) {
                return Result::Conflict;
            }
            if action == REGISTER || action == REGISTER_AND_IGNORE {
                match (own, new) {
                    (None, 0) => return Result::Good,
                    (Some(_), 0) => self.remove(nexus),
                    _ => drop(self.keys.insert(nexus, new)),
                }
                self.generation += 1;
                return Result::Good;
            }
            if own != Some(key) {
                return Result::Conflict;
            }
            let right = TYPES.contains(&kind);
            match action {
                RESERVE if !right => return Result::Check(cdb_field(2, None)),
                RESERVE => match self.held {
                    None => self.held = Some((kind, nexus)),
                    Some((held, _)) if held == kind && self.holds(nexus) => {}
                    Some(_) => return Result::Conflict,
                },
                RELEASE => match self.held {
                    Some((held, _)) if self.holds(nexus) => {
                        if held != kind {
                            return Result::Check(INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
                        }
                        self.held = None;
                        if held >= 5 {
                            self.tell_registrants_but(nexus, 4);
                        }
                    }
                    _ => {}
                },
                CLEAR => {
                    self.tell_registrants_but(nexus, 3);
                    self.keys.clear();
                    self.held = None;
                    self.generation += 1;
                }
                PREEMPT | PREEMPT_AND_ABORT => {
                    let all = matches!(self.held, Some((7 | 8, _)));
                    let victims: Vec<usize> = match new {
                        0 if all => self.keys.keys().copied().collect(),
                        0 => return Result::Check(list_field(8, None)),
                        _ => self
                            .keys
                            .iter()
                            .filter(|(_, key)| **key == new)
                            .map(|(nexus, _)| *nexus)
                            .collect(),
                    };
                    if victims.is_empty() {
                        return Result::Conflict;
                    }
                    let taken = match self.held {
                        Some((7 | 8, _)) => new == 0,
                        Some((_, holder)) => victims.contains(&holder),
                        None => false,
                    };
                    if taken && !right {
                        return Result::Check(cdb_field(2, None));
                    }
                    for victim in victims {
                        if victim != nexus {
                            self.keys.remove(&victim);
                            self.tell(victim, 5);
                        } else if !taken {
                            self.keys.remove(&victim);
                        }
                    }
                    if taken {
                        if self.held.map(|(held, _)| held) != Some(kind) {
                            self.tell_registrants_but(nexus, 4);
                        }
                        self.held = Some((kind, nexus));
                    } else if all && self.keys.is_empty() {
                        self.held = None;
                    }
                    self.generation += 1;
                }
                _ => {
                    match self.held {
                        None => return Result::Check(cdb_field(1, 4)),
                        Some((7 | 8, _)) => return Result::Conflict,
                        Some((_, holder)) if holder != nexus => return Result::Conflict,
                        Some(_) if new == 0 => return Result::Check(list_field(8, None)),
                        Some(_) if to == nexus => return Result::Check(list_field(24, None)),
                        Some((held, _)) => self.held = Some((held, to)),
                    }
                    self.keys.insert(to, new);
                    if step.unregister {
                        self.keys.remove(&nexus);
                    }
                    self.generation += 1;
                }
            }
            Result::Good
        }

        fn sent_key(&self, step: &Step) -> u64 {
            if step.honest { self.keys.get(&step.nexus).copied().unwrap_or(0) } else { step.key }
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        let kind = prop_oneof![6 => prop::sample::select(&TYPES[..]), 1 => any::<u8>()];
        let numbers = (0..NEXUSES, 0..8u8, kind, 0..5u8, 0..4u64, 0..4u64, 0..NEXUSES, any::<bool>());
        numbers.prop_map(|(nexus, action, kind, honest, key, service_action_key, to, unregister)| Step {
            nexus,
            action,
            kind,
            honest: honest > 0,
            key,
            service_action_key,
            to,
            unregister,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
            cases: 400,
            ..ProptestConfig::default()
        })]

        #[test]
        fn reservations_follow_the_model(steps in prop::collection::vec(step(), 1..40)) {
            let mut cluster = cluster(NEXUSES + 1);
            let mut model = Model::default();
            for step in &steps {
                // One that is told something does nothing else.
                let told = std::mem::take(&mut model.told[step.nexus]);
                let mut expected = told.clone();
                expected.sort_unstable();
                let got: Vec<u16> =
                    attentions(cluster.at(step.nexus)).iter().map(|sense| sense.asc_ascq & 0xff).collect();
                prop_assert_eq!(got, expected);
                let key = model.sent_key(step);
                let list = if step.action == REGISTER_AND_MOVE {
                    let flags = if step.unregister { 2 } else { 0 };
                    move_list(key, step.service_action_key, flags, 1, &transport_ids(&[step.to]))
                } else {
                    list(key, step.service_action_key, 0)
                };
                let cdb = out_cdb(step.action, step.kind, list.len());
                let reply = cluster.at(step.nexus).write(&cdb, &list);
                let got = match reply.status {
                    0 => Result::Good,
                    RESERVATION_CONFLICT => Result::Conflict,
                    _ => Result::Check(reply.check()),
                };
                prop_assert_eq!(got, model.out(step), "{:?}", step);
                let observer = cluster.at(NEXUSES);
                let status = observer.read(&in_cdb(READ_FULL_STATUS, 4096), 4096).good();
                prop_assert_eq!(&status[..4], model.generation.to_be_bytes());
                let registered: BTreeMap<usize, (u64, u8, u8)> = status[8..]
                    .chunks(48)
                    .map(|one| {
                        let key = u64::from_be_bytes(one[..8].try_into().expect("eight bytes"));
                        (usize::from(one[35]) - 1, (key, one[12], one[13]))
                    })
                    .collect();
                let expected = model.keys.iter().map(|(&nexus, &key)| {
                    let kind = model.held.map_or(0, |(kind, _)| kind);
                    (nexus, if model.holds(nexus) { (key, 1, kind) } else { (key, 0, 0) })
                });
                prop_assert_eq!(registered, expected.collect());
                let reserved = model.held.map(|(kind, holder)| (if kind >= 7 { 0 } else { model.keys[&holder] }, kind));
                prop_assert_eq!(held(observer), reserved);
            }
        }
    }
}

/// Clients that share a disk can have other sizes of its blocks in their entries.
#[test]
fn blocks_of_different_entries() {
    let mut cluster = Cluster::new(Disk::new(numbered_blocks(64)), 2);
    for _ in 0..2 {
        for (nexus, entry, block) in [(0, "/x=scsi,sector=4096", 4096), (1, "/x=scsi", 512)] {
            let disk = cluster.at(nexus);
            disk.entry = entry;
            let data = disk.read(&blocks_cdb(0x28, 0, 1, 1), block).good();
            assert_eq!(usize::from(data[0]), block / 512);
            // This looks at the size anew, and the other one's next command does not.
            disk.none(&[0; 6]).good();
        }
    }
}
