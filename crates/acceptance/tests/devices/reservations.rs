//! Programs of clusters, on two nodes that share a disk: each is a run of its own.

use std::fs;
use std::path::{Path, PathBuf};

use acceptance::{Name, Run, Scratch, Session, Trial, library, trial};

use crate::{entry, group, volume};

pub fn trials() -> Vec<Trial> {
    vec![trial("reservations/fence_scsi", &[], fencing), trial("reservations/sbd", &[], messages)]
}

const READ: &str = "sg_raw --request=512 $DEV 28 00 00 00 00 00 00 00 01 00";
const WRITE: &str = "sg_raw --send=512 --infile=/dev/zero $DEV 2a 00 00 00 00 00 00 00 01 00";

/// Exit statuses of sg3_utils(8).
const UNIT_ATTENTION: &str = "6";
const CONFLICT: &str = "24";

/// The exit status with which the programs of fence-agents say that a node is fenced.
const OFF: &str = "2";

/// A program that scripts/guest has unpacked, as a shell starts it.
fn unpacked(program: &str) -> String {
    let target = library().ancestors().nth(2).expect("it is in TARGET/release").to_path_buf();
    let root = target.join("guest/root/usr").display().to_string();
    format!(
        "LD_LIBRARY_PATH={root}/lib/x86_64-linux-gnu:{root}/lib \
         PYTHONPATH={root}/share/fence:{root}/lib/python3/dist-packages {root}/{program}"
    )
}

/// A node of a cluster: a shell in a run and with a `/run` of its own.
struct Node {
    shell: Session,
    output: PathBuf,
}

impl Node {
    fn start(name: &str, device: &Path, scratch: &Scratch) -> Node {
        const SHELL: &str = "mount -t tmpfs tmpfs /run
            while read -r line; do eval \"$line\" >\"$0\" 2>&1 </dev/null; echo $?; done";
        let output = scratch.path(name);
        let run = Run::new("unshare")
            .supervised(&scratch.command(), entry(device, "scsi"))
            .env("DEV", device)
            .args(["--mount", "sh", "-c", SHELL])
            .arg(&output);
        Node { shell: run.start(&scratch.path(&format!("{name}.err"))), output }
    }

    /// Runs a command line, and returns what it has written. It must end with this status.
    fn run(&mut self, line: &str, status: &str) -> String {
        let ended = self.shell.ask(line);
        let output = fs::read(&self.output).expect("the shell makes it");
        let output = String::from_utf8_lossy(&output).into_owned();
        assert_eq!(ended, status, "{line}: {output}");
        output
    }

    fn good(&mut self, line: &str) -> String {
        self.run(line, "0")
    }
}

/// Two nodes, and the volume that they share. It has a node in a directory of its own: fence_scsi(8) takes `/dev/dm-*` for multipath
/// maps, and registers with what is below.
fn nodes(scratch: &Scratch, volume_name: &str) -> (Name, [Node; 2]) {
    let device = Name::node("sd", &volume(group(), volume_name, "-L 32M"));
    let nodes = ["one", "two"].map(|node| Node::start(node, device.path(), scratch));
    (device, nodes)
}

/// A node that fence_scsi(8) has fenced cannot write until it is registered again.
fn fencing() {
    let scratch = Scratch::new();
    let (device, [mut one, mut two]) = nodes(&scratch, "fenced");
    let (agent, check) = (unpacked("sbin/fence_scsi"), unpacked("share/cluster/fence_scsi_check"));
    let action = |action: &str, key: &str| format!("{agent} --action={action} --devices=$DEV --key={key}");
    one.good(&action("on", "a"));
    two.good(&action("on", "b"));
    let reservation = two.good("sg_persist --no-inquiry --read-reservation $DEV");
    assert!(
        ["Key=0xa\n", "Write Exclusive, registrants only"].iter().all(|part| reservation.contains(part)),
        "{reservation}"
    );
    for node in [&mut one, &mut two] {
        node.good(WRITE);
        node.good(&check);
    }
    one.good(&action("off", "b"));
    // It is told once.
    let told = two.run(WRITE, UNIT_ATTENTION);
    assert!(told.contains("Registrations preempted"), "{told}");
    for _ in 0..2 {
        two.run(WRITE, CONFLICT);
    }
    two.good(READ);
    two.run(&check, OFF);
    one.run(&action("status", "b"), OFF);
    one.good(WRITE);
    two.good(&action("on", "b"));
    two.good(WRITE);
    // A node that starts again has the key of another I_T nexus.
    two.shell.end_with();
    two = Node::start("two", device.path(), &scratch);
    two.run(WRITE, CONFLICT);
    two.good(&action("on", "b"));
    two.good(WRITE);
    // The holder can be fenced, too: who fences it has the reservation.
    two.good(&action("off", "a"));
    one.run(WRITE, UNIT_ATTENTION);
    one.run(WRITE, CONFLICT);
    let reservation = one.good("sg_persist --no-inquiry --read-reservation $DEV");
    assert!(reservation.contains("Key=0xb\n"), "{reservation}");
}

/// What one node writes with sbd(8), the other one reads.
fn messages() {
    let scratch = Scratch::new();
    let (_device, [mut one, mut two]) = nodes(&scratch, "messages");
    let sbd = format!("{} -d $DEV", unpacked("sbin/sbd"));
    one.good(&format!("{sbd} create"));
    one.good(&format!("{sbd} allocate one"));
    two.good(&format!("{sbd} allocate two"));
    let listed = |node: &mut Node| node.good(&format!("{sbd} list")).replace('\t', " ");
    for node in [&mut one, &mut two] {
        assert_eq!(listed(node), "0 one clear \n1 two clear \n");
    }
    one.good(&format!("{sbd} -n one message two test"));
    assert_eq!(listed(&mut two), "0 one clear \n1 two test one\n");
    two.good(&format!("{sbd} -n two message LOCAL clear"));
    assert_eq!(listed(&mut one), "0 one clear \n1 two clear two\n");
}
