// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks that no wake-up of poll() or of an eventfd is lost, in all interleavings under the memory
//! model of a result that is published and a task that begins to wait. The steps of the publishing
//! side, and their order, are read from `kernel/pages/notify.rs`, `kernel/sys/notify.rs` and
//! `kernel/helpers/notify.c`.

use loom::sync::atomic::{fence, AtomicBool, Ordering};
use loom::sync::Arc;
use loom::thread;

const PAGES: &str = include_str!("../../../kernel/pages/notify.rs");
const SIGNAL: &str = include_str!("../../../kernel/sys/notify.rs");
const NOTIFY: &str = include_str!("../../../kernel/helpers/notify.c");

/// A step of the publishing side after it has written the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A full barrier.
    Barrier,
    /// A check whether a task waits, by poll() or by an eventfd.
    Look,
}

/// The text without comments.
fn bare(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("/*") {
        out.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    out + rest
}

/// The body of a function.
fn body<'a>(source: &'a str, function: &str) -> &'a str {
    let (_, rest) = source.split_once(function).expect("the function is there");
    let (_, rest) = rest.split_once("\n{\n").expect("it has a body");
    rest.split_once("\n}\n").expect("the body ends").0
}

/// The body of a method.
fn method<'a>(source: &'a str, name: &str) -> &'a str {
    let (_, rest) = source.split_once(name).expect("the method is there");
    let (_, rest) = rest.split_once("{\n").expect("it has a body");
    rest.split_once("\n    }\n").expect("the body ends").0
}

/// Returns the steps of a body up to `end`, in order: each access to the notifier counts as a look.
fn steps(body: &str, barrier: &str, look: &str, end: &str) -> Vec<Step> {
    let (known, _) = body.split_once(end).expect("it goes on");
    let mut found: Vec<(usize, Step)> = known
        .match_indices(barrier)
        .map(|(at, _)| (at, Step::Barrier))
        .chain(known.match_indices(look).map(|(at, _)| (at, Step::Look)))
        .collect();
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, step)| step).collect()
}

fn publishing() -> Vec<Step> {
    let mut all = steps(
        method(PAGES, "fn notify("),
        "full_barrier()",
        ".first(",
        ".signal(",
    );
    let in_rust = method(SIGNAL, "pub(crate) fn signal(");
    all.extend(steps(
        in_rust,
        "full_barrier()",
        ".load(",
        "c::flexsc_notifier_signal(",
    ));
    let in_c = bare(NOTIFY);
    let in_c = body(&in_c, "void flexsc_notifier_signal(");
    all.extend(steps(in_c, "smp_mb()", "n->", "irq_work_queue"));
    all
}

/// Models one result and one waiter: the waiter sees the result, or each look sees the waiter.
fn explore(steps: Vec<Step>) {
    loom::model(move || {
        let (result, waits) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let (publishes, looks_at, steps) = (result.clone(), waits.clone(), steps.clone());
        let publisher = thread::spawn(move || {
            publishes.store(true, Ordering::Relaxed);
            let mut wakes = true;
            for step in steps {
                match step {
                    Step::Barrier => fence(Ordering::SeqCst),
                    // The weakest guarantee: all looks must find the waiter.
                    Step::Look => wakes &= looks_at.load(Ordering::Relaxed),
                }
            }
            wakes
        });
        // poll_wait() and set_eventfd: the waiter is registered before it looks at the results.
        waits.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let sees = result.load(Ordering::Relaxed);
        let woken = publisher.join().expect("no panic");
        assert!(sees || woken, "the wake-up is lost");
    });
}

#[test]
fn order_of_the_source_loses_nothing() {
    let steps = publishing();
    let looks = steps.iter().filter(|step| **step == Step::Look).count();
    // Rust checks whether any task has ever waited, C whether one waits now.
    assert!(looks >= 3, "{steps:?}");
    explore(steps);
}

#[test]
#[should_panic(expected = "the wake-up is lost")]
fn a_look_before_the_barrier_loses_one() {
    explore(vec![Step::Look, Step::Barrier, Step::Look]);
}

#[test]
#[should_panic(expected = "the wake-up is lost")]
fn no_barrier_loses_one() {
    explore(vec![Step::Look]);
}

#[test]
fn whoever_waits_is_known_before_it_looks() {
    let source = bare(NOTIFY);
    // poll_wait() has the barrier itself.
    let set = body(&source, "int flexsc_notifier_set_eventfd(");
    let at = |what: &str| set.find(what).unwrap_or_else(|| panic!("no {what}"));
    assert!(at("WRITE_ONCE(n->eventfd") < at("smp_mb()"));
    assert!(at("WRITE_ONCE(n->watched") < at("smp_mb()"));
    let poll = body(&source, "void flexsc_notifier_poll(");
    let at = |what: &str| poll.find(what).unwrap_or_else(|| panic!("no {what}"));
    assert!(at("WRITE_ONCE(n->watched") < at("poll_wait("));
}
