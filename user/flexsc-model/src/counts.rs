// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is counted, and its CSV.

use std::fmt;

macro_rules! counts {
    ($($(#[$about:meta])* $name:ident = $text:literal,)*) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Count { $($(#[$about])* $name,)* }

        impl Count {
            /// All, in the order of the columns.
            pub const ALL: &[Count] = &[$(Count::$name,)*];

            /// The name of the column.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Count::$name => $text,)* }
            }
        }
    };
}

counts! {
    /// Instructions. A string instruction counts once.
    Instructions = "instructions",
    /// Further steps of string instructions, which `-icount` counts as instructions.
    StringSteps = "string_steps",
    /// String instructions.
    Strings = "strings",
    /// Accesses that read.
    Loads = "loads",
    /// Accesses that write.
    Stores = "stores",
    /// Atomic read-modify-write instructions.
    Locked = "locked",
    /// Switches of page tables.
    Cr3Writes = "cr3_writes",
    /// Writes of model-specific registers.
    MsrWrites = "msr_writes",
    /// Fences and other instructions that wait for the earlier ones.
    Serialising = "serialising",
    /// `syscall` instructions: ways into the kernel, whose counts have them.
    Syscalls = "syscalls",
    /// `sysret` instructions: ways back.
    Sysrets = "sysrets",
    /// Interrupts and exceptions.
    Interrupts = "interrupts",
    /// `iret` instructions: ways back from interrupts, exceptions and some system calls.
    Irets = "irets",
    /// Conditional branches.
    Conditionals = "conditionals",
    /// Indirect jumps and calls.
    Indirects = "indirects",
    /// Returns.
    Returns = "returns",
    /// Lines of code that were not in the first level.
    L1iMisses = "l1i_misses",
    /// Lines read that were not in the first level.
    L1dLoadMisses = "l1d_load_misses",
    /// Lines written that were not in the first level.
    L1dStoreMisses = "l1d_store_misses",
    /// Of the lines of code, those that were not in the second level either.
    L2CodeMisses = "l2_code_misses",
    /// The same, of lines read.
    L2LoadMisses = "l2_load_misses",
    /// The same, of lines written.
    L2StoreMisses = "l2_store_misses",
    /// Of the lines of code, those that were in no cache.
    L3CodeMisses = "l3_code_misses",
    /// The same, of lines read.
    L3LoadMisses = "l3_load_misses",
    /// The same, of lines written.
    L3StoreMisses = "l3_store_misses",
    /// Translations of code that the first level did not have.
    ItlbMisses = "itlb_misses",
    /// Translations of data that the first level did not have.
    DtlbMisses = "dtlb_misses",
    /// Of the translations of code, those that the second level did not have.
    CodeWalks = "code_walks",
    /// The same, of data.
    DataWalks = "data_walks",
    /// Branches of all kinds that were not predicted.
    Mispredicts = "mispredicts",
    /// Primed lines that were replaced, by program and kernel; the kernel's counts have them.
    EvictedL1i = "evicted_l1i",
    /// The same, of data.
    EvictedL1d = "evicted_l1d",
    /// The same, in the second level.
    EvictedL2 = "evicted_l2",
    /// The same, in the third level.
    EvictedL3 = "evicted_l3",
    /// The same, of translations of data.
    EvictedDtlb = "evicted_dtlb",
}

/// A number for each [`Count`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts([u64; Count::ALL.len()]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([0; Count::ALL.len()])
    }
}

impl Counts {
    /// Returns one number.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// Adds to one number.
    pub fn add(&mut self, count: Count, more: u64) {
        self.0[count as usize] += more;
    }

    /// Adds all numbers of others.
    pub fn add_all(&mut self, others: &Counts) {
        for (mine, other) in self.0.iter_mut().zip(&others.0) {
            *mine += other;
        }
    }

    /// Returns the sum of some numbers.
    #[must_use]
    pub fn sum(&self, counts: &[Count]) -> u64 {
        counts.iter().map(|count| self.get(*count)).sum()
    }
}

