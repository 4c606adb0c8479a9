// SPDX-License-Identifier: MIT OR Apache-2.0
//! Feeds one trace to several processors, and writes their counts at the end of each region.

use std::io::{self, Write};

use crate::block::{Block, LINE};
use crate::branch::Branch;
use crate::counts::{Count, Counts, Label, Mode, Record};
use crate::decode::Flow;
use crate::marker::Marker;
use crate::processor::{Access, Processor};
use crate::variants::Variant;

/// The block that was executed last.
#[derive(Clone, Copy, Debug)]
struct Before {
    last: u64,
    end: u64,
    flow: Flow,
    string: bool,
    kernel: bool,
}

/// The consumer of a trace.
pub struct Tracer {
    blocks: Vec<Block>,
    variants: Vec<(String, Processor)>,
    /// What does not depend on the processor, by mode.
    common: [Counts; 2],
    before: Option<Before>,
    /// The virtual line of code that was fetched last.
    line: u64,
    mode: Mode,
    /// Bits of the next label.
    bits: Vec<bool>,
    /// No region follows soon: the trace is ignored.
    paused: bool,
    region: Option<Label>,
    out: Box<dyn Write + Send>,
}

impl Tracer {
    /// Makes a tracer for these processors, which writes CSV.
    ///
    /// # Errors
    ///
    /// The head of the CSV cannot be written.
    pub fn new(variants: &[Variant], mut out: Box<dyn Write + Send>) -> io::Result<Tracer> {
        writeln!(out, "{}", Record::header())?;
        out.flush()?;
        let make = |variant: &Variant| (variant.name.clone(), Processor::new(&variant.sizes));
        Ok(Tracer {
            blocks: Vec::new(),
            variants: variants.iter().map(make).collect(),
            common: Default::default(),
            before: None,
            line: u64::MAX,
            mode: Mode::User,
            bits: Vec::new(),
            paused: false,
            region: None,
            out,
        })
    }

    /// Adds a block that may be executed; returns its number.
    pub fn add_block(&mut self, block: Block) -> usize {
        self.blocks.push(block);
        self.blocks.len() - 1
    }

    /// The processor begins to execute a block. Unknown numbers are ignored.
    pub fn execute(&mut self, number: usize) {
        let Some(block) = self.blocks.get(number).filter(|_| !self.paused) else {
            return;
        };
        let mode = if block.is_kernel() {
            Mode::Kernel
        } else {
            Mode::User
        };
        self.mode = mode;
        if let Some(before) = self.before {
            if before.string && before.last == block.start && block.last == block.start {
                // One more step of an instruction that is counted already.
                self.common[mode as usize].add(Count::StringSteps, 1);
                return;
            }
            self.note_arrival(before, number);
        }
        let block = &self.blocks[number];
        self.common[mode as usize].add_all(&block.counts);
        if block.flow == Flow::Syscall {
            self.common[Mode::Kernel as usize].add(Count::Syscalls, 1);
        }
        self.before = Some(Before {
            last: block.last,
            end: block.end,
            flow: block.flow,
            string: block.string,
            kernel: block.is_kernel(),
        });
        let mut line = self.line;
        for &(virt, phys) in &block.lines {
            if line != virt >> LINE {
                line = virt >> LINE;
                for (_, processor) in &mut self.variants {
                    processor.fetch(mode, virt, phys);
                }
            }
        }
        self.line = line;
        if block.counts.get(Count::Cr3Writes) > 0 {
            for (_, processor) in &mut self.variants {
                processor.switch();
            }
        }
    }

    /// Control has come from the block before to this one.
    fn note_arrival(&mut self, before: Before, number: usize) {
        let block = &self.blocks[number];
        let kernel = block.is_kernel();
        let entered = kernel && !before.kernel;
        // An interrupt of the kernel is noticed at its end.
        if entered && before.flow != Flow::Syscall || kernel && before.flow == Flow::Iret {
            self.common[Mode::Kernel as usize].add(Count::Interrupts, 1);
        }
        let branches = matches!(
            before.flow,
            Flow::Conditional | Flow::Call | Flow::IndirectCall | Flow::IndirectJump | Flow::Return
        );
        // If the kernel was entered instead, the branch went nobody knows where.
        if !branches || entered {
            return;
        }
        let branch = Branch {
            at: before.last,
            next: before.end,
            target: block.start,
            flow: before.flow,
        };
        let mode = if before.kernel {
            Mode::Kernel
        } else {
            Mode::User
        };
        for (_, processor) in &mut self.variants {
            processor.branch(mode, &branch);
        }
    }

