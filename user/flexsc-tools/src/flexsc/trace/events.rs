// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of the kernel's trace, and the posted calls that they tell of.

use std::collections::HashMap;

/// A line of the trace.
#[derive(Debug, PartialEq)]
pub struct Event<'a> {
    /// The thread that was running.
    pub tid: u32,
    /// Seconds.
    pub time: f64,
    pub name: &'a str,
    pub text: &'a str,
}

impl<'a> Event<'a> {
    /// Parses `NAME-TID [CPU] FLAGS TIME: EVENT: TEXT`. The name of a thread may contain
    /// anything.
    pub fn parse(line: &'a str) -> Option<Event<'a>> {
        line.match_indices(" [")
            .find_map(|(at, _)| Event::parse_at(&line[..at], &line[at + 2..]))
    }

    /// Parses a line whose name and thread are before the processor.
    fn parse_at(before: &'a str, after: &'a str) -> Option<Event<'a>> {
        let (_, tid) = before.trim_end().rsplit_once('-')?;
        let (_, rest) = after.split_once(']')?;
        let (head, rest) = rest.split_once(": ")?;
        let (name, text) = rest.split_once(": ")?;
        Some(Event {
            tid: tid.parse().ok()?,
            time: head.split_whitespace().next_back()?.parse().ok()?,
            name,
            text: text.trim_end(),
        })
    }

    /// The value of a field `name=value`.
    fn field(&self, name: &str) -> Option<i64> {
        let mut words = self.text.split(' ');
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        value.parse().ok()
    }

    /// The arguments of `NR 39 (a, b, c, d, e, f)`, which are hexadecimal, and the number.
    fn entered(&self) -> Option<(u32, [u64; 6])> {
        let (nr, args) = self.text.strip_prefix("NR ")?.split_once(" (")?;
        let mut words = args.trim_end_matches(')').split(", ");
        let mut all = [0; 6];
        for arg in &mut all {
            *arg = u64::from_str_radix(words.next()?, 16).ok()?;
        }
        Some((nr.parse().ok()?, all))
    }
}

/// How a posted call was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By its owner, in a wait.
    Owner,
    /// By a syscall thread.
    Thread(u32),
    /// Without a thread while it waited.
    Parked,
}

/// A call that has its result.
#[derive(Debug, PartialEq)]
pub struct Call {
    pub process: u32,
    /// The thread that has posted it.
    pub owner: u32,
    pub nr: u32,
    /// `None` if the kernel has not shown them.
    pub args: Option<[u64; 6]>,
    pub result: i64,
    pub by: By,
    /// True if a thread was blocked in it.
    pub blocked: bool,
    /// Seconds from its start to its result.
    pub took: f64,
}

/// A call that was started.
#[derive(Debug)]
struct Open {
    process: u32,
    tid: u32,
    nr: u32,
    begun: f64,
    args: Option<[u64; 6]>,
    parked: bool,
    blocked: bool,
}

/// The calls that were started and have no result yet, by owner and index.
#[derive(Debug)]
pub struct Calls {
    process: Option<u32>,
    open: HashMap<(u32, u32), Open>,
}

impl Calls {
    /// Notes calls of this process, or of all processes.
    pub fn new(process: Option<u32>) -> Self {
        Calls {
            process,
            open: HashMap::new(),
        }
    }

    /// Takes a line of the trace into account. Returns a call that has ended by it.
    pub fn note(&mut self, event: &Event<'_>) -> Option<Call> {
        match event.name {
            "flexsc_invoke" => self.begin(event)?,
            "sys_enter" => {
                let (nr, args) = event.entered()?;
                let open = self.of_thread(event.tid)?;
                if open.nr == nr && open.args.is_none() {
                    open.args = Some(args);
                }
            }
            "flexsc_block" => self.of_thread(event.tid)?.blocked = true,
            "flexsc_park" => {
                if !self.open.contains_key(&key(event)?) {
                    self.begin(event)?;
                }
                self.open.get_mut(&key(event)?)?.parked = true;
            }
            "flexsc_complete" => return self.end(event),
            _ => {}
        }
        None
    }

    fn begin(&mut self, event: &Event<'_>) -> Option<()> {
        let process = number(event, "tgid")?;
        if self.process.is_some_and(|wanted| wanted != process) {
            return None;
        }
        let key = key(event)?;
        let nr = number(event, "nr")?;
        // A parked call is started again when its file is ready.
        let before = self.open.remove(&key).filter(|open| open.nr == nr);
        let open = Open {
            process,
            tid: event.tid,
            nr,
            begun: before.as_ref().map_or(event.time, |open| open.begun),
            args: before.as_ref().and_then(|open| open.args),
            parked: before.as_ref().is_some_and(|open| open.parked),
            blocked: before.is_some_and(|open| open.blocked),
        };
        self.open.insert(key, open);
        Some(())
    }