/// Who executed the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The program.
    User,
    /// The kernel.
    Kernel,
}

impl Mode {
    /// Both, in the order of their numbers.
    pub const ALL: [Mode; 2] = [Mode::User, Mode::Kernel];

    /// The name in the CSV.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::User => "user",
            Mode::Kernel => "kernel",
        }
    }
}

/// What a region is about, as its program says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The suite.
    pub suite: String,
    /// The operation.
    pub op: String,
    /// How calls are made.
    pub backend: String,
    /// Processors of the machine.
    pub cpus: usize,
    /// Calls at a time.
    pub batch: usize,
    /// Calls in the region.
    pub calls: u64,
}

impl Label {
    /// Parses what [`Label`] prints.
    #[must_use]
    pub fn parse(text: &str) -> Option<Label> {
        let mut fields = text.split(',');
        let mut next = || fields.next().filter(|field| !field.is_empty());
        let label = Label {
            suite: next()?.to_owned(),
            op: next()?.to_owned(),
            backend: next()?.to_owned(),
            cpus: next()?.parse().ok()?,
            batch: next()?.parse().ok()?,
            calls: next()?.parse().ok().filter(|calls| *calls > 0)?,
        };
        fields.next().is_none().then_some(label)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Label {
            suite,
            op,
            backend,
            cpus,
            batch,
            calls,
        } = self;
        write!(f, "{suite},{op},{backend},{cpus},{batch},{calls}")
    }
}

/// The counts of one region, for one processor and one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The region.
    pub label: Label,
    /// The sizes of the processor's structures: see [`crate::variants`].
    pub variant: String,
    /// Who executed the instructions.
    pub mode: Mode,
    /// The counts.
    pub counts: Counts,
}

impl Record {
    /// Returns the first line of the CSV.
    #[must_use]
    pub fn header() -> String {
        let columns: Vec<&str> = Count::ALL.iter().map(|count| count.name()).collect();
        format!(
            "suite,op,backend,cpus,batch,calls,variant,mode,{}",
            columns.join(",")
        )
    }

    /// Parses a line of the CSV. Returns `None` for the header and for anything else.
    #[must_use]
    pub fn parse(line: &str) -> Option<Record> {
        let fields: Vec<&str> = line.trim_end().split(',').collect();
        let (label, rest) = fields.split_at_checked(6)?;
        let [variant, mode, numbers @ ..] = rest else {
            return None;
        };
        let numbers: Option<Vec<u64>> = numbers.iter().map(|number| number.parse().ok()).collect();
        Some(Record {
            label: Label::parse(&label.join(","))?,
            variant: (*variant).to_owned(),
            mode: Mode::ALL.into_iter().find(|known| known.name() == *mode)?,
            counts: Counts(numbers?.try_into().ok()?),
        })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.label, self.variant, self.mode.name())?;
        for number in self.counts.0 {
            write!(f, ",{number}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_csv() {
        let mut record = Record {
            label: Label::parse("calls,getppid,plain,1,64,1024").unwrap(),
            variant: "nehalem".into(),
            mode: Mode::Kernel,
            counts: Counts::default(),
        };
        record.counts.add(Count::Instructions, 7);
        record.counts.add(Count::EvictedDtlb, 9);
        let line = record.to_string();
        assert_eq!(Record::parse(&line), Some(record));
        assert_eq!(line.split(',').count(), Record::header().split(',').count());
        assert_eq!(Record::parse(&Record::header()), None);
        assert_eq!(Record::parse(&format!("{line},1")), None);
    }

    #[test]
    fn labels_that_say_too_little_are_refused() {
        for wrong in [
            "",
            "a,b,c,1,2",
            "a,b,c,1,2,0",
            "a,b,c,1,x,3",
            "a,b,c,1,2,3,4",
            "a,,c,1,2,3",
        ] {
            assert_eq!(Label::parse(wrong), None, "{wrong}");
        }
    }
}
