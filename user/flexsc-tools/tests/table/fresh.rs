// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees that are copied to a new target, and then again over that target.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use rustix::fs::FileType;

use crate::tree::{
    Tree, age, attribute, chmod, chown, fifo, file, has_attributes, node, set_time, text,
};
use crate::{Case, is_root, root_for};

#[test]
fn empty_tree() {
    Case::new("empty").is_as_cp(age);
}

#[test]
fn odd_names() {
    Case::new("names").is_as_cp(|root| {
        let long = "l".repeat(255);
        let names: [&[u8]; 9] = [
            b"new\nline",
            b"\xff\xfe not UTF-8",
            b"-dash",
            b" space ",
            b"...",
            b"back\\slash",
            b"*?[x]",
            b"\x1b[31mred",
            long.as_bytes(),
        ];
        for name in names {
            let dir = root.join(OsStr::from_bytes(name));
            fs::create_dir(&dir).unwrap();
            file(&dir.join(OsStr::from_bytes(name)), 10);
            symlink(OsStr::from_bytes(name), dir.join("link")).unwrap();
        }
        age(root);
    });
}

#[test]
fn all_modes() {
    Case::new("modes").is_as_cp(|root| {
        for mode in [
            0, 0o400, 0o444, 0o555, 0o600, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o1644,
            0o7777,
        ] {
            // Only root can read and replace all of them.
            if is_root() || mode & 0o600 == 0o600 {
                let path = root.join(format!("file{mode:o}"));
                file(&path, 100);
                chmod(&path, mode);
            }
            if is_root() || mode & 0o500 == 0o500 {
                let path = root.join(format!("dir{mode:o}"));
                fs::create_dir(&path).unwrap();
                file(&path.join("file"), 100);
                fs::create_dir(path.join("dir")).unwrap();
                age(&path);
                chmod(&path, mode);
            }
        }
        set_time(root, 1, 2);
        chmod(root, 0o555);
    });
}

#[test]
fn directories_without_permission_to_write_as_nobody() {
    let Some(case) = Case::as_nobody("nobody") else {
        return;
    };
    // cp cannot do this twice.
    case.is_copied_over(
        |root| {
            for mode in [0o500, 0o555, 0o700, 0o1755, 0o2755] {
                let dir = root.join(format!("dir{mode:o}"));
                fs::create_dir_all(dir.join("below")).unwrap();
                fs::write(dir.join("below/file"), text(10)).unwrap();
                symlink("file", dir.join("below/link")).unwrap();
                chmod(&dir.join("below"), mode);
                chmod(&dir, mode);
            }
            age(root);
            chmod(root, 0o555);
        },
        |_| {},
    );
}

#[test]
fn old_times() {
    let case = Case::new("times");
    case.is_as_cp(|root| {
        fs::create_dir_all(root.join("dir/dir")).unwrap();
        file(&root.join("dir/file"), 40_000);
        file(&root.join("empty"), 0);
        symlink("nowhere", root.join("dir/link")).unwrap();
        fifo(&root.join("fifo"), 0o600);
        set_time(&root.join("fifo"), 3, 999_999_999);
        set_time(&root.join("dir/link"), 1_234_567_890, 1);
        set_time(&root.join("dir/file"), 981_173_106, 7);
        set_time(&root.join("empty"), 0, 0);
        set_time(&root.join("dir/dir"), 2_000_000_000, 5);
        set_time(&root.join("dir"), 86_400, 5);
        set_time(root, 86_401, 6);
    });
    // Also the access time, which reading the copy would change.
    fs::remove_dir_all(&case.b).unwrap();
    set_time(&case.a.join("dir/file"), 981_173_106, 7);
    case.copy(&["a", "b"]).is_good();
    let meta = fs::metadata(case.b.join("dir/file")).unwrap();
    assert_eq!((meta.atime(), meta.atime_nsec()), (981_173_106, 7));
}

#[test]
fn owners() {
    if !root_for("owners") {
        return;
    }
    Case::new("owners").is_as_cp(|root| {
        for (n, (uid, gid)) in [(1, 2), (0, 5), (5, 0), (65534, 65534)].iter().enumerate() {
            let dir = root.join(format!("dir{n}"));
            fs::create_dir(&dir).unwrap();
            file(&dir.join("file"), 10);
            symlink("file", dir.join("link")).unwrap();
            fifo(&dir.join("fifo"), 0o640);
            for name in ["file", "link", "fifo", ""] {
                chown(&dir.join(name), *uid, *gid);
            }
            chmod(&dir.join("file"), 0o6755);
            chmod(&dir, 0o2775);
        }
        age(root);
    });
}

