// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc stat`: the counters that the module shows in fdinfo, once or again and again.

use std::time::Duration;

use crate::engines::{Engine, Found, Trouble, find};
use crate::json;
use crate::out::{Out, complain};

/// What to print.
pub struct Options {
    /// The process, or all processes.
    pub pid: Option<u32>,
    /// A JSON object for each engine.
    pub json: bool,
    /// Seconds between two lines.
    pub interval: Option<Duration>,
    /// How many times; without it, until the process is interrupted.
    pub count: Option<u64>,
}

/// The columns of the table: a heading, and the counter that it shows.
const COLUMNS: [(&str, &str, Kind); 11] = [
    ("posted", "posted", Kind::Rate),
    ("inline", "inline_done", Kind::Rate),
    ("thread", "thread_done", Kind::Rate),
    ("parked", "parked", Kind::Rate),
    ("waits", "waits", Kind::Rate),
    ("sleeps", "sleeps", Kind::Rate),
    ("handoffs", "handoffs", Kind::Rate),
    ("refused", "refused", Kind::Rate),
    ("threads", "threads", Kind::Now),
    ("idle", "threads_idle", Kind::Now),
    ("pollers", "pollers", Kind::Now),
];

/// The meaning of a counter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It only grows: shown as its growth in a second.
    Rate,
    /// It is the present number.
    Now,
}

/// After so many lines the heading comes again.
const HEADING: u64 = 20;

/// Prints the counters. Returns true if there were any.
pub fn print(out: &mut Out, options: &Options) -> bool {
    let Some(interval) = options.interval else {
        return once(out, options);
    };
    let mut before = match look(options.pid) {
        Some(found) => found,
        None => return false,
    };
    let mut left = options.count.unwrap_or(u64::MAX);
    let mut lines = 0;
    while left > 0 && out.is_fine() {
        std::thread::sleep(interval);
        let Ok(found) = find(options.pid) else {
            // The process has ended.
            break;
        };
        for engine in &found.engines {
            let old = before
                .engines
                .iter()
                .find(|old| (old.pid, old.fd) == (engine.pid, engine.fd));
            if options.json {
                out.line(format_args!("{}", object(engine)));
                continue;
            }
            if lines % HEADING == 0 {
                out.line(format_args!("{}", heading()));
            }
            lines += 1;
            out.line(format_args!("{}", row(engine, old, interval)));
        }
        out.flush();
        before = found;
        left -= 1;
    }
    true
}

fn once(out: &mut Out, options: &Options) -> bool {
    let Some(found) = look(options.pid) else {
        return false;
    };
    for engine in &found.engines {
        if options.json {
            out.line(format_args!("{}", object(engine)));
        } else {
            show(out, engine);
        }
    }
    true
}

/// Finds engines, and complains if there are none.
fn look(pid: Option<u32>) -> Option<Found> {
    match find(pid) {
        Ok(found) if found.engines.is_empty() => {
            match pid {
                Some(pid) => complain(format_args!("process {pid} has no engine open")),
                None if found.hidden => complain(format_args!(
                    "no process has an engine open, among those that this user may see; try as root"
                )),
                None => complain(format_args!("no process has an engine open")),
            }
            None
        }
        Ok(found) => Some(found),
        Err(Trouble::NoProcess(pid)) => {
            complain(format_args!("there is no process {pid}"));
            None
        }
        Err(Trouble::Hidden(pid, why)) => {
            complain(format_args!(
                "cannot examine process {pid}: {why}; try as root"
            ));
            None
        }
        Err(Trouble::NoProc(why)) => {
            complain(format_args!("cannot read /proc: {why}"));
            None
        }
    }
}

fn heading() -> String {
    let mut line = format!("{:>7} {:>3}", "pid", "fd");
    for (name, _, _) in COLUMNS {
        line += &format!(" {name:>9}");
    }
    line
}

