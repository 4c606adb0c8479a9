// SPDX-License-Identifier: MIT OR Apache-2.0
//! The code of a stub.
//!
//! ```text
//!   0  the window's instructions before the syscall, so that they end at ENTER
//!  40  lea rsp, [rsp - 128]      keeps the red zone
//!  45  call the entry            ZF: make the call yourself
//!  50  lea rsp, [rsp + 128]
//!  58  jz the site's syscall     or, if it is in the window: jnz over a syscall
//!      the window's instructions behind the syscall
//!      jmp back
//! 112  address behind the site's syscall
//! 120  flags
//! ```
//!
//! All stubs have the same length and the same offsets, because one unwind entry describes them all
//! (`sys/entry.rs`).

use iced_x86::{Decoder, DecoderOptions, Instruction};

use crate::plan::{Object, Reason};
use crate::window::{JUMP, Window};

/// The length of a stub.
pub(crate) const LEN: usize = 128;
/// Offset at which the stub has left the red zone.
pub(crate) const ENTER: usize = 40;
/// Offset at which the stack pointer is that of the site again.
pub(crate) const LEAVE: usize = 58;
/// Offset of the address behind the site's `syscall`.
pub(crate) const RESUME: usize = 112;
/// Offset of the flags.
pub(crate) const FLAGS: usize = 120;
/// A flag: plain calls of this site are made at the site.
pub(crate) const AT_SITE: u8 = 1;

const LOWER: &[u8] = &[0x48, 0x8d, 0x64, 0x24, 0x80];
const RAISE: &[u8] = &[0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0];
const CALL: u8 = 0xe8;
const JMP: u8 = 0xe9;
const JZ: &[u8] = &[0x0f, 0x84];
const JNZ_OVER_SYSCALL: &[u8] = &[0x75, 2, 0x0f, 0x05];
const INT3: u8 = 0xcc;

/// Code that is being written.
struct Code {
    bytes: [u8; LEN],
    len: usize,
    /// The address at which it will be.
    address: u64,
}

impl Code {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let room = self.bytes[..RESUME].get_mut(self.len..self.len + bytes.len());
        room.ok_or(Reason::TooLong)?.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// Writes `opcode` and the displacement to `target`.
    fn push_jump(&mut self, opcode: &[u8], target: u64) -> Result<(), Reason> {
        self.push(opcode)?;
        let next = self.address + self.len as u64 + 4;
        self.push(&displacement(next, target)?)
    }

    fn push_moved(&mut self, object: &Object<'_>, moved: &Instruction) -> Result<(), Reason> {
        let range = moved.ip()..moved.next_ip();
        let old = object.code(range).ok_or(Reason::TooLong)?;
        let start = self.len;
        self.push(old)?;
        if moved.is_ip_rel_memory_operand() {
            let mut decoder = Decoder::with_ip(64, old, moved.ip(), DecoderOptions::NONE);
            let again = decoder.decode();
            let at = start + decoder.get_constant_offsets(&again).displacement_offset();
            let next = self.address + self.len as u64;
            let new = displacement(next, moved.ip_rel_memory_address())?;
            self.bytes[at..at + 4].copy_from_slice(&new);
        }
        Ok(())
    }
}

/// The displacement of an instruction that ends at `next`.
fn displacement(next: u64, target: u64) -> Result<[u8; 4], Reason> {
    let distance = target.wrapping_sub(next) as i64;
    let distance = i32::try_from(distance).map_err(|_| Reason::TooFar)?;
    Ok(distance.to_le_bytes())
}

/// The stub at `address` for a window.
pub(crate) fn stub(
    object: &Object<'_>,
    window: &Window,
    address: u64,
    entry: u64,
) -> Result<([u8; LEN], u64), Reason> {
    let mut code = Code {
        bytes: [INT3; LEN],
        len: 0,
        address,
    };
    let moved: usize = window.before.iter().map(Instruction::len).sum();
    code.len = ENTER.checked_sub(moved).ok_or(Reason::TooLong)?;
    let start = address + code.len as u64;
    for moved in &window.before {
        code.push_moved(object, moved)?;
    }
    code.push(LOWER)?;
    code.push_jump(&[CALL], entry)?;
    code.push(RAISE)?;
    if window.is_in_place {
        code.push_jump(JZ, window.site)?;
        code.push_jump(&[JMP], window.site + 2)?;
    } else {
        code.push(JNZ_OVER_SYSCALL)?;
        for moved in &window.after {
            code.push_moved(object, moved)?;
        }
        code.push_jump(&[JMP], window.end())?;
    }
    code.bytes[RESUME..RESUME + 8].copy_from_slice(&(window.site + 2).to_le_bytes());
    code.bytes[FLAGS] = if is_cancellation_point(object, window) {
        AT_SITE
    } else {
        0
    };
    Ok((code.bytes, start))
}

/// The bytes that replace a window: a jump to `start`, and traps that are never reached.
pub(crate) fn jump(window: &Window, start: u64) -> Result<([u8; 2 * 24], usize), Reason> {
    let mut bytes = [INT3; 48];
    let len = (window.end() - window.start()) as usize;
    bytes[0] = JMP;
    bytes[1..JUMP].copy_from_slice(&displacement(window.start() + JUMP as u64, start)?);
    if len > bytes.len() {
        return Err(Reason::TooLong);
    }
    Ok((bytes, len))
}

/// Returns true for the site of glibc 2.41's `__syscall_cancel_arch`. The signal handler that
/// cancels a thread compares the interrupted address with that site.
fn is_cancellation_point(object: &Object<'_>, window: &Window) -> bool {
    /// `mov [rsp + 8], r11; syscall; ret`
    const CODE: &[u8] = &[0x4c, 0x89, 0x5c, 0x24, 0x08, 0x0f, 0x05, 0xc3];
    let range = window.site.wrapping_sub(5)..window.site + 3;
    window.is_in_place && object.code(range) == Some(CODE)
}
