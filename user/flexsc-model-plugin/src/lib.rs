// SPDX-License-Identifier: MIT OR Apache-2.0
//! A TCG plugin for QEMU that feeds the instructions and accesses of a virtual machine to
//! `flexsc-model`.
//!
//! ```text
//! qemu-system-x86_64 -icount shift=0 -smp 1 … \
//!     -plugin libflexsc_model_plugin.so,params=processors.toml,out=counts.csv[,variants=all]
//! ```
//!
//! At first the plugin only looks for markers in the code that is translated, so the machine boots at
//! about its usual speed. The first marker makes it trace everything from then on. It never goes back:
//! QEMU 7.2 may keep the address of an instruction's callbacks for accesses after an exception, and
//! uses it although the callbacks are gone. `docs/model.md` describes markers and figures.

mod sys;

use std::fs::{self, File};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flexsc_model::block::{Block, Instruction};
use flexsc_model::marker::Marker;
use flexsc_model::params;
use flexsc_model::processor::Access;
use flexsc_model::tracer::Tracer;
use flexsc_model::variants::of_sizes;

/// The state of the plugin.
struct Plugin {
    tracer: Tracer,
    /// Everything that is translated from now on is traced, not only markers.
    attached: bool,
    /// The plugin has asked QEMU to translate everything anew.
    asked: bool,
}

static PLUGIN: Mutex<Option<Plugin>> = Mutex::new(None);

fn plugin() -> MutexGuard<'static, Option<Plugin>> {
    PLUGIN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the arguments and the parameters.
fn install(arguments: &[String], cpus: usize) -> io::Result<()> {
    let (mut file, mut out, mut changed) = (None, None, false);
    for argument in arguments {
        match argument.split_once('=') {
            Some(("params", path)) => file = Some(path),
            Some(("out", path)) => out = Some(path),
            Some(("variants", "all")) => changed = true,
            Some(("variants", "base")) => changed = false,
            _ => return Err(io::Error::other(format!("unknown argument '{argument}'"))),
        }
    }
    let (Some(file), Some(out)) = (file, out) else {
        return Err(io::Error::other("params=FILE and out=FILE are needed"));
    };
    if cpus != 1 {
        return Err(io::Error::other(format!(
            "the model has one processor, but the machine has {cpus}: use -smp 1"
        )));
    }
    let named =
        |path: &str, why: &dyn std::fmt::Display| io::Error::other(format!("{path}: {why}"));
    let text = fs::read_to_string(file).map_err(|why| named(file, &why))?;
    let processors = params::parse(&text).map_err(|why| named(file, &why))?;
    let variants = of_sizes(&processors, changed);
    let out = File::create(out).map_err(|why| named(out, &why))?;
    *plugin() = Some(Plugin {
        tracer: Tracer::new(&variants, Box::new(out))?,
        attached: false,
        asked: false,
    });
    Ok(())
}

/// A callback that the plugin wants for one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// When it is executed: it is this marker.
    Marker(Marker),
    /// When it is executed: the block of this number begins.
    Block(usize),
    /// When it accesses memory.
    Access,
}

/// QEMU has translated these instructions. Returns callbacks with the indexes of instructions.
fn translate(instructions: &[Instruction]) -> Vec<(usize, Wanted)> {
    let mut wanted = Vec::new();
    let mut guard = plugin();
    let Some(plugin) = guard.as_mut() else {
        return wanted;
    };
    // A block begins at each marker, so that regions begin and end exactly there.
    let mut begin = 0;
    let mut finish = |begin: usize, end: usize, wanted: &mut Vec<_>| {
        if let Some(block) = Block::new(&instructions[begin..end]) {
            wanted.push((begin, Wanted::Block(plugin.tracer.add_block(block))));
            wanted.extend((begin..end).map(|index| (index, Wanted::Access)));
        }
    };
    for (index, instruction) in instructions.iter().enumerate() {
        if let Some(marker) = Marker::decode(&instruction.bytes) {
            if plugin.attached {
                finish(begin, index, &mut wanted);
                begin = index;
            }
            wanted.push((index, Wanted::Marker(marker)));
        }
    }
    if plugin.attached {
        finish(begin, instructions.len(), &mut wanted);
    }
    wanted
}

/// The program has executed a marker. Returns true if everything must be translated anew.
fn marker(marker: Marker) -> bool {
    let mut guard = plugin();
    let Some(plugin) = guard.as_mut() else {
        return false;
    };
    let attach = plugin.tracer.marker(marker).unwrap_or_else(|why| {
        eprintln!("flexsc-model: {why}");
        false
    });
    let first = attach && !plugin.asked;
    plugin.asked |= attach;
    first
}

/// QEMU has forgotten all translations, as the plugin asked.
fn reset() {
    if let Some(plugin) = plugin().as_mut() {
        plugin.attached = true;
    }
}

fn execute(block: usize) {
    if let Some(plugin) = plugin().as_mut() {
        plugin.tracer.execute(block);
    }
}

fn access(access: &Access) {
    if let Some(plugin) = plugin().as_mut() {
        plugin.tracer.access(access);
    }
}
