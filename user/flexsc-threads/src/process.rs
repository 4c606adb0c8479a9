// SPDX-License-Identifier: MIT OR Apache-2.0
//! The phases of a process: loaded, patched, or left alone.
//!
//! While a program has one thread, only the two sites that create threads have stubs. The creation
//! of the first thread is the signal to patch everything: until then no other thread can be
//! executing the code that is replaced.

use core::ffi::CStr;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use crate::calls::Class;
use crate::elf::{Headers, Segment};
use crate::log::Log;
use crate::object::{self, Bytes};
use crate::patch::{Patched, Stubs};
use crate::plan::Which;
use crate::sys::image::{self, Loaded, Program};
use crate::sys::lock::Lock;
use crate::sys::once::Once;
use crate::sys::raw::{self, Errno, MappedFile};
use crate::sys::{area, arena, entry, vdso};
use crate::ult;

/// Nothing is patched, or only the sites that create threads.
const ONE_THREAD: u8 = 0;
/// Everything is patched, including objects that are loaded later.
const PATCHED: u8 = 1;
/// The program runs as if the library were absent.
const LEFT_ALONE: u8 = 2;

static PHASE: AtomicU8 = AtomicU8::new(LEFT_ALONE);

/// Counts of calls by class. Known calls are counted only if there is a log.
static COUNTS: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];
static IS_COUNTING: AtomicBool = AtomicBool::new(false);

static LOG: Once<Log> = Once::new(Log::Off);

fn log() -> Log {
    LOG.get().unwrap_or(Log::Off)
}

struct Process {
    program: Program,
    stubs: Stubs,
    /// FLEXSC_THREADS=user.
    wants_user_threads: bool,
    /// Sites of the C library and the dynamic linker that have no stub.
    plain_sites: usize,
}

static PROCESS: Lock<Process> = Lock::new(Process {
    program: Program {
        headers: (0, 0),
        vdso: 0,
        has_fsgsbase: false,
    },
    stubs: Stubs::new(),
    wants_user_threads: false,
    plain_sites: 0,
});

/// Starts the library. The program's own code has not run yet.
pub(crate) fn start(program: Program, target: &'static CStr, switch: &'static CStr) {
    // Programs use the memory of their environment for other things: the title in ps, for example.
    let target = if target.is_empty() {
        target
    } else {
        area::keep(target)
    };
    LOG.set(Log::new(target));
    IS_COUNTING.store(log().is_on(), Relaxed);
    PROCESS.with(|process| {
        process.program = program;
        process.wants_user_threads = switch == c"user";
        if let Err(reason) = process.hook(switch) {
            leave_alone(&reason);
        }
    });
}

/// Returns true if the first thread is still to come.
pub(crate) fn has_one_thread() -> bool {
    PHASE.load(SeqCst) == ONE_THREAD
}

/// The program is about to create a thread.
#[inline(never)]
pub(crate) fn make_thread() {
    let user_threads = PROCESS.with(|process| {
        if !has_one_thread() {
            return None;
        }
        match process.patch_all() {
            Ok(()) => {
                PHASE.store(PATCHED, SeqCst);
                process.can_have_user_threads()
            }
            Err(reason) => {
                leave_alone(&reason);
                None
            }
        }
    });
    // Not under the lock, which blocks the signals.
    match user_threads
        .map(|possible| possible.and_then(|()| ult::start().map_err(|_| "there is no memory")))
    {
        None => {}
        Some(Ok(engine)) => {
            log().line(format_args!("threads are user-level threads"));
            if let Err(Errno(errno)) = engine {
                log().line(format_args!(
                    "calls that may block go to helper threads: errno {errno}"
                ));
            }
        }
        Some(Err(reason)) => log().line(format_args!("threads are the kernel's: {reason}")),
    }
}

/// The program has mapped part of a file as code.
pub(crate) fn code_was_mapped(fd: i32, offset: u64, range: Range<u64>) {
    if PHASE.load(SeqCst) == PATCHED {
        PROCESS.with(|process| process.patch_mapped(fd, offset, range));
    }
}

