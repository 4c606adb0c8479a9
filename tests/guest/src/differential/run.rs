// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a sequence: plainly, to get a trace, or through pages, to compare with the trace.

use std::fmt;

use super::normal::{Norm, Own};
use super::op::{Op, Place, REGS, Ret, Val};
use super::sandbox::{Sandbox, Wants};
use super::state;
use crate::check::{self, Check};
use crate::kit::abi::{REASON_CHAIN, REASON_GUARDED, REASON_NONE, REASON_THREAD};
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Done, Ring, linked};
use crate::kit::sys;

/// How calls are made in the second run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Plainly once more, to show that the comparison is fair.
    Plain,
    /// From pages.
    Paged(Mode),
    /// From pages, up to eight calls in a chain, by the waiting owner.
    Chain,
    /// From pages, by the threads of a pool of its own.
    Pool,
}

/// A planted mistake in the second run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The result of a call with this number is larger by one.
    Result(i64),
    /// One byte that a call with this number has written is changed.
    Byte(i64),
    /// A call with this number is not made at all; its results are right.
    Lost(i64),
    /// A call with this number is made twice.
    Twice(i64),
}

/// The effects of one call, normalised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Not made, because it might have blocked.
    pub skipped: bool,
    pub result: i64,
    pub out: Vec<u8>,
    /// Values for the registers.
    pub saved: Vec<i64>,
}

impl Step {
    /// The call was made and has succeeded.
    pub fn is_good(&self) -> bool {
        !self.skipped && !(-4095..0).contains(&self.result)
    }
}

/// A call that is ready to be made.
struct Ready {
    call: Call,
    bufs: Vec<Vec<u8>>,
}

type Regs = [i64; REGS];

fn resolve(val: Val, regs: &Regs, bufs: &mut [Vec<u8>], sandbox: &Sandbox) -> u64 {
    match val {
        Val::Num(number) => number,
        Val::Reg(reg) => regs[usize::from(reg)] as u64,
        Val::Mem(offset) => sandbox.arena as u64 + offset,
        Val::Buf(index) => bufs[usize::from(index)].as_mut_ptr() as u64,
        Val::Pid => sandbox.own.pid.into(),
    }
}

fn ready(op: &Op, regs: &Regs, sandbox: &Sandbox) -> Ready {
    let mut bufs: Vec<Vec<u8>> = op.bufs.iter().map(|buf| buf.data.clone()).collect();
    for (index, flat) in op.bufs.iter().enumerate() {
        for &(at, size, val) in &flat.fields {
            let word = resolve(val, regs, &mut bufs, sandbox).to_ne_bytes();
            bufs[index][at..at + size].copy_from_slice(&word[..size]);
        }
    }
    let args = op.args.map(|arg| resolve(arg, regs, &mut bufs, sandbox));
    let call = Call::new(op.nr as u16, args);
    Ready { call, bufs }
}

/// Takes the effects of a call from its result and its buffers.
fn step(op: &Op, mut ready: Ready, result: i64, own: &Own) -> Step {
    let good = !(-4095..0).contains(&result);
    let saved = op.saves.iter().map(|&(_, place)| match place {
        Place::Result => result,
        Place::Word(buf, at) if good => {
            let word = ready.bufs[buf][at..at + 4].try_into();
            i32::from_ne_bytes(word.expect("four bytes")).into()
        }
        Place::Word(..) | Place::Gone => -1,
    });
    let saved = saved.collect();
    let mut out = Vec::new();
    for (flat, bytes) in op.bufs.iter().zip(&mut ready.bufs) {
        if flat.norm == Norm::Input {
            continue;
        }
        for &(at, size, val) in &flat.fields {
            // An address of this run.
            if matches!(val, Val::Buf(_)) {
                bytes[at..at + size].fill(0);
            }
        }
        // select() and the like write the remaining time even if they fail.
        if good || flat.norm == Norm::Nothing {
            own.normalise(flat.norm, bytes);
        }
        out.extend_from_slice(bytes);
    }
    let result = match op.ret {
        Ret::Success if good => 0,
        Ret::Pid if result == i64::from(own.pid) => -i64::from(u32::MAX),
        _ => result,
    };
    Step {
        skipped: false,
        result,
        out,
        saved,
    }
}

fn save(op: &Op, step: &Step, regs: &mut Regs) {
    for (&(reg, _), &value) in op.saves.iter().zip(&step.saved) {
        regs[usize::from(reg)] = value;
    }
}

