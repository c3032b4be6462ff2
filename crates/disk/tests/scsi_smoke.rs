mod common;
use common::sg::Disk;
#[test]
fn inquiry() {
    let disk = Disk::new(vec![0; 1 << 20]);
    println!("{:02x?}", disk.read(&[0x12, 0, 0, 0, 96, 0], 96).good());
    println!("{:?}", disk.read(&[0x28, 0, 0xff, 0, 0, 0, 0, 0, 1, 0], 512).check());
}
