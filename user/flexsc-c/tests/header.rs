// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that the shipped header is the one that cbindgen generates from the source, and
//! that the symbol versions name its functions.
//!
//! After a change, run `FLEXSC_BLESS=1 cargo test -p flexsc-c --test header`.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

/// The sources of the header, in the order of its declarations.
const SOURCES: [&str; 10] = [
    "call",
    "prep",
    "prep/files",
    "prep/names",
    "prep/xattr",
    "prep/sockets",
    "prep/events",
    "prep/memory",
    "pool",
    "queue",
];

fn dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(dir().join(path)).unwrap()
}

/// The functions that a header declares.
fn functions(header: &str) -> BTreeSet<&str> {
    let parts = header.split('(');
    let names = parts.filter_map(|part| {
        let name = part
            .rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next()?;
        name.starts_with("flexsc_").then_some(name)
    });
    names.collect()
}

#[test]
fn the_header_is_that_of_the_source() {
    let config = cbindgen::Config::from_file(dir().join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(dir().join(format!("src/{source}.rs")));
    }
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = dir().join("include/flexsc.h");
    if env::var_os("FLEXSC_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
        let names: Vec<_> = functions(&made).into_iter().collect();
        let names = names.join(";\n\t\t");
        let map = format!("FLEXSC_0.1 {{\n\tglobal:\n\t\t{names};\n\tlocal:\n\t\t*;\n}};\n");
        fs::write(dir().join("flexsc.map"), map).unwrap();
        return;
    }
    assert!(
        made == read("include/flexsc.h"),
        "include/flexsc.h: see the head of this test"
    );
    let map = read("flexsc.map");
    let words = map.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let versioned: BTreeSet<_> = words.filter(|word| word.starts_with("flexsc_")).collect();
    assert_eq!(versioned, functions(&made));
    assert!(versioned.len() > 60, "only {} functions", versioned.len());
}

#[test]
fn each_function_has_a_man_page() {
    let header = read("include/flexsc.h");
    let missing: Vec<_> = functions(&header)
        .into_iter()
        .filter(|name| {
            let page = dir().join(format!("../../docs/man/{name}.3"));
            let Ok(mut page) = fs::read_to_string(page) else {
                return true;
            };
            if let Some(other) = page.strip_prefix(".so man3/") {
                let other = dir().join("../../docs/man").join(other.trim());
                page = fs::read_to_string(other).unwrap_or_default();
            }
            let sections = ["RETURN VALUE", "ERRORS", "SEE ALSO"];
            let has_all = sections
                .iter()
                .all(|part| page.contains(&format!(".SH {part}\n")));
            !(has_all && page.contains(&format!("{name}(")))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "no man page with all parts for {missing:?}"
    );
}
