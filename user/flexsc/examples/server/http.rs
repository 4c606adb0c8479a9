// SPDX-License-Identifier: MIT OR Apache-2.0
//! Static files over HTTP/1.1: GET and HEAD, with persistent connections.

use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use super::connection::Connection;

/// The largest request.
const MOST: usize = 16 << 10;

/// Bytes of a file that are sent at once.
const PIECE: usize = 64 << 10;

struct Request {
    /// What to send, or the status of a refusal.
    path: Result<PathBuf, &'static str>,
    head: bool,
    keep: bool,
}

pub async fn serve(mut peer: impl Connection, root: &Path) -> io::Result<()> {
    let (mut input, mut output) = (Vec::new(), Vec::new());
    loop {
        let request = match parse(&input, root) {
            Ok(Some((request, len))) => {
                input.drain(..len);
                request
            }
            Ok(None) if input.len() < MOST => {
                if peer.receive(&mut input).await? == 0 {
                    return Ok(());
                }
                continue;
            }
            Ok(None) => refusal("431 Request Header Fields Too Large"),
            Err(_) => refusal("400 Bad Request"),
        };
        answer(&mut peer, &request, &mut output).await?;
        if !request.keep {
            return Ok(());
        }
    }
}

fn refusal(status: &'static str) -> Request {
    Request {
        path: Err(status),
        head: false,
        keep: false,
    }
}

/// Returns a request and its length, or `None` if there is more to come.
fn parse(input: &[u8], root: &Path) -> Result<Option<(Request, usize)>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(len) = request.parse(input)? else {
        return Ok(None);
    };
    let has = |name: &str, value: &str| {
        let mut headers = request.headers.iter();
        headers.any(|header| {
            let values = String::from_utf8_lossy(header.value).to_ascii_lowercase();
            header.name.eq_ignore_ascii_case(name)
                && values.split(',').any(|one| one.trim() == value)
        })
    };
    let body = |name: &str| {
        let mut headers = request.headers.iter();
        headers.any(|header| header.name.eq_ignore_ascii_case(name) && header.value != b"0")
    };
    if body("content-length") || body("transfer-encoding") {
        // The body would be mistaken for the next request.
        return Ok(Some((refusal("413 Content Too Large"), len)));
    }
    let keep = match request.version {
        Some(0) => has("connection", "keep-alive"),
        _ => !has("connection", "close"),
    };
    let method = request.method.unwrap_or_default();
    let path = if matches!(method, "GET" | "HEAD") {
        resolve(root, request.path.unwrap_or_default()).ok_or("404 Not Found")
    } else {
        Err("405 Method Not Allowed")
    };
    let head = method == "HEAD";
    Ok(Some((Request { path, head, keep }, len)))
}

/// Returns the file below the root that a target names.
fn resolve(root: &Path, target: &str) -> Option<PathBuf> {
    let target = target.split(['?', '#']).next()?;
    let path = decode(target.strip_prefix('/')?)?;
    let path = Path::new(&path);
    // The path must not lead out of the root.
    let is_below = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let mut found = is_below.then(|| root.join(path))?;
    if target.ends_with('/') {
        found.push("index.html");
    }
    Some(found)
}

/// Replaces %XX.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

async fn answer<C: Connection>(
    peer: &mut C,
    request: &Request,
    output: &mut Vec<u8>,
) -> io::Result<()> {
    let opened = match &request.path {
        Ok(path) => match peer.open(path).await {
            Ok((file, len)) => Ok((file, len, kind(path))),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err("403 Forbidden"),
            Err(_) => Err("404 Not Found"),
        },
        Err(status) => Err(*status),
    };
    let keep = if request.keep { "keep-alive" } else { "close" };
    let (file, len) = match opened {
        Ok((file, len, kind)) => {
            write!(
                output,
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\nConnection: {keep}\r\n\r\n"
            )?;
            (file, len)
        }
        Err(status) => {
            let len = if request.head { 0 } else { status.len() + 1 };
            write!(
                output,
                "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len}\r\nConnection: {keep}\r\n\r\n"
            )?;
            if !request.head {
                writeln!(output, "{status}")?;
            }
            return peer.send(output).await;
        }
    };
    let mut at = 0;
    while at < len && !request.head {
        let count = peer.read(&file, at, output).await?;
        if count == 0 {
            // The file became shorter, and the peer must notice.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += count as u64;
        if at > len {
            output.truncate(output.len() - (at - len) as usize);
        }
        if output.len() >= PIECE {
            peer.send(output).await?;
        }
    }
    peer.send(output).await
}

/// The type of a file's content.
fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|end| end.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
