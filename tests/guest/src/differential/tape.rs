// SPDX-License-Identifier: MIT OR Apache-2.0
//! Passes traces and verdicts from a run to its test, through a file in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::run::{Counts, Difference, Step};
use crate::check::Check;
use crate::kit::files::memory_file;

/// The file.
pub struct Tape(File);

/// The report of the first run.
#[derive(Default)]
pub struct Trace {
    pub steps: Vec<Step>,
    pub state: String,
}

/// The report of the second run.
#[derive(Default)]
pub struct Verdict {
    pub difference: Option<Difference>,
    pub counts: Counts,
}

struct Reader {
    bytes: Vec<u8>,
    at: usize,
}

impl Reader {
    fn take(&mut self, len: usize) -> &[u8] {
        self.at += len;
        &self.bytes[self.at - len..self.at]
    }

    fn number(&mut self) -> i64 {
        i64::from_ne_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.number() as usize;
        self.take(len).to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

fn put(to: &mut Vec<u8>, number: i64) {
    to.extend_from_slice(&number.to_ne_bytes());
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put(to, bytes.len() as i64);
    to.extend_from_slice(bytes);
}

impl Tape {
    pub fn new() -> Check<Tape> {
        Ok(Tape(File::from(memory_file()?)))
    }

    fn write(&self, bytes: &[u8]) -> Check {
        ok!("length of the tape", self.0.set_len(0));
        ok!("write to the tape", self.0.write_all_at(bytes, 0));
        Ok(())
    }

    fn read(&self) -> Check<Reader> {
        let len = ok!("length of the tape", self.0.metadata()).len();
        let mut bytes = vec![0; len as usize];
        ok!("read of the tape", self.0.read_exact_at(&mut bytes, 0));
        Ok(Reader { bytes, at: 0 })
    }

    pub fn write_trace(&self, trace: &Trace) -> Check {
        let mut to = Vec::new();
        put(&mut to, trace.steps.len() as i64);
        for step in &trace.steps {
            put(&mut to, step.skipped.into());
            put(&mut to, step.result);
            put_bytes(&mut to, &step.out);
            put(&mut to, step.saved.len() as i64);
            step.saved.iter().for_each(|&value| put(&mut to, value));
        }
        put_bytes(&mut to, trace.state.as_bytes());
        self.write(&to)
    }

    pub fn read_trace(&self) -> Check<Trace> {
        let mut from = self.read()?;
        let steps = (0..from.number()).map(|_| Step {
            skipped: from.number() != 0,
            result: from.number(),
            out: from.bytes(),
            saved: (0..from.number()).map(|_| from.number()).collect(),
        });
        Ok(Trace {
            steps: steps.collect(),
            state: from.text(),
        })
    }

    pub fn write_verdict(&self, verdict: &Verdict) -> Check {
        let mut to = Vec::new();
        put(&mut to, verdict.difference.is_some().into());
        if let Some(difference) = &verdict.difference {
            put(&mut to, difference.at.map_or(-1, |at| at as i64));
            put_bytes(&mut to, difference.text.as_bytes());
        }
        put(&mut to, verdict.counts.posted as i64);
        put(&mut to, verdict.counts.refused as i64);
        let numbers: Vec<u8> = verdict.counts.numbers.iter().map(|&b| b.into()).collect();
        put_bytes(&mut to, &numbers);
        self.write(&to)
    }

    pub fn read_verdict(&self) -> Check<Verdict> {
        let mut from = self.read()?;
        let difference = (from.number() != 0).then(|| Difference {
            at: usize::try_from(from.number()).ok(),
            text: from.text(),
        });
        let counts = Counts {
            posted: from.number() as u64,
            refused: from.number() as u64,
            numbers: from.bytes().iter().map(|&byte| byte != 0).collect(),
        };
        Ok(Verdict { difference, counts })
    }
}