/// The line of an engine: rates in a second, and present numbers.
fn row(engine: &Engine, old: Option<&Engine>, interval: Duration) -> String {
    let mut line = format!("{:>7} {:>3}", engine.pid, engine.fd);
    for (_, counter, kind) in COLUMNS {
        let now = engine.counter(counter);
        let value = match (now, kind) {
            (Some(now), Kind::Now) => format!("{now}"),
            (Some(now), Kind::Rate) => {
                let then = old.and_then(|old| old.counter(counter)).unwrap_or(0);
                let rate = now.saturating_sub(then) as f64 / interval.as_secs_f64();
                format!("{rate:.0}")
            }
            (None, _) => "-".into(),
        };
        line += &format!(" {value:>9}");
    }
    line
}

/// Formats a line. Numbers are aligned; the line of a pool has words and numbers.
fn line(key: &str, value: &str) -> String {
    if value.contains(' ') {
        format!("  {key:<16} {value}")
    } else {
        format!("  {key:<16} {value:>12}")
    }
}

fn show(out: &mut Out, engine: &Engine) {
    let Engine { pid, name, fd, .. } = engine;
    out.line(format_args!("{pid} {name} fd {fd}"));
    for (key, value) in &engine.lines {
        out.line(format_args!("{}", line(key, value)));
    }
}

/// An engine as a JSON object: counters are numbers, the lines of pools objects.
fn object(engine: &Engine) -> String {
    let mut fields = vec![
        ("pid".to_owned(), engine.pid.to_string()),
        ("name".to_owned(), json::string(&engine.name)),
        ("fd".to_owned(), engine.fd.to_string()),
    ];
    for (key, value) in &engine.lines {
        fields.push((key.clone(), json_value(value)));
    }
    json::object(&fields)
}

/// A value: a number, or pairs of words and values.
fn json_value(value: &str) -> String {
    let words: Vec<&str> = value.split(' ').collect();
    if words.len() % 2 == 1 {
        return json::number_or_string(value);
    }
    let pairs: Vec<_> = words
        .chunks_exact(2)
        .map(|pair| (pair[0].to_owned(), json::number_or_string(pair[1])))
        .collect();
    json::object(&pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(lines: &[(&str, &str)]) -> Engine {
        let pair = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        Engine {
            pid: 12,
            name: "a \"name\"".into(),
            fd: 3,
            lines: lines.iter().map(pair).collect(),
        }
    }

    #[test]
    fn pools_and_lines_of_later_modules_are_shown_too() {
        let pool = line("pool-3", "cpus 0x3 nice 5 active 0/2");
        assert_eq!(pool, "  pool-3           cpus 0x3 nice 5 active 0/2");
        assert_eq!(line("new-thing", "7"), "  new-thing                   7");
    }

    #[test]
    fn a_row_has_rates_and_present_numbers() {
        let old = engine(&[("posted", "100"), ("threads", "5")]);
        let new = engine(&[("posted", "400"), ("threads", "2"), ("waits", "8")]);
        let row = row(&new, Some(&old), Duration::from_secs(2));
        let words: Vec<&str> = row.split_whitespace().collect();
        let heading = heading();
        let names: Vec<&str> = heading.split_whitespace().collect();
        assert_eq!(words.len(), names.len());
        let value = |name| words[names.iter().position(|other| *other == name).unwrap()];
        let shown = ["pid", "fd", "posted", "waits", "threads", "sleeps"].map(value);
        assert_eq!(shown, ["12", "3", "150", "4", "2", "-"]);
    }

    #[test]
    fn the_columns_are_counters_of_the_module() {
        let names: Vec<_> = flexsc::Stats::default()
            .fields()
            .map(|(name, _)| name)
            .collect();
        for (_, counter, _) in COLUMNS {
            assert!(names.contains(&counter), "{counter} in {names:?}");
        }
    }

    #[test]
    fn json_is_json() {
        let engine = engine(&[("posted", "64"), ("pool-0", "nice -5 cpus 0x3")]);
        assert_eq!(
            object(&engine),
            r#"{"pid":12,"name":"a \"name\"","fd":3,"posted":64,"pool-0":{"nice":-5,"cpus":"0x3"}}"#
        );
    }
}
