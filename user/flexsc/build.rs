// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes the Rust side of the ABI from the C header, its only source.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The header, seen from this crate's directory in the repository.
const HEADER: &str = "../../kernel/include/uapi/linux/flexsc.h";

fn main() -> ExitCode {
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("flexsc: {why}");
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), String> {
    let dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("run this through cargo")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("run this through cargo")?);
    let header = dir.join(HEADER);
    println!("cargo::rerun-if-changed={}", header.display());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBCLANG_PATH");
    if !header.exists() {
        return Err(format!(
            "{} is missing: build the crate inside the FlexSC repository",
            header.display()
        ));
    }
    find_libclang();
    bindgen::builder()
        .header(header.display().to_string())
        .use_core()
        .allowlist_item("(flexsc|FLEXSC)_.*")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .no_default("flexsc_(entry|ctrl)")
        .layout_tests(false)
        .generate_comments(false)
        .generate()
        .map_err(|why| format!("bindgen cannot read {}: {why}", header.display()))?
        .write_to_file(out.join("abi.rs"))
        .map_err(|why| format!("cannot write the bindings: {why}"))
}

/// Names a directory with libclang where nobody has: the newest of Debian's
/// llvm directories. Elsewhere bindgen looks by itself.
fn find_libclang() {
    if env::var_os("LIBCLANG_PATH").is_some() {
        return;
    }
    let version = |dir: &Path| -> Option<u32> {
        let name = dir.file_name()?.to_str()?;
        name.strip_prefix("llvm-")?.parse().ok()
    };
    let newest = fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|dir| Some((version(&dir)?, dir.join("lib"))))
        .filter(|(_, lib)| has_libclang(lib))
        .max();
    if let Some((_, lib)) = newest {
        // SAFETY: a build script has one thread here.
        unsafe { env::set_var("LIBCLANG_PATH", lib) };
    }
}

fn has_libclang(lib: &Path) -> bool {
    fs::read_dir(lib)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let version = name
                .strip_prefix("libclang-")
                .or_else(|| name.strip_prefix("libclang."));
            name.contains(".so")
                && version
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == 's'))
        })
}
