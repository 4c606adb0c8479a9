// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that the shipped bindings are bindgen's output for the C header. Outside the
//! repository there is no header and nothing to compare.
//!
//! After a change of the header, run `FLEXSC_BLESS=1 cargo test -p flexsc --test bindings`,
//! then `cargo fmt`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Relative to the crate's directory.
const HEADER: &str = "../../kernel/include/uapi/linux/flexsc.h";
const BINDINGS: &str = "src/sys/abi/bindings.rs";

#[test]
fn the_bindings_are_those_of_the_header() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = dir.join(HEADER);
    if !header.exists() {
        eprintln!("skipped: {} is not there", header.display());
        return;
    }
    find_libclang();
    let made = bindgen::builder()
        .header(header.display().to_string())
        .use_core()
        .allowlist_item("(flexsc|FLEXSC)_.*")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .no_default("flexsc_(entry|ctrl)")
        .layout_tests(false)
        .generate_comments(false)
        .disable_header_comment()
        .formatter(bindgen::Formatter::None)
        .generate()
        .unwrap()
        .to_string();
    let path = dir.join(BINDINGS);
    let shipped = fs::read_to_string(&path).unwrap();
    // Everything above the first item is written by hand.
    let (head, items) = shipped.split_at(shipped.find("pub const").unwrap());
    if env::var_os("FLEXSC_BLESS").is_some() {
        fs::write(&path, format!("{head}{made}")).unwrap();
        return;
    }
    assert!(
        words(items) == words(&made),
        "{BINDINGS} is not what bindgen makes of the header: see the head of this test"
    );
}

/// Removes what rustfmt changes: white space, and trailing commas.
fn words(text: &str) -> String {
    let dense: String = text.split_whitespace().collect();
    [")", "]", "}"]
        .iter()
        .fold(dense, |text, end| text.replace(&format!(",{end}"), end))
}

/// Sets the newest of Debian's llvm directories as libclang's, unless one is set. On
/// other systems bindgen finds it.
fn find_libclang() {
    if env::var_os("LIBCLANG_PATH").is_some() {
        return;
    }
    let version = |dir: &Path| -> Option<u32> {
        let name = dir.file_name()?.to_str()?;
        name.strip_prefix("llvm-")?.parse().ok()
    };
    let libraries = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    let newest = libraries("/usr/lib".into())
        .filter_map(|entry| Some((version(&entry.path())?, entry.path().join("lib"))))
        .filter(|(_, lib)| {
            libraries(lib.clone()).any(|file| {
                let name = file.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libclang-") || name.starts_with("libclang.so")
            })
        })
        .max();
    if let Some((_, lib)) = newest {
        // SAFETY: this program has one test, and no thread reads the environment.
        unsafe { env::set_var("LIBCLANG_PATH", lib) };
    }
}