fn may_block(op: &Op, regs: &Regs) -> bool {
    op.guards.iter().any(|&(fd, events)| {
        let fd = match fd {
            Val::Reg(reg) => regs[usize::from(reg)] as i32,
            _ => -1,
        };
        let mut poll = libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        let at = std::ptr::from_mut(&mut poll);
        fd >= 0 && plain!(SYS_poll, at, 1, 0) == 0
    })
}

/// Makes all calls plainly.
pub fn plain_run(ops: &[Op], sandbox: &Sandbox) -> Vec<Step> {
    let mut regs = [-1; REGS];
    let mut steps = Vec::with_capacity(ops.len());
    for (index, op) in ops.iter().enumerate() {
        sandbox.progress(index);
        if may_block(op, &regs) {
            steps.push(Step {
                skipped: true,
                ..Step::default()
            });
            continue;
        }
        let ready = ready(op, &regs, sandbox);
        let result = sys::syscall(op.nr, ready.call.args);
        let step = step(op, ready, result, &sandbox.own);
        save(op, &step, &mut regs);
        steps.push(step);
    }
    steps
}

/// A difference between the runs.
#[derive(Debug)]
pub struct Difference {
    /// The call, or `None` if only the state after the last call shows the difference.
    pub at: Option<usize>,
    pub text: String,
}

/// Counts of the second run.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Calls made from pages.
    pub posted: u64,
    /// Calls refused, and then made plainly.
    pub refused: u64,
    /// Numbers of calls made from pages.
    pub numbers: Vec<bool>,
}

/// A second run.
pub struct Second<'a> {
    pub ops: &'a [Op],
    pub steps: &'a [Step],
    pub sandbox: &'a Sandbox<'a>,
    pub wants: Wants,
    pub way: Way,
    pub plant: Option<Plant>,
    pub counts: Counts,
}

/// Calls of a chain, and calls without effect that are posted together.
const GROUP: usize = 8;

