// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mappings as buffers, advice about them, and pools of buffers.

use std::fs::{self, File};
use std::io;

use flexsc::ops::{Advice, BufPool, IoBuf, Madvise, Mapping, Msync, Read, Write};
use flexsc::{Fd, Wait};

use super::{PATIENCE, TempDir, assert_errno, ring, run};

const PAGE: usize = 4096;

#[test]
fn a_mapping_is_a_buffer_of_whole_pages() {
    let mut ring = ring();
    let zero = Fd::from(File::open("/dev/zero").unwrap());
    let mut mapping = Mapping::anonymous(2 * PAGE).unwrap();
    assert_eq!(IoBuf::as_ptr(&mapping).addr() % PAGE, 0);
    mapping.fill(1);
    let (count, mapping) = run(&mut ring, Read::new(&zero, mapping));
    assert_eq!(count.unwrap(), 2 * PAGE);
    assert!(mapping.iter().all(|&byte| byte == 0));
    assert_eq!(
        Mapping::anonymous(0).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn advice_is_the_kernels() {
    let mut ring = ring();
    let mut mapping = Mapping::anonymous(PAGE).unwrap();
    for advice in [
        Advice::Sequential,
        Advice::Random,
        Advice::Normal,
        Advice::PopulateWrite,
    ] {
        mapping.fill(1);
        let (advised, back) = run(&mut ring, Madvise::new(mapping, advice));
        advised.unwrap();
        assert!(back.iter().all(|&byte| byte == 1));
        mapping = back;
    }
    let (advised, mapping) = run(&mut ring, Madvise::new(mapping, Advice::DontNeed));
    advised.unwrap();
    assert!(mapping.iter().all(|&byte| byte == 0));
}

#[test]
fn a_mapped_file_is_flushed() {
    let mut ring = ring();
    let dir = TempDir::new();
    let path = dir.join("mapped");
    fs::write(&path, vec![b'a'; PAGE]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    // SAFETY: nothing else writes to the file, which has a page.
    let mut mapping = unsafe { Mapping::shared(&file, PAGE, 0) }.unwrap();
    mapping[..5].copy_from_slice(b"hello");
    let (flushed, mapping) = run(&mut ring, Msync::new(mapping));
    flushed.unwrap();
    assert_eq!(fs::read(&path).unwrap()[..6], *b"helloa");
    let (flushed, mapping) = run(&mut ring, Msync::new(mapping).without_wait());
    flushed.unwrap();
    assert_eq!(mapping.len(), PAGE);
    // SAFETY: as above; it fails.
    let wrong = unsafe { Mapping::shared(&file, PAGE, 1) };
    assert_errno(wrong, libc::EINVAL);
}

#[test]
fn buffers_of_a_pool_are_in_flight_together() {
    let mut ring = ring();
    let dir = TempDir::new();
    let path = dir.join("numbers");
    let numbers: Vec<u8> = (0..16_u8).flat_map(|number| [number; 64]).collect();
    fs::write(&path, &numbers).unwrap();
    let file = Fd::from(File::open(&path).unwrap());
    let pool = BufPool::new(16, 64).unwrap();
    for round in 0..3 {
        for nth in 0..16_u64 {
            let buf = pool.take().unwrap();
            let read = Read::new(&file, buf).at(nth as i64 * 64);
            ring.submit(read, nth).unwrap();
        }
        assert!(pool.take().is_none(), "round {round}");
        ring.wait(Wait::all().timeout(PATIENCE)).unwrap();
        while let Some(done) = ring.next() {
            let nth = done.token as u8;
            let (count, buf) = done.output::<Read<flexsc::ops::PoolBuf>>();
            assert_eq!((count.unwrap(), &buf[..]), (64, &[nth; 64][..]));
        }
        assert_eq!(pool.free(), 16);
    }
    let mut buf = pool.take().unwrap();
    assert_eq!(buf.append(b"written"), 7);
    let null = Fd::from(File::create("/dev/null").unwrap());
    let (count, buf) = run(&mut ring, Write::new(&null, buf));
    assert_eq!((count.unwrap(), &buf[..]), (7, &b"written"[..]));
}
