// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's plugin interface: own declarations of what versions 1 (QEMU 7.2) to 4 (QEMU 10) have in
//! common, and of the one function that differs. Everything unsafe is here.
//!
//! QEMU loads the library, reads `qemu_plugin_version`, and calls `qemu_plugin_install`. It accepts
//! versions between its oldest and its own; QEMU 9 and later refuse version 1, earlier ones refuse 2.
//! So a constructor sets the version, according to a function that came with version 2.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use flexsc_model::block::Instruction;
use flexsc_model::marker::Marker;
use flexsc_model::processor::Access;

use crate::Wanted;

/// The first version whose `qemu_plugin_insn_data` copies.
const COPIES: i32 = 3;

/// `QEMU_PLUGIN_CB_NO_REGS`: callbacks look at no register.
const NO_REGISTERS: c_int = 0;
/// `QEMU_PLUGIN_MEM_RW`: reads and writes.
const READS_AND_WRITES: c_int = 3;

/// The longest instruction.
const LONGEST: usize = 15;

/// `qemu_info_t`, up to the members for whole machines.
#[repr(C)]
struct Info {
    target: *const c_char,
    oldest: c_int,
    current: c_int,
    whole_machine: bool,
    cpus: c_int,
    most_cpus: c_int,
}

enum Tb {}
enum Insn {}
enum Hwaddr {}

type OnTranslate = extern "C" fn(id: u64, tb: *mut Tb);
type OnExecute = extern "C" fn(cpu: c_uint, data: *mut c_void);
type OnAccess = extern "C" fn(cpu: c_uint, info: u32, virt: u64, data: *mut c_void);
type OnReset = extern "C" fn(id: u64);

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, callback: OnTranslate);
    fn qemu_plugin_reset(id: u64, callback: OnReset);
    fn qemu_plugin_tb_n_insns(tb: *const Tb) -> usize;
    fn qemu_plugin_tb_get_insn(tb: *const Tb, index: usize) -> *mut Insn;
    // Versions 1 and 2 ignore all but the first argument, and return the address of the bytes.
    fn qemu_plugin_insn_data(insn: *const Insn, to: *mut c_void, room: usize) -> usize;
    fn qemu_plugin_insn_size(insn: *const Insn) -> usize;
    fn qemu_plugin_insn_vaddr(insn: *const Insn) -> u64;
    fn qemu_plugin_insn_haddr(insn: *const Insn) -> *mut c_void;
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        insn: *mut Insn,
        callback: OnExecute,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_mem_cb(
        insn: *mut Insn,
        callback: OnAccess,
        flags: c_int,
        which: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_mem_is_store(info: u32) -> bool;
    fn qemu_plugin_mem_size_shift(info: u32) -> c_uint;
    fn qemu_plugin_get_hwaddr(info: u32, virt: u64) -> *mut Hwaddr;
    fn qemu_plugin_hwaddr_is_io(address: *const Hwaddr) -> bool;
    fn qemu_plugin_hwaddr_phys_addr(address: *const Hwaddr) -> u64;
}

/// The version of the interface that the plugin wants, for QEMU to read.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: AtomicI32 = AtomicI32::new(1);

/// Runs when the library is loaded, before QEMU reads the version.
#[used]
#[unsafe(link_section = ".init_array")]
static ON_LOAD: extern "C" fn() = on_load;

extern "C" fn on_load() {
    // SAFETY: looks for a symbol by a string that ends with 0.
    let second = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"qemu_plugin_scoreboard_new".as_ptr()) };
    if !second.is_null() {
        qemu_plugin_version.store(2, Ordering::Relaxed);
    }
}

/// The number that QEMU has given to the plugin.
static ID: AtomicU64 = AtomicU64::new(0);
/// The version of QEMU's interface.
static CURRENT: AtomicI32 = AtomicI32::new(0);

/// QEMU calls this once, after loading the library.
///
/// # Safety
///
/// QEMU passes valid pointers: `info`, and `argc` strings in `argv`.
#[unsafe(no_mangle)]
unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    info: *const Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    let info = unsafe { &*info };
    let mut arguments = Vec::new();
    for index in 0..argc.max(0) as usize {
        // SAFETY: the caller's promise: `index` is below `argc`.
        let argument = unsafe { argv.add(index) };
        // SAFETY: the same.
        let argument = unsafe { *argument };
        // SAFETY: the caller's promise: a string that lives during this call.
        let argument = unsafe { CStr::from_ptr(argument) };
        arguments.push(argument.to_string_lossy().into_owned());
    }
    let cpus = if info.whole_machine { info.cpus } else { 0 };
    if let Err(why) = crate::install(&arguments, cpus.max(0) as usize) {
        eprintln!("flexsc-model: {why}");
        return -1;
    }
    ID.store(id, Ordering::Relaxed);
    CURRENT.store(info.current, Ordering::Relaxed);
    // SAFETY: the function and the number are those of this plugin.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate) };
    0
}