    /// The block accesses memory.
    pub fn access(&mut self, access: &Access) {
        if self.paused {
            return;
        }
        let count = if access.store {
            Count::Stores
        } else {
            Count::Loads
        };
        self.common[self.mode as usize].add(count, 1);
        for (_, processor) in &mut self.variants {
            processor.access(self.mode, access);
        }
    }

    /// The program executes a marker. Returns true if everything must be traced from now on.
    ///
    /// # Errors
    ///
    /// The counts cannot be written, or the markers make no sense.
    pub fn marker(&mut self, marker: Marker) -> io::Result<bool> {
        match marker {
            Marker::Zero | Marker::One => {
                self.bits.push(marker == Marker::One);
                self.paused = false;
            }
            Marker::Start => self.start()?,
            Marker::Stop => self.stop()?,
            Marker::Prime => {
                for (_, processor) in &mut self.variants {
                    processor.prime();
                }
            }
            Marker::Pause => {
                self.paused = true;
                self.before = None;
            }
        }
        Ok(!self.paused)
    }

    fn start(&mut self) -> io::Result<()> {
        let byte = |bits: &[bool]| {
            bits.iter()
                .rev()
                .fold(0, |byte, bit| (byte << 1) | u8::from(*bit))
        };
        let bytes: Vec<u8> = self.bits.chunks(8).map(byte).collect();
        self.bits.clear();
        let text = String::from_utf8_lossy(&bytes);
        let label = Label::parse(&text)
            .ok_or_else(|| io::Error::other(format!("'{text}' is no label of a region")))?;
        self.region = Some(label);
        self.common = Default::default();
        for (_, processor) in &mut self.variants {
            processor.begin();
        }
        Ok(())
    }

