// SPDX-License-Identifier: MIT OR Apache-2.0
//! Servers whose handlers run in blocking threads or as futures, unchanged:
//!
//! ```text
//! cargo run --release --example server -- echo [--threads] [ADDRESS]
//! cargo run --release --example server -- http [--threads] [ADDRESS] [DIRECTORY]
//! cargo run --release --example server -- kv [--threads] [ADDRESS]
//! ```

use std::net::TcpListener;
use std::process::ExitCode;

use serve::Service;

mod connection;
mod echo;
mod http;
mod kv;
mod serve;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let before = words.len();
    words.retain(|word| word != "--threads");
    let threads = words.len() < before;
    let word = |nth: usize| words.get(nth).map(String::as_str);
    let service = match word(0) {
        Some("echo") => Service::Echo,
        Some("http") => Service::Http(word(2).unwrap_or(".").into()),
        Some("kv") => Service::Kv(kv::Store::default()),
        _ => {
            eprintln!("usage: server echo|http|kv [--threads] [ADDRESS] [DIRECTORY]");
            return ExitCode::from(2);
        }
    };
    let served = TcpListener::bind(word(1).unwrap_or("127.0.0.1:7777")).and_then(|listener| {
        println!("serving on {}", listener.local_addr()?);
        if threads {
            serve::with_threads(&listener, &service)
        } else {
            serve::with_futures(listener, &service)
        }
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