/// Returns the bytes of an instruction that is being translated.
fn bytes(insn: *const Insn) -> Vec<u8> {
    // SAFETY: QEMU gave us the instruction in this callback.
    let size = unsafe { qemu_plugin_insn_size(insn) }.min(LONGEST);
    let mut bytes = vec![0; LONGEST];
    // SAFETY: there is room for so many bytes.
    let data = unsafe { qemu_plugin_insn_data(insn, bytes.as_mut_ptr().cast(), LONGEST) };
    if CURRENT.load(Ordering::Relaxed) < COPIES {
        // The address of `size` bytes, valid during this callback.
        let data = ptr::with_exposed_provenance::<u8>(data);
        if data.is_null() {
            return Vec::new();
        }
        // SAFETY: as said.
        return unsafe { slice::from_raw_parts(data, size) }.to_vec();
    }
    bytes.truncate(size);
    bytes
}

extern "C" fn on_translate(_id: u64, tb: *mut Tb) {
    // SAFETY: QEMU gave us the block in this callback.
    let count = unsafe { qemu_plugin_tb_n_insns(tb) };
    let mut insns = Vec::with_capacity(count);
    let mut instructions = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: `index` is below the number of instructions.
        let insn = unsafe { qemu_plugin_tb_get_insn(tb, index) };
        // SAFETY: it is an instruction of this block.
        let virt = unsafe { qemu_plugin_insn_vaddr(insn) };
        // SAFETY: the same.
        let host = unsafe { qemu_plugin_insn_haddr(insn) };
        insns.push(insn);
        instructions.push(Instruction {
            virt,
            // The host's address of the machine's memory: there is no other name for it here.
            phys: host.addr() as u64,
            bytes: bytes(insn),
        });
    }
    for (index, wanted) in crate::translate(&instructions) {
        let insn = insns[index];
        match wanted {
            Wanted::Marker(marker) => {
                let data = ptr::without_provenance_mut(marker as usize);
                // SAFETY: registers for an instruction of this block, whose data is no pointer.
                unsafe {
                    qemu_plugin_register_vcpu_insn_exec_cb(insn, on_marker, NO_REGISTERS, data);
                }
            }
            Wanted::Block(number) => {
                let data = ptr::without_provenance_mut(number);
                // SAFETY: the same.
                unsafe {
                    qemu_plugin_register_vcpu_insn_exec_cb(insn, on_execute, NO_REGISTERS, data);
                }
            }
            Wanted::Access => {
                let which = READS_AND_WRITES;
                let data = ptr::null_mut();
                // SAFETY: the same.
                unsafe {
                    qemu_plugin_register_vcpu_mem_cb(insn, on_access, NO_REGISTERS, which, data);
                }
            }
        }
    }
}

extern "C" fn on_marker(_cpu: c_uint, data: *mut c_void) {
    let Some(marker) = Marker::ALL.get(data.addr()) else {
        return;
    };
    if crate::marker(*marker) {
        // SAFETY: the number and the function are those of this plugin.
        unsafe { qemu_plugin_reset(ID.load(Ordering::Relaxed), on_reset) };
    }
}

extern "C" fn on_reset(id: u64) {
    crate::reset();
    // SAFETY: QEMU has removed the function; this is its plugin.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate) };
}

extern "C" fn on_execute(_cpu: c_uint, data: *mut c_void) {
    crate::execute(data.addr());
}

extern "C" fn on_access(_cpu: c_uint, info: u32, virt: u64, _data: *mut c_void) {
    // SAFETY: this is the callback of the access.
    let address = unsafe { qemu_plugin_get_hwaddr(info, virt) };
    // SAFETY: QEMU gave us the address in this callback; null is allowed.
    let io = unsafe { qemu_plugin_hwaddr_is_io(address) };
    if address.is_null() || io {
        // Devices are not cached.
        return;
    }
    // SAFETY: the same.
    let phys = unsafe { qemu_plugin_hwaddr_phys_addr(address) };
    // SAFETY: QEMU gave us the information in this callback.
    let bytes = 1 << unsafe { qemu_plugin_mem_size_shift(info) };
    // SAFETY: the same.
    let store = unsafe { qemu_plugin_mem_is_store(info) };
    crate::access(&Access {
        virt,
        phys,
        bytes,
        store,
    });
}

// The interface passes blocks' numbers as pointers.
const _: () = assert!(mem::size_of::<*mut c_void>() >= mem::size_of::<usize>());