/// A call was caught.
pub(crate) fn count(class: Class) {
    if class == Class::Unknown || IS_COUNTING.load(Relaxed) {
        COUNTS[class as usize].fetch_add(1, Relaxed);
    }
}

/// The program is about to end.
#[inline(never)]
pub(crate) fn end() {
    if IS_COUNTING.load(Relaxed) {
        log_counts();
    }
}

/// Says why the process ends.
pub(crate) fn complain(text: &str) {
    let log = if log().is_on() { log() } else { Log::Stderr };
    log.line(format_args!("{text}"));
}

/// Why a process is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    SwitchedOff,
    ShadowStack,
    NoList,
    NoLibc,
    Forbidden(Errno),
    NoMemory(Errno),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::SwitchedOff => write!(f, "FLEXSC_THREADS=off"),
            Reason::ShadowStack => write!(f, "it has a shadow stack"),
            Reason::NoList => write!(f, "there is no list of its objects"),
            Reason::NoLibc => write!(f, "it has no libc.so.6 whose threads can be noticed"),
            Reason::Forbidden(Errno(errno)) => {
                write!(f, "the system forbids to change code: errno {errno}")
            }
            Reason::NoMemory(Errno(errno)) => write!(f, "there is no memory: errno {errno}"),
        }
    }
}

fn leave_alone(reason: &Reason) {
    PHASE.store(LEFT_ALONE, SeqCst);
    log().line(format_args!("the program runs as it is: {reason}"));
}

fn log_counts() {
    let count = |class: Class| COUNTS[class as usize].load(Relaxed);
    let all: u64 = COUNTS.iter().map(|count| count.load(Relaxed)).sum();
    log().line(format_args!(
        "{all} calls caught: EMULATE {} POST {} PLAIN {} BOUND {} BROADCAST {} REISSUE {}, unknown {}",
        count(Class::Emulate),
        count(Class::Post),
        count(Class::Plain),
        count(Class::Bound),
        count(Class::Broadcast),
        count(Class::Reissue),
        count(Class::Unknown),
    ));
    if ult::is_on() {
        let counts = ult::counts();
        log().line(format_args!(
            "calls handed over: {} to the engine, {} to helpers, {} refused by the engine",
            counts.engine, counts.helpers, counts.refused
        ));
    }
}

impl Process {
    /// Gives stubs to the sites of the C library that create threads.
    fn hook(&mut self, switch: &CStr) -> Result<(), Reason> {
        if switch == c"off" {
            return Err(Reason::SwitchedOff);
        }
        if raw::has_shadow_stack() {
            return Err(Reason::ShadowStack);
        }
        arena::keep_area(object::DECODER_MEMORY).map_err(Reason::NoMemory)?;
        object::warm_up();
        let mut hooks = 0;
        self.each_object(|process, object| {
            if object.name.to_bytes().ends_with(b"/libc.so.6") {
                let patched = process.patch_loaded(object, Which::Clones)?;
                hooks += patched.stubs;
            }
            Ok(())
        })?;
        if hooks == 0 {
            return Err(Reason::NoLibc);
        }
        PHASE.store(ONE_THREAD, SeqCst);
        log().line(format_args!("waiting for a thread: {hooks} sites hooked"));
        Ok(())
    }

