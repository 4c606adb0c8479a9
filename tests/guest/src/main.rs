// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest tests of FlexSC: `flexsc-tests run NAME` runs one of them.
//!
//! Exit code 0: passed, 77: skipped, everything else: failed.

#[macro_use]
mod check;
#[macro_use]
mod registry;
#[macro_use]
mod kit;
mod abi;
mod blocking;
mod calls;
mod cancel;
mod chains;
mod checks;
mod differential;
mod ends;
mod entries;
mod fair;
mod faults;
mod guard;
mod hostile;
mod lasting;
mod library;
mod life;
mod module;
mod notify;
mod notify_first;
mod notify_own;
mod park;
mod poller;
mod pools;
mod retiring;
mod soak;
mod specialise;
mod starving;
mod supervise;
mod tools;
mod tries;

use std::process::exit;
use std::sync::atomic::Ordering;

const GROUPS: &[&[registry::Test]] = &[
    abi::register::TESTS,
    abi::mapping::TESTS,
    abi::ioctls::TESTS,
    abi::params::TESTS,
    entries::states::TESTS,
    entries::refused::TESTS,
    calls::identity::TESTS,
    calls::files::TESTS,
    calls::events::TESTS,
    calls::signals::TESTS,
    calls::results::TESTS,
    tries::ready::TESTS,
    tries::waiting::TESTS,
    tries::sends::TESTS,
    tries::seen::TESTS,
    park::away::TESTS,
    park::calls::TESTS,
    park::one_of_many::TESTS,
    park::once::TESTS,
    park::nothing::TESTS,
    park::sends::TESTS,
    park::parts::TESTS,
    park::room::TESTS,
    park::polls::TESTS,
    park::meanwhile::TESTS,
    park::races::TESTS,
    park::sleeps::TESTS,
    park::times::TESTS,
    park::ends::TESTS,
    differential::TESTS,
    cancel::TESTS,
    cancel::batch::TESTS,
    cancel::chains::TESTS,
    cancel::faults::TESTS,
    cancel::pools::TESTS,
    calls::hammer::TESTS,
    blocking::handoff::TESTS,
    blocking::waiting::TESTS,
    blocking::policies::TESTS,
    blocking::waking::TESTS,
    blocking::fifos::TESTS,
    blocking::returned::TESTS,
    blocking::rt_mutex::TESTS,
    blocking::silent::TESTS,
    blocking::silent_files::TESTS,
    blocking::slow::TESTS,
    blocking::clock::TESTS,
    blocking::interrupted::TESTS,
    blocking::threads::TESTS,
    blocking::wait_call::TESTS,
    blocking::adaptive::TESTS,
    chains::TESTS,
    chains::always::TESTS,
    chains::loops::TESTS,
    chains::orders::TESTS,
    pools::settings::TESTS,
    pools::work::TESTS,
    pools::limit::TESTS,
    pools::many::TESTS,
    pools::watch::TESTS,
    poller::TESTS,
    specialise::TESTS,
    fair::TESTS,
    starving::TESTS,
    retiring::TESTS,
    notify::TESTS,
    notify_own::TESTS,
    notify_first::TESTS,
    life::family::TESTS,
    life::closing::TESTS,
    life::borrowed::TESTS,
    life::charges::TESTS,
    life::holding::TESTS,
    life::paying::TESTS,
    life::death::TESTS,
    life::last::TESTS,
    life::exec::TESTS,
    life::stopped::TESTS,
    life::leaving::TESTS,
    life::limited::TESTS,
    life::quota::TESTS,
    life::rights::TESTS,
    life::machine::TESTS,
    ends::processes::TESTS,
    ends::descriptors::TESTS,
    ends::machine::TESTS,
    guard::alike::TESTS,
    guard::cores::TESTS,
    guard::answers::TESTS,
    guard::filters::TESTS,
    guard::identity::TESTS,
    guard::domain::TESTS,
    guard::idle::TESTS,
    guard::late::TESTS,
    guard::lsm::TESTS,
    guard::told::TESTS,
    guard::thread::TESTS,
    guard::traces::TESTS,
    guard::audit::TESTS,
    guard::caller::TESTS,
    guard::members::TESTS,
    guard::killed::TESTS,
    guard::parked::TESTS,
    guard::pending::TESTS,
    guard::between::TESTS,
    guard::owner_ends::TESTS,
    guard::terminal::TESTS,
    library::TESTS,
    library::requests::TESTS,
    library::rings::TESTS,
    hostile::scribble::TESTS,
    hostile::ioctls::TESTS,
    hostile::leaks::TESTS,
    hostile::fuzz::TESTS,
    faults::calls::TESTS,
    faults::reclaim::TESTS,
    faults::threads::TESTS,
    lasting::TESTS,
    soak::TESTS,
    tools::TESTS,
    checks::TESTS,
    module::TESTS,
];

const USAGE: &str = "usage: flexsc-tests --list [FILTER]
       flexsc-tests describe NAME
       flexsc-tests [--rounds N] run NAME
Root runs the tests, on a machine with the module loaded.
FLEXSC_TEST_ROUNDS=N multiplies the rounds, FLEXSC_TEST_SEED=N repeats a
random sequence, FLEXSC_TEST_LIMIT=SECONDS ends a test that hangs.";

fn bad_usage(reason: &str) -> ! {
    eprintln!("flexsc-tests: {reason}\n{USAGE}");
    exit(2);
}

fn named(name: Option<&str>) -> &'static registry::Test {
    let Some(name) = name else {
        bad_usage("the name of a test is missing");
    };
    registry::find(name).unwrap_or_else(|| bad_usage(&format!("there is no test '{name}'")))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut rounds = std::env::var("FLEXSC_TEST_ROUNDS").ok();
    if let ["--rounds", number, ..] = args[..] {
        rounds = Some(number.to_owned());
        args.drain(..2);
    }
    if let Some(text) = rounds {
        match text.parse() {
            Ok(number) if number > 0 => kit::ROUNDS.store(number, Ordering::Relaxed),
            _ => bad_usage(&format!("'{text}' is not a number of rounds")),
        }
    }
    match args[..] {
        ["--list"] => registry::all().for_each(|test| println!("{}", test.name)),
        ["--list", filter] => registry::all()
            .filter(|test| test.name.contains(filter))
            .for_each(|test| println!("{}", test.name)),
        ["describe", ref name @ ..] => println!("{}", named(name.first().copied()).about),
        ["run", ref name @ ..] => {
            let test = named(name.first().copied());
            // A process group of its own, so that the caller can end this process with all that it
            // starts.
            plain!(SYS_setsid);
            exit(supervise::run(test));
        }
        // Not for users: the commands that the tests of execve execute.
        [life::exec::COMMAND, fd] => exit(kit::child::exit_code(match fd.parse() {
            Ok(fd) => life::exec::after_exec(fd),
            Err(_) => bad_usage("not a descriptor"),
        })),
        [life::exec::STAY, _] => loop {
            std::thread::park();
        },
        [ends::machine::TAKE_CORE, path] => {
            exit(kit::child::exit_code(ends::machine::take_core(path)));
        }
        ["-h" | "--help"] => println!("{USAGE}"),
        _ => bad_usage("no command"),
    }
}
