// SPDX-License-Identifier: MIT OR Apache-2.0
//! An echo server with N connections, written in the usual ways: a thread for each connection,
//! epoll, io_uring, syscall pages. Measures the cost of the *server*: the run time of its
//! threads, context switches, traps; and the time of a request as seen by the client.
//!
//! The client sends a byte on every connection and then reads every answer. Client and server are
//! processes of their own. Each measurement begins with new ones.

mod server;

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{self, Command, Stdio};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe};

use super::{Options, Suite, skip};
use crate::clock::Metric;
use crate::machine;
use crate::report::{Report, Row};
use server::Way;

/// See the module.
pub const SUITE: Suite = Suite {
    name: "echo",
    about: "an echo server's cost of a request (batch = connections)",
    ops: &["unix", "tcp"],
    run,
};

const CONNECTIONS: [usize; 4] = [1, 8, 64, 512];

/// Minimum number of measured requests. A quarter as many come first, to warm up.
const REQUESTS: usize = 4096;

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    for op in SUITE.ops.iter().filter(|op| options.wants(op)) {
        for &count in options.batches_or(&CONNECTIONS) {
            for way in Way::ALL {
                let output = Command::new(env::current_exe()?)
                    .args(["one-echo", op, way.name(), &count.to_string()])
                    .args(["--metric", options.effort.metric.name()])
                    .stderr(Stdio::inherit())
                    .output()?;
                if !output.status.success() {
                    skip(&format!("{} with {count}", way.name()), &output.status);
                    continue;
                }
                let text = String::from_utf8_lossy(&output.stdout);
                for row in text.lines().filter_map(Row::parse) {
                    report.row(&row)?;
                }
            }
        }
    }
    Ok(())
}

/// The client's end of a connection.
enum Client {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Client {
    fn send(&mut self, byte: u8) -> io::Result<()> {
        match self {
            Client::Unix(stream) => stream.write_all(&[byte]),
            Client::Tcp(stream) => stream.write_all(&[byte]),
        }
    }

    fn receive(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        match self {
            Client::Unix(stream) => stream.read_exact(&mut byte)?,
            Client::Tcp(stream) => stream.read_exact(&mut byte)?,
        }
        Ok(byte[0])
    }
}

/// Both ends of these connections.
fn connections(op: &str, count: usize) -> io::Result<(Vec<Client>, Vec<OwnedFd>)> {
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    for _ in 0..count {
        if op == "unix" {
            let (client, server) = UnixStream::pair()?;
            clients.push(Client::Unix(client));
            servers.push(server.into());
        } else {
            let client = TcpStream::connect(listener.local_addr()?)?;
            let (server, _) = listener.accept()?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            clients.push(Client::Tcp(client));
            servers.push(server.into());
        }
    }
    Ok((clients, servers))
}

/// One request on each connection.
fn round(clients: &mut [Client], number: usize) -> io::Result<()> {
    let byte = number as u8;
    for client in &mut *clients {
        client.send(byte)?;
    }
    for client in &mut *clients {
        if client.receive()? != byte {
            return Err(io::Error::other("an answer is wrong"));
        }
    }
    Ok(())
}

/// The resources that the threads of a process have used, including its syscall threads and
/// io_uring's workers.
#[derive(Clone, Copy, Default)]
struct Used {
    /// Time on a processor: nanoseconds, or instructions if the clock counts these.
    run: u64,
    switches: u64,
}

impl Used {
    fn by(pid: Pid) -> io::Result<Used> {
        let mut used = Used::default();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            let stat = fs::read_to_string(task.join("schedstat"))?;
            let run = stat
                .split_whitespace()
                .next()
                .and_then(|n| n.parse::<u64>().ok());
            used.run += run.ok_or_else(|| io::Error::other("schedstat is not understood"))?;
            let status = fs::read_to_string(task.join("status"))?;
            used.switches += status
                .lines()
                .filter_map(|line| line.split_once("ctxt_switches:"))
                .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
                .sum::<u64>();
        }
        Ok(used)
    }
}

/// The client's measurement.
struct Measured {
    used: Used,
    took: u64,
    requests: usize,
}

/// Drives the server.
fn measure(pid: Pid, mut clients: Vec<Client>, metric: Metric) -> io::Result<Measured> {
    let rounds = REQUESTS.div_ceil(clients.len());
    for number in 0..rounds.div_ceil(4) {
        round(&mut clients, number)?;
    }
    let before = Used::by(pid)?;
    let begun = metric.now();
    for number in 0..rounds {
        round(&mut clients, number)?;
    }
    let took = metric.now() - begun;
    let after = Used::by(pid)?;
    Ok(Measured {
        used: Used {
            run: after.run - before.run,
            switches: after.switches - before.switches,
        },
        took,
        requests: rounds * clients.len(),
    })
}

/// Makes one measurement in this process, which has one thread.
///
/// # Errors
///
/// The way does not work here, or an answer is wrong.
pub fn one(
    op: &str,
    way: &str,
    count: usize,
    metric: Metric,
    report: &mut Report,
) -> io::Result<()> {
    let way = Way::parse(way)?;
    machine::want_files(2 * count as u64 + 64)?;
    let cpus = machine::cpus()?.len();
    let (clients, servers) = connections(op, count)?;
    let (answer, question) = pipe()?;
    let (mut answer, question) = (File::from(answer), File::from(question));
    // SAFETY: this process has one thread, so the child may do anything.
    let child = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // The clients' ends: the server sees the end of a connection when the client closes.
            drop(clients);
            drop(answer);
            process::exit(server::serve(way, servers, question));
        }
    };
    drop((servers, question));
    // The connections end here.
    let measured = measure(child, clients, metric)?;
    let mut traps = String::new();
    answer.read_to_string(&mut traps)?;
    let status = waitpid(child, None)?;
    let Some((traps, served)) = traps.split_once(' ') else {
        return Err(io::Error::other(format!("the server ended: {status:?}")));
    };
    if status != WaitStatus::Exited(child, 0) {
        return Err(io::Error::other(format!("the server ended: {status:?}")));
    }
    let number = |text: &str| text.trim().parse::<f64>().map_err(io::Error::other);
    let each = |value: u64| value as f64 / measured.requests as f64;
    for (name, value) in [
        (format!("server-{}", metric.name()), each(measured.used.run)),
        ("switches".into(), each(measured.used.switches)),
        ("traps".into(), number(traps)? / number(served)?),
        (metric.name().into(), each(measured.took)),
    ] {
        report.row(&Row {
            suite: SUITE.name.into(),
            op: op.into(),
            backend: way.name().into(),
            cpus,
            batch: count,
            metric: name,
            value,
            unit: "per request".into(),
        })?;
    }
    Ok(())
}