    /// Whether threads can be user-level threads; None if nobody has asked.
    fn can_have_user_threads(&self) -> Option<Result<(), &'static str>> {
        if !self.wants_user_threads {
            None
        } else if !self.program.has_fsgsbase {
            Some(Err("programs may not set the FS base here (FSGSBASE)"))
        } else if self.plain_sites > 0 {
            Some(Err("some calls of the C library have no stub"))
        } else {
            vdso::find(self.program.vdso);
            Some(Ok(()))
        }
    }

    fn patch_all(&mut self) -> Result<(), Reason> {
        log().line(format_args!(
            "calls are made at {:#x}, the library is from {:#x} to {:#x}, its stubs from {:#x} on",
            entry::call(),
            entry::library(),
            entry::stubs_end(),
            entry::stubs(),
        ));
        self.each_object(|process, object| process.patch_loaded(object, Which::All).map(drop))
    }

    /// Calls `visit` with each object that is loaded, except this library.
    fn each_object(
        &mut self,
        mut visit: impl FnMut(&mut Self, &Loaded) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let program = self.program;
        let mut result = Ok(());
        arena::with_area(object::LIST_MEMORY, || {
            let Some(objects) = image::loaded(&program) else {
                result = Err(Reason::NoList);
                return;
            };
            for object in objects {
                if result.is_ok() && !object::is_ours(&object) {
                    result = visit(self, &object);
                }
            }
        })
        .map_err(Reason::NoMemory)?;
        result
    }

    /// Patches the executable segments of a loaded object.
    fn patch_loaded(&mut self, object: &Loaded, which: Which) -> Result<Patched, Reason> {
        let name = object.name.to_str().unwrap_or("an object");
        let name = if name.is_empty() { "the program" } else { name };
        let bytes = |segment: &Segment| Some(image::segment(object.base, segment));
        let mut all = Patched::default();
        let segments = object.headers.segments.iter();
        for segment in segments.filter(|segment| segment.is_executable()) {
            all += self.patch(&object.headers, object.base, segment, &bytes, name, which)?;
        }
        if ["/libc.so.6", "/ld-linux-x86-64.so.2"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            self.plain_sites += all.sites - all.stubs;
        }
        Ok(all)
    }

    /// Patches an object of which a segment has just been mapped. Nothing executes it yet.
    fn patch_mapped(&mut self, fd: i32, offset: u64, range: Range<u64>) {
        const PAGE: u64 = 4096;
        let Ok(file) = MappedFile::new(fd) else {
            return;
        };
        let patched = arena::with_area(object::LIST_MEMORY, || {
            let headers = Headers::of_file(file.bytes())?;
            let segments = headers.segments.iter();
            let segment = segments.copied().find(|segment| {
                segment.is_executable()
                    && segment.offset & !(PAGE - 1) == offset
                    && segment.len <= range.end - range.start
            })?;
            let base = range.start.wrapping_sub(segment.address & !(PAGE - 1));
            let bytes = |segment: &Segment| {
                let start = segment.offset as usize;
                file.bytes().get(start..start + segment.len as usize)
            };
            let mut name = [0; 256];
            let name = raw::name_of(fd, &mut name);
            let patched = self.patch(&headers, base, &segment, &bytes, name, Which::New);
            if let Err(reason) = patched {
                log().line(format_args!("{name}: left as it is: {reason}"));
            }
            Some(())
        });
        if patched == Ok(None) {
            log().line(format_args!(
                "a file mapped as code at {:#x} is no object: its calls are made plainly",
                range.start
            ));
        }
    }

    fn patch(
        &mut self,
        headers: &Headers,
        base: u64,
        segment: &Segment,
        bytes: Bytes<'_, '_>,
        name: &str,
        which: Which,
    ) -> Result<Patched, Reason> {
        let memory = object::memory(segment);
        let stubs = &mut self.stubs;
        arena::with_area(memory, || {
            let Some(object) = object::object(headers, base, segment, bytes) else {
                return Ok(Patched::default());
            };
            stubs
                .patch(object, base, which, |site, reason| {
                    log().line(format_args!("{name}+{site:#x}: plain: {reason}"));
                })
                .map_err(Reason::Forbidden)
        })
        .map_err(Reason::NoMemory)?
        .inspect(|patched| {
            if which != Which::Clones && patched.sites > 0 {
                log().line(format_args!(
                    "{name}: {} sites: {} with a stub, {} plain",
                    patched.sites,
                    patched.stubs,
                    patched.sites - patched.stubs
                ));
            }
        })
    }
}