impl Second<'_> {
    /// Makes the calls again and compares each with the trace.
    ///
    /// `ring` is `None` if all calls are made plainly and there is no module.
    pub fn run(&mut self, mut ring: Option<&mut Ring>) -> Check<Option<Difference>> {
        self.counts.numbers = vec![false; 1024];
        let mut regs = [-1; REGS];
        let mut at = 0;
        while at < self.ops.len() {
            self.sandbox.progress(at);
            if self.steps[at].skipped {
                at += 1;
                continue;
            }
            let group = self.group(at);
            let mut all = Vec::with_capacity(group.len());
            for &index in &group {
                all.push(ready(&self.ops[index], &regs, self.sandbox));
                save(&self.ops[index], &self.steps[index], &mut regs);
            }
            let done = self.make(ring.as_deref_mut(), &group, &all)?;
            for ((&index, ready), done) in group.iter().zip(all).zip(done) {
                if let Some(text) = self.compare(index, ready, done) {
                    return Ok(Some(Difference {
                        at: Some(index),
                        text,
                    }));
                }
            }
            at = group[group.len() - 1] + 1;
        }
        Ok(None)
    }

    /// The calls from `at` on that are posted together.
    fn group(&self, at: usize) -> Vec<usize> {
        let mut group = vec![at];
        for index in at + 1..self.ops.len().min(at + GROUP) {
            let together = match self.way {
                Way::Plain => false,
                Way::Chain => true,
                _ => self.ops[at].pure && self.ops[index].pure,
            };
            if !together {
                break;
            }
            if !self.steps[index].skipped {
                group.push(index);
            }
        }
        group
    }

    fn make(
        &mut self,
        ring: Option<&mut Ring>,
        group: &[usize],
        all: &[Ready],
    ) -> Check<Vec<Done>> {
        if let Some(done) = self.lose(group[0]) {
            return Ok(vec![done]);
        }
        let each = group.iter().zip(all);
        match (self.way, ring) {
            (Way::Plain, _) | (_, None) => Ok(each
                .map(|(&index, ready)| self.make_plainly(index, ready))
                .collect()),
            (Way::Chain, Some(ring)) => self.make_chain(ring, group, all),
            (_, Some(ring)) => {
                let calls = all.iter().map(|ready| self.posted(ready));
                let slots = ring.post_all(&calls.collect::<Vec<_>>());
                let done = ring.finish(&slots)?;
                let done = group.iter().zip(all).zip(done);
                Ok(done
                    .map(|((&index, ready), done)| {
                        self.settle(index, ready, done, group.len() == 1)
                    })
                    .collect())
            }
        }
    }

    fn posted(&self, ready: &Ready) -> Call {
        Call {
            pool: u8::from(self.way == Way::Pool),
            ..ready.call
        }
    }

    /// A chain ends with the first call that fails: the rest is posted as another one.
    fn make_chain(&mut self, ring: &mut Ring, group: &[usize], all: &[Ready]) -> Check<Vec<Done>> {
        let mut made = Vec::new();
        while made.len() < group.len() {
            let rest = made.len();
            let mut calls: Vec<Call> = all[rest..].iter().map(|ready| ready.call).collect();
            let last = calls.len() - 1;
            for call in &mut calls[..last] {
                *call = linked(*call);
            }
            let slots = ring.post_all(&calls);
            let done = ring.finish(&slots)?;
            let broken = done.iter().position(|done| done.reason == REASON_CHAIN);
            let count = broken.unwrap_or(done.len());
            check!(count != 0, "the first call of a chain was not made");
            if broken.is_some() {
                let why = done[count - 1].result;
                check!(why < 0, "a chain ends behind a call that gave {why}");
            }
            for (offset, done) in done.into_iter().take(count).enumerate() {
                let place = rest + offset;
                let done = self.settle(group[place], &all[place], done, calls.len() == 1);
                made.push(done);
            }
        }
        Ok(made)
    }

    fn make_plainly(&self, index: usize, ready: &Ready) -> Done {
        Done {
            slot: 0,
            result: sys::syscall(self.ops[index].nr, ready.call.args),
            reason: REASON_NONE,
        }
    }

    /// A call that was refused is made plainly, as a program would do.
    ///
    /// The owner refuses no call that it can make itself. But the entries behind a call that blocks
    /// no longer belong to the owner.
    fn settle(&mut self, index: usize, ready: &Ready, done: Done, alone: bool) -> Done {
        let op = &self.ops[index];
        if done.reason == REASON_GUARDED && self.wants.denies(op.nr) {
            self.counts.refused += 1;
            return self.make_plainly(index, ready);
        }
        let inline = self.way == Way::Paged(Mode::Inline) || self.way == Way::Chain;
        let may = op.own && (op.refused || !inline || !alone);
        if done.reason == REASON_THREAD && may {
            self.counts.refused += 1;
            return self.make_plainly(index, ready);
        }
        self.counts.posted += 1;
        self.counts.numbers[op.nr as usize] = true;
        if self.plant == Some(Plant::Twice(op.nr)) {
            sys::syscall(op.nr, ready.call.args);
        }
        done
    }

    /// The planted loss of a call.
    fn lose(&self, index: usize) -> Option<Done> {
        let op = &self.ops[index];
        (self.plant == Some(Plant::Lost(op.nr)) && op.bufs.iter().all(|b| b.norm == Norm::Input))
            .then_some(Done {
                slot: 0,
                result: self.steps[index].result,
                reason: REASON_NONE,
            })
    }

    /// The state after the whole sequence.
    pub fn compare_state(&self, want: &str) -> Option<Difference> {
        let text = state::first_difference(&state::of(self.sandbox), want)?;
        Some(Difference { at: None, text })
    }

    fn compare(&self, index: usize, ready: Ready, done: Done) -> Option<String> {
        let (op, want) = (&self.ops[index], &self.steps[index]);
        let result = done.result + i64::from(self.plant == Some(Plant::Result(op.nr)));
        let mut got = step(op, ready, result, &self.sandbox.own);
        if self.plant == Some(Plant::Byte(op.nr)) {
            if let Some(byte) = got.out.first_mut() {
                *byte ^= 0x10;
            }
        }
        if done.reason == REASON_NONE && got == *want {
            return None;
        }
        let mut text = format!("call {index}, {op}, gave {}", Outcome(got.result));
        if done.reason != REASON_NONE {
            text += &format!(" with reason {}", done.reason);
        }
        text += &format!(", plainly {}", Outcome(want.result));
        if got.out != want.out {
            let place = got.out.iter().zip(&want.out).position(|(a, b)| a != b);
            let from = place.unwrap_or(0) & !15;
            let part = |bytes: &[u8]| format!("{:02x?}", &bytes[from..bytes.len().min(from + 32)]);
            text += &format!(
                "; it wrote, at byte {from}, {}, plainly {}",
                part(&got.out),
                part(&want.out)
            );
        }
        Some(text)
    }
}

/// A result, normalised or not.
struct Outcome(i64);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == -i64::from(u32::MAX) {
            write!(f, "the process's own ID")
        } else {
            write!(f, "{}", check::Ret(self.0))
        }
    }
}