#[test]
fn symbolic_links() {
    Case::new("symlinks").is_as_cp(|root| {
        fs::create_dir(root.join("dir")).unwrap();
        file(&root.join("file"), 10);
        let long = "x/".repeat(2000);
        for (n, to) in ["file", "dir", "..", "/", "nowhere", "link5", &long]
            .iter()
            .enumerate()
        {
            symlink(to, root.join(format!("link{n}"))).unwrap();
        }
        age(root);
    });
}

#[test]
fn special_files() {
    Case::new("special").is_as_cp(|root| {
        fifo(&root.join("fifo"), 0o644);
        fifo(&root.join("strange"), 0o4622);
        node(&root.join("socket"), FileType::Socket, 0o755, 0);
        if root_for("device nodes") {
            let null = rustix::fs::makedev(1, 3);
            node(&root.join("null"), FileType::CharacterDevice, 0o666, null);
            let large = rustix::fs::makedev(259, 0x12345);
            node(&root.join("disk"), FileType::BlockDevice, 0o660, large);
            chown(&root.join("disk"), 0, 6);
        }
        age(root);
    });
}

#[test]
fn hard_links() {
    Case::new("links").is_as_cp(|root| {
        fs::create_dir_all(root.join("x/y")).unwrap();
        file(&root.join("x/y/large"), 200_000);
        symlink("large", root.join("x/y/link")).unwrap();
        fifo(&root.join("x/y/fifo"), 0o600);
        for name in ["large", "link", "fifo"] {
            for dir in ["", "x"] {
                let to = root.join(dir).join(name);
                fs::hard_link(root.join("x/y").join(name), to).unwrap();
            }
        }
        // Two files with the same content.
        file(&root.join("other"), 200_000);
        fs::hard_link(root.join("other"), root.join("another")).unwrap();
        age(root);
    });
}

/// Makes a file of this size with data at these offsets.
fn sparse(path: &Path, size: u64, places: &[u64]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for &place in places {
        file.write_all_at(b"data", place).unwrap();
    }
}

#[test]
fn holes() {
    let case = Case::new("holes");
    case.is_as_cp(|root| {
        sparse(&root.join("all"), 1 << 20, &[]);
        sparse(&root.join("huge"), 1 << 24, &[1 << 23]);
        sparse(&root.join("small"), 16_384, &[8192]);
        sparse(&root.join("ends"), 1_000_003, &[0, 500_000, 999_999]);
        sparse(&root.join("begin"), 1_000_003, &[0]);
        age(root);
    });
    for name in ["all", "huge", "small", "ends", "begin"] {
        let blocks = |root: &Path| fs::metadata(root.join(name)).unwrap().blocks();
        let (ours, theirs) = (blocks(&case.b), blocks(&case.a));
        assert!(ours <= theirs, "{name} has {ours} blocks, not {theirs}");
    }
}

#[test]
fn attributes() {
    let case = Case::new("attributes");
    if !has_attributes(&case.a) {
        println!("note: files there have no attributes, this was left out");
        return;
    }
    case.is_as_cp(|root| {
        fs::create_dir(root.join("dir")).unwrap();
        for name in ["file", "read-only", "large"] {
            file(&root.join(name), if name == "large" { 100_000 } else { 10 });
            attribute(&root.join(name), "user.one", b"1");
            attribute(&root.join(name), "user.empty", b"");
            attribute(&root.join(name), "user.binary", &[0, 255, 10].repeat(300));
        }
        attribute(&root.join("dir"), "user.of.a.directory", b"yes");
        attribute(root, "user.of.the.root", b"yes");
        // Only root can replace a read-only file.
        chmod(
            &root.join("read-only"),
            if is_root() { 0o444 } else { 0o644 },
        );
        age(root);
    });
}

#[test]
fn attributes_of_links_and_special_files() {
    if !root_for("attributes of links and special files") {
        return;
    }
    let case = Case::new("attributes-of-links");
    if !has_attributes(&case.a) {
        println!("note: files there have no attributes, this was left out");
        return;
    }
    case.is_as_cp(|root| {
        symlink("nowhere", root.join("link")).unwrap();
        symlink("nowhere", root.join("plain")).unwrap();
        fs::hard_link(root.join("link"), root.join("link-too")).unwrap();
        fifo(&root.join("fifo"), 0o640);
        node(&root.join("socket"), FileType::Socket, 0o755, 0);
        let null = rustix::fs::makedev(1, 3);
        node(&root.join("null"), FileType::CharacterDevice, 0o666, null);
        let long = "l".repeat(255);
        symlink("to", root.join(&long)).unwrap();
        for name in ["link", "fifo", "socket", "null", &long] {
            attribute(&root.join(name), "trusted.one", b"1");
            attribute(&root.join(name), "trusted.empty", b"");
            attribute(
                &root.join(name),
                "trusted.binary",
                &[0, 255, 10].repeat(300),
            );
        }
        age(root);
    });
}

