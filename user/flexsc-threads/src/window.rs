// SPDX-License-Identifier: MIT OR Apache-2.0
//! The window of a site: the instructions around a `syscall` that a jump to a stub replaces.
//!
//! Two shapes, in this order:
//!
//! 1. The window ends where the `syscall` begins: most sites load a constant into eax, which takes
//!    the five bytes of a jump. The `syscall` stays where it is, so that a call that must be made
//!    on the program's own stack is made at its own address.
//! 2. The window contains the `syscall`, and instructions on either side. The stub has a copy of
//!    the whole window.
//!
//! No jump may lead into a window except to its beginning, and only instructions that work the
//! same at another address are moved.

use alloc::vec::Vec;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// The length of a jump with a 32-bit displacement.
pub(crate) const JUMP: usize = 5;
/// How far a window can reach from its `syscall`: short instructions up to the length of a jump,
/// plus one of maximum length.
pub(crate) const REACH: usize = 24;

/// The instructions that a jump to a stub replaces.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Address of the `syscall` instruction.
    pub(crate) site: u64,
    /// Instructions before it, in order.
    pub(crate) before: Vec<Instruction>,
    /// Instructions behind it; empty if the `syscall` stays in place.
    pub(crate) after: Vec<Instruction>,
    /// True if the `syscall` is behind the window, not in it.
    pub(crate) is_in_place: bool,
}

impl Window {
    pub(crate) fn start(&self) -> u64 {
        self.before.first().map_or(self.site, Instruction::ip)
    }

    pub(crate) fn end(&self) -> u64 {
        if self.is_in_place {
            self.site
        } else {
            self.after
                .last()
                .map_or(self.site + 2, Instruction::next_ip)
        }
    }

    fn len(&self) -> usize {
        (self.end() - self.start()) as usize
    }

    /// The window of the instruction at `index`; None if there is none.
    ///
    /// `free` is the end of the previous site's window; `is_target` returns true if a jump leads to
    /// an address.
    pub(crate) fn choose(
        code: &[Instruction],
        index: usize,
        free: u64,
        is_target: impl Fn(u64) -> bool,
    ) -> Option<Self> {
        let site = code[index].ip();
        // How many preceding instructions can be in a window: those behind the last target.
        let mut before = 0;
        let mut starts = Vec::new();
        let mut is_reached = is_target(site);
        while !is_reached && before < index {
            let instruction = &code[index - before - 1];
            if !is_movable(instruction) || instruction.ip() < free {
                break;
            }
            before += 1;
            starts.push(instruction.ip());
            is_reached = is_target(instruction.ip());
            if site - instruction.ip() >= JUMP as u64 {
                break;
            }
        }
        let window = |before: usize, after: usize, is_in_place| Window {
            site,
            before: code[index - before..index].to_vec(),
            after: code[index + 1..=index + after].to_vec(),
            is_in_place,
        };
        if starts
            .last()
            .is_some_and(|start| site - start >= JUMP as u64)
        {
            return Some(window(before, 0, true));
        }
        let rest = &code[index + 1..];
        let after = rest
            .iter()
            .take_while(|next| is_movable(next) && !is_target(next.ip()))
            .count();
        (0..=after)
            .flat_map(|after| (0..=before).map(move |before| (before, after)))
            .map(|(before, after)| window(before, after, false))
            .filter(|window| window.len() >= JUMP)
            .min_by_key(Window::len)
    }
}

/// Returns true if an instruction works the same at another address: it neither jumps nor uses
/// the stack pointer except as an address.
fn is_movable(instruction: &Instruction) -> bool {
    use Mnemonic::{
        Adc, Add, And, Bswap, Bt, Cdqe, Cmova, Cmovae, Cmovb, Cmovbe, Cmove, Cmovg, Cmovge, Cmovl,
        Cmovle, Cmovne, Cmovns, Cmovs, Cmp, Dec, Imul, Inc, Lea, Mov, Movaps, Movd, Movdqa, Movdqu,
        Movq, Movsx, Movsxd, Movups, Movzx, Neg, Nop, Not, Or, Pxor, Sar, Sbb, Sete, Setne, Shl,
        Shr, Sub, Test, Xor, Xorps,
    };
    let is_known = matches!(
        instruction.mnemonic(),
        Adc | Add
            | And
            | Bswap
            | Bt
            | Cdqe
            | Cmova
            | Cmovae
            | Cmovb
            | Cmovbe
            | Cmove
            | Cmovg
            | Cmovge
            | Cmovl
            | Cmovle
            | Cmovne
            | Cmovns
            | Cmovs
            | Cmp
            | Dec
            | Imul
            | Inc
            | Lea
            | Mov
            | Movaps
            | Movd
            | Movdqa
            | Movdqu
            | Movq
            | Movsx
            | Movsxd
            | Movups
            | Movzx
            | Neg
            | Nop
            | Not
            | Or
            | Pxor
            | Sar
            | Sbb
            | Sete
            | Setne
            | Shl
            | Shr
            | Sub
            | Test
            | Xor
            | Xorps
    );
    let writes_stack_pointer = instruction.op_count() > 0
        && instruction.op0_kind() == OpKind::Register
        && matches!(
            instruction.op0_register(),
            Register::RSP | Register::ESP | Register::SP | Register::SPL
        );
    is_known && !writes_stack_pointer
}
