// SPDX-License-Identifier: MIT OR Apache-2.0
//! A key-value store that speaks memcached's text protocol, as far as load generators use it.
//! Expired values stay in memory until a client asks for them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::Connection;

/// The largest value, and the longest line.
const MOST_VALUE: usize = 1 << 20;
const MOST_LINE: usize = 8 << 10;
const MOST_KEY: usize = 250;

/// Longer times are dates, which this store treats as never.
const MONTH: i64 = 60 * 60 * 24 * 30;

/// The values, for all connections.
#[derive(Clone, Default)]
pub struct Store(Arc<Mutex<HashMap<Vec<u8>, Value>>>);

struct Value {
    content: Vec<u8>,
    flags: u32,
    until: Option<Instant>,
    /// Changes with the value.
    unique: u64,
}

impl Value {
    fn has_expired(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

enum Step {
    /// The request is executed, and this many bytes long.
    Done(usize),
    /// There is more to come.
    More,
    Quit,
}

pub async fn serve(mut peer: impl Connection, store: Store) -> io::Result<()> {
    let (mut input, mut output) = (Vec::new(), Vec::new());
    loop {
        let mut at = 0;
        // All requests that have arrived get one answer.
        let quit = loop {
            match store.step(&input[at..], &mut output)? {
                Step::Done(len) => at += len,
                Step::More => break false,
                Step::Quit => break true,
            }
        };
        input.drain(..at);
        if !output.is_empty() {
            peer.send(&mut output).await?;
        }
        if quit || peer.receive(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

fn number<T: std::str::FromStr>(word: Option<&&[u8]>) -> Option<T> {
    std::str::from_utf8(word?).ok()?.parse().ok()
}

impl Store {
    /// Executes the first request.
    fn step(&self, input: &[u8], output: &mut Vec<u8>) -> io::Result<Step> {
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            if input.len() <= MOST_LINE {
                return Ok(Step::More);
            }
            output.extend_from_slice(b"CLIENT_ERROR line too long\r\n");
            return Ok(Step::Quit);
        };
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        let words: Vec<&[u8]> = line
            .split(|&byte| byte == b' ')
            .filter(|word| !word.is_empty())
            .collect();
        let rest = &input[end + 1..];
        let quiet = words.last().is_some_and(|&word| word == b"noreply");
        let command = words.first().copied().unwrap_or_default();
        let mut said = Vec::new();
        let mut body = 0;
        match command {
            b"get" | b"gets" => self.get(&words[1..], command == b"gets", output)?,
            b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => {
                let len: Option<usize> = number(words.get(4));
                let Some(len) = len.filter(|&len| len <= MOST_VALUE) else {
                    // The end of the value is unknown.
                    output.extend_from_slice(b"SERVER_ERROR object too large for cache\r\n");
                    return Ok(Step::Quit);
                };
                if rest.len() < len + 2 {
                    return Ok(Step::More);
                }
                body = len + 2;
                said = if rest[len..].starts_with(b"\r\n") {
                    self.put(command, &words, &rest[..len]).to_vec()
                } else {
                    b"CLIENT_ERROR bad data chunk".to_vec()
                };
            }
            b"delete" => {
                let found = words.get(1).and_then(|key| self.lock().remove(*key));
                let found = found.is_some_and(|value| !value.has_expired());
                said = if found { b"DELETED" } else { &b"NOT_FOUND"[..] }.to_vec();
            }
            b"incr" | b"decr" => said = self.count(command == b"incr", &words),
            b"touch" => said = self.touch(&words).to_vec(),
            b"flush_all" => {
                self.lock().clear();
                said = b"OK".to_vec();
            }
            b"version" => said = concat!("VERSION ", env!("CARGO_PKG_VERSION")).into(),
            b"verbosity" => said = b"OK".to_vec(),
            b"stats" => {
                let items = self.lock().len();
                said = format!("STAT curr_items {items}\r\nEND").into_bytes();
            }
            b"quit" => return Ok(Step::Quit),
            _ => said = b"ERROR".to_vec(),
        }
        if !said.is_empty() && !quiet {
            output.extend_from_slice(&said);
            output.extend_from_slice(b"\r\n");
        }
        Ok(Step::Done(end + 1 + body))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, keys: &[&[u8]], unique: bool, output: &mut Vec<u8>) -> io::Result<()> {
        let mut values = self.lock();
        for &key in keys {
            let Some(value) = values.get(key) else {
                continue;
            };
            if value.has_expired() {
                values.remove(key);
                continue;
            }
            output.extend_from_slice(b"VALUE ");
            output.extend_from_slice(key);
            write!(output, " {} {}", value.flags, value.content.len())?;
            if unique {
                write!(output, " {}", value.unique)?;
            }
            output.extend_from_slice(b"\r\n");
            output.extend_from_slice(&value.content);
            output.extend_from_slice(b"\r\n");
        }
        output.extend_from_slice(b"END\r\n");
        Ok(())
    }

    /// COMMAND KEY FLAGS TIME LENGTH [UNIQUE] [noreply]
    fn put(&self, command: &[u8], words: &[&[u8]], content: &[u8]) -> &'static [u8] {
        let (Some(key), Some(flags), Some(time)) =
            (words.get(1), number(words.get(2)), number(words.get(3)))
        else {
            return b"CLIENT_ERROR bad command line format";
        };
        if key.len() > MOST_KEY {
            return b"CLIENT_ERROR key too long";
        }
        let mut values = self.lock();
        let old = values.get_mut(*key).filter(|value| !value.has_expired());
        let unique = old.as_ref().map_or(1, |value| value.unique + 1);
        match (command, old) {
            (b"add", Some(_)) | (b"replace" | b"append" | b"prepend", None) => {
                return b"NOT_STORED";
            }
            (b"cas", None) => return b"NOT_FOUND",
            (b"cas", Some(value)) if number(words.get(5)) != Some(value.unique) => {
                return b"EXISTS";
            }
            (b"append", Some(value)) => {
                value.content.extend_from_slice(content);
                value.unique = unique;
                return b"STORED";
            }
            (b"prepend", Some(value)) => {
                value.content.splice(..0, content.iter().copied());
                value.unique = unique;
                return b"STORED";
            }
            _ => {}
        }
        let value = Value {
            content: content.to_vec(),
            flags,
            until: until(time),
            unique,
        };
        values.insert(key.to_vec(), value);
        b"STORED"
    }

    fn count(&self, up: bool, words: &[&[u8]]) -> Vec<u8> {
        let (Some(key), Some(by)) = (words.get(1), number::<u64>(words.get(2))) else {
            return b"CLIENT_ERROR invalid numeric delta argument".to_vec();
        };
        let mut values = self.lock();
        let Some(value) = values.get_mut(*key).filter(|value| !value.has_expired()) else {
            return b"NOT_FOUND".to_vec();
        };
        let Some(old) = number::<u64>(Some(&value.content.as_slice())) else {
            return b"CLIENT_ERROR cannot increment or decrement non-numeric value".to_vec();
        };
        let new = if up {
            old.wrapping_add(by)
        } else {
            old.saturating_sub(by)
        };
        value.content = new.to_string().into_bytes();
        value.unique += 1;
        value.content.clone()
    }

    fn touch(&self, words: &[&[u8]]) -> &'static [u8] {
        let mut values = self.lock();
        let value = words.get(1).and_then(|key| values.get_mut(*key));
        match (value, number(words.get(2))) {
            (Some(value), Some(time)) if !value.has_expired() => {
                value.until = until(time);
                b"TOUCHED"
            }
            _ => b"NOT_FOUND",
        }
    }
}

/// The time at which a value with this lifetime in seconds expires.
fn until(seconds: i64) -> Option<Instant> {
    match seconds {
        0 => None,
        ..0 => Some(Instant::now()),
        1..=MONTH => Some(Instant::now() + Duration::from_secs(seconds as u64)),
        _ => None,
    }
}