    fn stop(&mut self) -> io::Result<()> {
        let region = self.region.take();
        let label = region.ok_or_else(|| io::Error::other("a region ends that has not begun"))?;
        for (name, processor) in &mut self.variants {
            let own = processor.end();
            for mode in Mode::ALL {
                let mut counts = self.common[mode as usize].clone();
                counts.add_all(&own[mode as usize]);
                let record = Record {
                    label: label.clone(),
                    variant: name.clone(),
                    mode,
                    counts,
                };
                writeln!(self.out, "{record}")?;
            }
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::block::tests::block;
    use crate::params::tests::sizes;

    const KERNEL: u64 = 0xffff_ffff_8100_0000;

    /// What a tracer has written.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tracer() -> (Tracer, Shared) {
        let shared = Shared::default();
        let variant = Variant {
            name: "one".into(),
            sizes: sizes(),
        };
        let tracer = Tracer::new(&[variant], Box::new(shared.clone())).unwrap();
        (tracer, shared)
    }

    fn send(tracer: &mut Tracer, label: &str) {
        for byte in label.bytes() {
            for bit in 0..8 {
                let marker = if (byte >> bit) & 1 != 0 {
                    Marker::One
                } else {
                    Marker::Zero
                };
                assert!(tracer.marker(marker).unwrap());
            }
        }
    }

    /// The counts of user and kernel while `run` runs in a region.
    fn region(tracer: &mut Tracer, shared: &Shared, run: impl FnOnce(&mut Tracer)) -> [Counts; 2] {
        send(tracer, "calls,getppid,plain,1,1,5");
        tracer.marker(Marker::Start).unwrap();
        run(tracer);
        tracer.marker(Marker::Stop).unwrap();
        let text = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        let records: Vec<Record> = text.lines().filter_map(Record::parse).collect();
        let last = &records[records.len() - 2..];
        assert_eq!(last[0].label.to_string(), "calls,getppid,plain,1,1,5");
        assert_eq!((last[0].mode, last[1].mode), (Mode::User, Mode::Kernel));
        [last[0].counts.clone(), last[1].counts.clone()]
    }

    #[test]
    fn a_call_is_told_from_an_interrupt() {
        let (mut tracer, shared) = tracer();
        let call = tracer.add_block(block(0x1000, &[&[0x90], &[0x0f, 0x05]]));
        let work = tracer.add_block(block(KERNEL, &[&[0x90], &[0x48, 0x0f, 0x07]]));
        let after = tracer.add_block(block(0x1003, &[&[0x90], &[0xeb, 0x00]]));
        let handler = tracer.add_block(block(KERNEL + 64, &[&[0x90], &[0x48, 0xcf]]));
        let [user, kernel] = region(&mut tracer, &shared, |tracer| {
            // A call, an interrupt of the program, an interrupt of the kernel in a call.
            for number in [
                call, work, after, handler, after, call, work, handler, work, after,
            ] {
                tracer.execute(number);
            }
        });
        assert_eq!(user.get(Count::Instructions), 5 * 2);
        assert_eq!(kernel.get(Count::Instructions), 5 * 2);
        assert_eq!(
            (user.get(Count::Syscalls), kernel.get(Count::Syscalls)),
            (0, 2)
        );
        assert_eq!(kernel.get(Count::Interrupts), 2);
        assert_eq!(kernel.get(Count::Irets), 2);
        assert_eq!(kernel.get(Count::L1iMisses), 2);
    }

    #[test]
    fn steps_of_a_string_instruction_are_one_instruction() {
        let (mut tracer, shared) = tracer();
        let first = tracer.add_block(block(KERNEL, &[&[0x90], &[0xf3, 0xa4]]));
        let step = tracer.add_block(block(KERNEL + 1, &[&[0xf3, 0xa4]]));
        let after = tracer.add_block(block(KERNEL + 3, &[&[0x90]]));
        let [_, kernel] = region(&mut tracer, &shared, |tracer| {
            for number in [first, step, step, step, after] {
                tracer.execute(number);
            }
        });
        assert_eq!(kernel.get(Count::Instructions), 3);
        assert_eq!(kernel.get(Count::Strings), 1);
        assert_eq!(kernel.get(Count::StringSteps), 3);
    }

    #[test]
    fn a_branch_is_judged_by_the_block_that_follows() {
        let (mut tracer, shared) = tracer();
        let head = tracer.add_block(block(0x1000, &[&[0x75, 0x10]]));
        let missed = |tracer: &mut Tracer, next| {
            region(tracer, &shared, |tracer| {
                tracer.execute(head);
                tracer.execute(next);
            })[0]
                .get(Count::Mispredicts)
        };
        let falls = tracer.add_block(block(0x1002, &[&[0x90]]));
        let taken = tracer.add_block(block(0x1012, &[&[0x90]]));
        let kernel = tracer.add_block(block(KERNEL, &[&[0x90]]));
        // The predictor begins with "not taken".
        assert_eq!(missed(&mut tracer, falls), 0);
        assert_eq!(missed(&mut tracer, taken), 1);
        assert_eq!(missed(&mut tracer, kernel), 0);
    }

    #[test]
    fn accesses_belong_to_the_mode_of_their_block() {
        let (mut tracer, shared) = tracer();
        let work = tracer.add_block(block(KERNEL, &[&[0x90]]));
        let [user, kernel] = region(&mut tracer, &shared, |tracer| {
            tracer.execute(work);
            for store in [false, true, true] {
                tracer.access(&Access {
                    virt: 0x1000,
                    phys: 0x1000,
                    bytes: 8,
                    store,
                });
            }
        });
        assert_eq!(
            (kernel.get(Count::Loads), kernel.get(Count::Stores)),
            (1, 2)
        );
        assert_eq!(kernel.get(Count::L1dLoadMisses), 1);
        assert_eq!(kernel.get(Count::L1dStoreMisses), 0);
        assert_eq!(user, Counts::default());
    }

    #[test]
    fn markers_without_sense_are_errors() {
        let (mut tracer, _) = tracer();
        assert!(tracer.marker(Marker::Stop).is_err());
        send(&mut tracer, "short");
        assert!(tracer.marker(Marker::Start).is_err());
        assert!(tracer.marker(Marker::Stop).is_err());
    }

    #[test]
    fn nothing_is_counted_in_a_pause() {
        let (mut tracer, shared) = tracer();
        let work = tracer.add_block(block(KERNEL, &[&[0x90]]));
        let [_, kernel] = region(&mut tracer, &shared, |tracer| {
            assert!(!tracer.marker(Marker::Pause).unwrap());
            tracer.execute(work);
            tracer.access(&Access {
                virt: 0x1000,
                phys: 0x1000,
                bytes: 8,
                store: false,
            });
            // The next label ends the pause.
            send(tracer, "x");
            tracer.execute(work);
        });
        assert_eq!(
            (kernel.get(Count::Instructions), kernel.get(Count::Loads)),
            (1, 0)
        );
    }
}