    /// The call that this thread is executing: the one that it has started last.
    fn of_thread(&mut self, tid: u32) -> Option<&mut Open> {
        let of_thread = self.open.values_mut().filter(|open| open.tid == tid);
        of_thread.max_by(|one, other| one.begun.total_cmp(&other.begun))
    }

    /// The event of a result does not name the owner: it is a call with this index that this
    /// thread has started, or else any.
    fn end(&mut self, event: &Event<'_>) -> Option<Call> {
        let (nr, index) = (number(event, "nr")?, number(event, "index")?);
        let fits = |key: &(u32, u32), open: &Open| key.1 == index && open.nr == nr;
        let mut candidates = self.open.iter().filter(|(key, open)| fits(key, open));
        let own = self
            .open
            .iter()
            .find(|(key, open)| fits(key, open) && open.tid == event.tid);
        let (&key, _) = own.or_else(|| candidates.next())?;
        let open = self.open.remove(&key)?;
        Some(Call {
            process: open.process,
            owner: key.0,
            nr,
            args: open.args,
            result: event.field("result")?,
            by: if open.parked {
                By::Parked
            } else if open.tid == key.0 {
                By::Owner
            } else {
                By::Thread(open.tid)
            },
            blocked: open.blocked,
            took: event.time - open.begun,
        })
    }
}

fn number(event: &Event<'_>, name: &str) -> Option<u32> {
    u32::try_from(event.field(name)?).ok()
}

/// The owner and the index of a call.
fn key(event: &Event<'_>) -> Option<(u32, u32)> {
    Some((number(event, "owner")?, number(event, "index")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(log: &str, process: Option<u32>) -> Vec<Call> {
        let mut calls = Calls::new(process);
        let events = log.lines().filter_map(Event::parse);
        events.filter_map(|event| calls.note(&event)).collect()
    }

    const LOG: &str = "\
 a [1] b-7-100   [001] d..1.  10.000000: flexsc_invoke: nr=39 index=0 owner=100 tgid=99
 a [1] b-7-100   [001] d..1.  10.000010: sys_enter: NR 39 (1, 2, ff, 4, 5, 6)
          c-200  [000] d..1.  10.000011: flexsc_invoke: nr=0 index=1 owner=100 tgid=99
          c-200  [000] d..1.  10.000012: sys_enter: NR 0 (3, 7f00, 40, 0, 0, 0)
          c-200  [000] d..1.  10.000013: flexsc_block: nr=0 left=0 tgid=99
 a [1] b-7-100   [001] d..1.  10.000020: flexsc_complete: nr=39 index=0 result=98 tgid=99
          x-300  [000] .....  10.000030: sys_enter: NR 0 (9, 9, 9, 9, 9, 9)
          c-200  [000] d..1.  10.500011: flexsc_complete: nr=0 index=1 result=-4 tgid=99
";

    #[test]
    fn a_line_is_parsed_whatever_the_thread_is_called() {
        let event = Event::parse(LOG.lines().next().unwrap()).unwrap();
        assert_eq!(
            (event.tid, event.time, event.name),
            (100, 10.0, "flexsc_invoke")
        );
        assert_eq!(event.text, "nr=39 index=0 owner=100 tgid=99");
        for other in ["", "# a comment", "CPU:1 [LOST 5 EVENTS]", "a-1 [0] x"] {
            assert_eq!(Event::parse(other), None);
        }
    }

    #[test]
    fn events_become_calls() {
        let all = calls(LOG, Some(99));
        assert_eq!(all.len(), 2);
        let first = &all[0];
        assert_eq!((first.nr, first.result, first.by), (39, 98, By::Owner));
        assert_eq!(first.args, Some([1, 2, 255, 4, 5, 6]));
        let second = &all[1];
        assert_eq!((second.owner, second.result), (100, -4));
        assert_eq!((second.by, second.blocked), (By::Thread(200), true));
        assert!((second.took - 0.5).abs() < 1e-6);
        assert_eq!(calls(LOG, Some(98)), []);
        assert_eq!(calls(LOG, None).len(), 2);
    }

    #[test]
    fn a_parked_call_is_one_call() {
        let log = "\
 c-100  [000] d..1.  1.000000: flexsc_invoke: nr=0 index=5 owner=100 tgid=99
 c-100  [000] d..1.  1.000001: sys_enter: NR 0 (3, 7f00, 40, 0, 0, 0)
 c-100  [000] d..1.  1.000002: flexsc_park: nr=0 index=5 owner=100 tgid=99
 k-2    [000] d..1.  2.000000: flexsc_ready: nr=0 index=5 owner=100 tgid=99
 c-200  [000] d..1.  2.000001: flexsc_invoke: nr=0 index=5 owner=100 tgid=99
 k-2    [000] d..1.  2.000003: flexsc_complete: nr=0 index=5 result=64 tgid=2
";
        let all = calls(log, Some(99));
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].by, all[0].result), (By::Parked, 64));
        assert_eq!(all[0].args, Some([3, 0x7f00, 64, 0, 0, 0]));
        assert!((all[0].took - 1.0).abs() < 1e-3);
    }
}
