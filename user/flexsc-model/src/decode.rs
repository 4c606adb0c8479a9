// SPDX-License-Identifier: MIT OR Apache-2.0
//! The few properties of an x86-64 instruction that the model needs, from its bytes.

/// How an instruction passes on control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction.
    Next,
    /// To one of two places.
    Conditional,
    /// To a fixed place.
    Jump,
    /// To a fixed place, and a return follows.
    Call,
    /// To a place in a register or in memory.
    IndirectJump,
    /// The same, and a return follows.
    IndirectCall,
    /// Behind the last call.
    Return,
    /// `syscall`.
    Syscall,
    /// `sysret`.
    Sysret,
    /// `iret`.
    Iret,
}

/// Instructions that cost more than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// None of the others.
    None,
    /// An atomic read, modification and write of memory.
    Locked,
    /// `rep movs`, `rep stos` and the like.
    String,
    /// A write of CR3: another page table.
    WriteCr3,
    /// `wrmsr`.
    WriteMsr,
    /// Waits until earlier instructions have finished: `mfence`, `lfence`, `cpuid`, `rdtscp`.
    Serialise,
}

/// What the model knows about an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// How control goes on.
    pub flow: Flow,
    /// Whether the instruction is expensive.
    pub special: Special,
}

/// Looks at the bytes of one instruction in 64-bit mode. Unknown instructions are ordinary.
#[must_use]
pub fn decode(bytes: &[u8]) -> Decoded {
    let mut at = 0;
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let (mut lock, mut repeat) = (false, false);
    loop {
        match byte(at) {
            0xf0 => lock = true,
            0xf2 | 0xf3 => repeat = true,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 => {}
            _ => break,
        }
        at += 1;
    }
    if byte(at) & 0xf0 == 0x40 {
        at += 1;
    }
    let modrm = byte(at + 1);
    let (register, in_memory) = ((modrm >> 3) & 7, modrm >> 6 != 3);
    let (flow, mut special) = match byte(at) {
        0x0f => second(byte(at + 1), byte(at + 2)),
        0x70..=0x7f | 0xe0..=0xe3 => (Flow::Conditional, Special::None),
        0x86 | 0x87 if in_memory => (Flow::Next, Special::Locked),
        0xa4..=0xa7 | 0xaa..=0xaf if repeat => (Flow::Next, Special::String),
        0xc2 | 0xc3 => (Flow::Return, Special::None),
        0xcf => (Flow::Iret, Special::None),
        0xe8 => (Flow::Call, Special::None),
        0xe9 | 0xeb => (Flow::Jump, Special::None),
        0xff if register == 2 => (Flow::IndirectCall, Special::None),
        0xff if register == 4 => (Flow::IndirectJump, Special::None),
        _ => (Flow::Next, Special::None),
    };
    if lock {
        special = Special::Locked;
    }
    Decoded { flow, special }
}

/// Looks at an instruction whose opcode begins with 0f.
fn second(opcode: u8, modrm: u8) -> (Flow, Special) {
    let register = (modrm >> 3) & 7;
    match (opcode, modrm) {
        (0x05, _) => (Flow::Syscall, Special::None),
        (0x07, _) => (Flow::Sysret, Special::None),
        (0x22, _) if register == 3 => (Flow::Next, Special::WriteCr3),
        (0x30, _) => (Flow::Next, Special::WriteMsr),
        (0xa2, _) | (0x01, 0xf9) => (Flow::Next, Special::Serialise),
        // lfence and mfence; with an operand in memory these bytes mean something else.
        (0xae, 0xe8..=0xf7) => (Flow::Next, Special::Serialise),
        (0x80..=0x8f, _) => (Flow::Conditional, Special::None),
        _ => (Flow::Next, Special::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_told_apart() {
        for (bytes, flow, special) in [
            (&[0x90][..], Flow::Next, Special::None),
            (&[0x74, 0x02], Flow::Conditional, Special::None),
            (&[0x0f, 0x84, 0, 0, 0, 0], Flow::Conditional, Special::None),
            (&[0xe8, 0, 0, 0, 0], Flow::Call, Special::None),
            // notrack jmp *%rax, call *8(%rax), push 8(%rax)
            (&[0x3e, 0xff, 0xe0], Flow::IndirectJump, Special::None),
            (&[0xff, 0x50, 0x08], Flow::IndirectCall, Special::None),
            (&[0xff, 0x70, 0x08], Flow::Next, Special::None),
            (&[0xf3, 0xc3], Flow::Return, Special::None),
            (&[0x0f, 0x05], Flow::Syscall, Special::None),
            (&[0x48, 0x0f, 0x07], Flow::Sysret, Special::None),
            (&[0x48, 0xcf], Flow::Iret, Special::None),
            // lock xadd %eax,(%rdi); xchg %eax,(%rdi); xchg %eax,%edi
            (&[0xf0, 0x0f, 0xc1, 0x07], Flow::Next, Special::Locked),
            (&[0x87, 0x07], Flow::Next, Special::Locked),
            (&[0x87, 0xc7], Flow::Next, Special::None),
            // rep movsb, movsb
            (&[0xf3, 0xa4], Flow::Next, Special::String),
            (&[0xa4], Flow::Next, Special::None),
            // mov %rax,%cr3; mov %rax,%cr0
            (&[0x0f, 0x22, 0xd8], Flow::Next, Special::WriteCr3),
            (&[0x0f, 0x22, 0xc0], Flow::Next, Special::None),
            (&[0x0f, 0x30], Flow::Next, Special::WriteMsr),
            // mfence, lfence, sfence; fxsave (%rax)
            (&[0x0f, 0xae, 0xf0], Flow::Next, Special::Serialise),
            (&[0x0f, 0xae, 0xe8], Flow::Next, Special::Serialise),
            (&[0x0f, 0xae, 0xf8], Flow::Next, Special::None),
            (&[0x0f, 0xae, 0x00], Flow::Next, Special::None),
            (&[], Flow::Next, Special::None),
        ] {
            assert_eq!(decode(bytes), Decoded { flow, special }, "{bytes:02x?}");
        }
    }
}
