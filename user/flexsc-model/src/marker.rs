// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a program in the machine marks a region of interest: by instructions that do nothing.
//!
//! A marker is `nopl DISPLACEMENT(%rax)`: seven bytes that every x86-64 processor executes as one
//! instruction without an effect, in user mode, without a register or an access. The displacement
//! is [`MAGIC`] plus the number of the marker. `flexsc-bench run --mark` executes them.

/// The first three bytes of a marker.
pub const OPCODE: [u8; 3] = [0x0f, 0x1f, 0x80];

/// The displacement of marker 0. Compilers have no reason for such a displacement in a no-op.
pub const MAGIC: u32 = 0x1F5C_A700;

/// What a program says by a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The next bit of the label is 0. A label is text whose bytes are sent from the lowest bit on.
    Zero,
    /// The next bit of the label is 1.
    One,
    /// The region of the label begins.
    Start,
    /// The region ends.
    Stop,
    /// All caches and TLBs are filled with lines of a program that runs somewhere else.
    Prime,
    /// No region follows soon. The next label ends the pause.
    Pause,
}

impl Marker {
    /// All markers in the order of their numbers.
    pub const ALL: [Marker; 6] = [
        Marker::Zero,
        Marker::One,
        Marker::Start,
        Marker::Stop,
        Marker::Prime,
        Marker::Pause,
    ];

    /// Returns the displacement.
    #[must_use]
    pub fn displacement(self) -> u32 {
        MAGIC + self as u32
    }

    /// Returns the marker that these bytes of an instruction are.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Marker> {
        let displacement: [u8; 4] = bytes.strip_prefix(&OPCODE)?.try_into().ok()?;
        let number = u32::from_le_bytes(displacement).checked_sub(MAGIC)?;
        Marker::ALL.get(number as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_recognised() {
        for marker in Marker::ALL {
            let mut bytes = OPCODE.to_vec();
            bytes.extend(marker.displacement().to_le_bytes());
            assert_eq!(Marker::decode(&bytes), Some(marker));
            assert_eq!(Marker::decode(&bytes[..6]), None);
        }
        // What assemblers use to align code.
        assert_eq!(Marker::decode(&[0x0f, 0x1f, 0x80, 0, 0, 0, 0]), None);
        let after = MAGIC + Marker::ALL.len() as u32;
        let mut bytes = OPCODE.to_vec();
        bytes.extend(after.to_le_bytes());
        assert_eq!(Marker::decode(&bytes), None);
    }
}