#[test]
fn links_without_proc() {
    if !root_for("a system without /proc") {
        return;
    }
    let case = Case::new("no-proc");
    for n in 0..3 {
        symlink("nowhere", case.a.join(format!("link{n}"))).unwrap();
    }
    file(&case.a.join("file"), 10);
    age(&case.a);
    let probe = case.command(Path::new("unshare"), &["-m", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("note: unshare does not work here, this was left out");
        return;
    }
    let script = format!("umount -l /proc && exec ./program {} a b", crate::way());
    let mut unshare = case.command(Path::new("unshare"), &["-m", "sh", "-c", &script]);
    let said = crate::Said::of(unshare.output().unwrap());
    // Everything else is copied, and there is one message.
    said.is_bad(&["/proc is not mounted: symbolic links", "errors: 1;"]);
    Tree::of(&case.b).assert_is(&Tree::of(&case.a), "the copy");
}

/// user::rwx user:1:r-- group::r-x mask::rwx other::---, in the kernel's format.
fn access_list() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in [
        (0x01_u16, 7_u16, u32::MAX),
        (0x02, 4, 1),
        (0x04, 5, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Returns true if files in this directory can have access control lists. Gives the
/// directory a default one.
fn has_lists(dir: &Path) -> bool {
    let flags = rustix::fs::XattrFlags::empty();
    let set = rustix::fs::lsetxattr(dir, "system.posix_acl_default", &access_list(), flags);
    if set.is_err() {
        println!("note: files there have no access control lists, this was left out");
    }
    set.is_ok()
}

#[test]
fn access_control_lists() {
    let case = Case::new("lists");
    if !has_lists(&case.a) {
        return;
    }
    case.is_as_cp(|root| {
        fs::create_dir(root.join("dir")).unwrap();
        file(&root.join("inherits"), 10);
        file(&root.join("dir/file"), 10);
        chmod(&root.join("dir/file"), 0o640);
        fifo(&root.join("dir/fifo"), 0o640);
        for name in ["dir/file", "dir/fifo"] {
            let list = "system.posix_acl_access";
            attribute(&root.join(name), list, &access_list());
        }
        age(root);
    });
}

#[test]
fn a_list_of_the_target_is_not_inherited() {
    let case = Case::new("inherited");
    if !has_lists(&case.dir) {
        return;
    }
    rustix::fs::lremovexattr(&case.a, "system.posix_acl_default").unwrap();
    rustix::fs::lremovexattr(&case.a, "system.posix_acl_access").ok();
    case.is_as_cp(|root| {
        fs::create_dir(root.join("dir")).unwrap();
        for path in ["dir/file", "file"] {
            file(&root.join(path), 10);
            chmod(&root.join(path), 0o664);
        }
        fifo(&root.join("dir/fifo"), 0o664);
        for path in ["dir/file", "dir/fifo", "file", "dir", ""] {
            for list in ["system.posix_acl_default", "system.posix_acl_access"] {
                rustix::fs::lremovexattr(root.join(path), list).ok();
            }
        }
        age(root);
    });
}

#[test]
fn sizes_around_the_buffer() {
    Case::new("sizes").is_as_cp(|root| {
        for len in [
            0, 1, 4095, 4096, 4097, 32_767, 32_768, 32_769, 65_536, 3_000_001,
        ] {
            file(&root.join(format!("{len}")), len);
        }
        age(root);
    });
}

#[test]
fn deep_tree() {
    Case::new("deep").is_as_cp(|root| {
        let mut dir = root.to_owned();
        for n in 0..600 {
            dir.push(format!("{}", n % 10));
            fs::create_dir(&dir).unwrap();
            if n % 50 == 0 {
                file(&dir.join("file"), n);
            }
        }
        age(root);
    });
}

#[test]
fn five_thousand_small_files() {
    Case::new("many").is_as_cp(|root| {
        for n in 0..5000 {
            let dir = root.join(format!("{}/{}", n % 7, n % 70));
            fs::create_dir_all(&dir).unwrap();
            file(&dir.join(format!("{n}")), n % 3000);
        }
        age(root);
    });
}
