// SPDX-License-Identifier: MIT OR Apache-2.0
//! The example servers: their clients see no difference between threads and futures.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serve::Service;

#[path = "../examples/server/connection.rs"]
mod connection;
#[path = "../examples/server/echo.rs"]
mod echo;
#[path = "../examples/server/http.rs"]
mod http;
#[path = "../examples/server/kv.rs"]
mod kv;
#[path = "../examples/server/serve.rs"]
mod serve;

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a server, which runs until the process ends.
fn start(service: Service, threads: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let served = if threads {
            serve::with_threads(&listener, &service)
        } else {
            serve::with_futures(listener, &service)
        };
        panic!("the server has ended: {served:?}");
    });
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Returns the answer to this, up to the end.
fn answer(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(request).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Both kinds of server.
fn both(service: impl Fn() -> Service) -> [SocketAddr; 2] {
    [true, false].map(|threads| start(service(), threads))
}

#[test]
fn many_echoes_at_once() {
    for address in both(|| Service::Echo) {
        let clients: Vec<_> = (0..20_u8)
            .map(|number| {
                thread::spawn(move || {
                    let mut stream = connect(address);
                    for round in 0..20 {
                        let sent = vec![number ^ round; 1 + 97 * usize::from(round)];
                        stream.write_all(&sent).unwrap();
                        let mut got = vec![0; sent.len()];
                        stream.read_exact(&mut got).unwrap();
                        assert_eq!(got, sent);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
    }
}

/// Makes a request line of as many bytes as the server accepts of a request. It reads all of
/// them, so that its answer is not lost in a reset.
const LONG: usize = (16 << 10) - "GET / HTTP/1.1\r\n".len();

struct Site(PathBuf);

impl Site {
    fn new() -> Self {
        let root = std::env::temp_dir().join(format!("flexsc-site-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("index.html"), "<p>hello</p>").unwrap();
        std::fs::write(root.join("a b.txt"), "spaced").unwrap();
        let large: Vec<u8> = (0..300_000_u32)
            .map(|number| (number % 251) as u8)
            .collect();
        std::fs::write(root.join("sub/large"), large).unwrap();
        Site(root)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_over_http() {
    let site = Site::new();
    let get =
        |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    for address in both(|| Service::Http(site.0.clone())) {
        let text = |request: &str| String::from_utf8(answer(address, request.as_bytes())).unwrap();
        let page = text(&get("/?query"));
        assert!(
            page.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/html"),
            "{page}"
        );
        assert!(page.contains("Content-Length: 12\r\n") && page.ends_with("\r\n\r\n<p>hello</p>"));
        assert!(text(&get("/a%20b.txt")).ends_with("\r\n\r\nspaced"));
        let large = answer(address, get("/sub/large").as_bytes());
        let body = &large[large.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4..];
        assert!(body == std::fs::read(site.0.join("sub/large")).unwrap());
        for outside in [
            "/../etc/passwd",
            "/%2e%2e/x",
            "//etc/passwd",
            "/sub",
            "/no",
            "/%00",
            "x",
        ] {
            let refused = text(&get(outside));
            assert!(refused.starts_with("HTTP/1.1 404 "), "{outside}: {refused}");
        }
        assert!(text("POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(
            text("GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET /evil")
                .matches("HTTP/1.1")
                .count()
                == 1
        );
        assert!(text("what is this\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(
            text(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(LONG))).starts_with("HTTP/1.1 431 ")
        );
        // Two requests in one connection, the first without a body.
        let two = text(&format!(
            "HEAD /index.html HTTP/1.1\r\n\r\n{}",
            get("/index.html")
        ));
        assert_eq!(two.matches("HTTP/1.1 200 OK").count(), 2, "{two}");
        assert_eq!(two.matches("<p>hello</p>").count(), 1);
    }
}

#[test]
fn values_of_the_store() {
    let conversation: &[(&str, &str)] = &[
        ("get one", "END"),
        ("set one 7 0 3\r\nabc", "STORED"),
        ("add one 0 0 1\r\nx", "NOT_STORED"),
        ("append one 0 0 2\r\nde", "STORED"),
        ("prepend one 0 0 1\r\n_", "STORED"),
        ("get one none", "VALUE one 7 6\r\n_abcde\r\nEND"),
        ("gets one", "VALUE one 7 6 3\r\n_abcde\r\nEND"),
        ("cas one 0 0 1 2\r\nx", "EXISTS"),
        ("cas one 1 0 2 3\r\n41", "STORED"),
        ("incr one 1", "42"),
        ("decr one 50", "0"),
        ("incr none 1", "NOT_FOUND"),
        ("replace none 0 0 1\r\nx", "NOT_STORED"),
        ("set gone 0 -1 1\r\nx", "STORED"),
        ("get gone", "END"),
        ("touch one 100", "TOUCHED"),
        ("delete one", "DELETED"),
        ("delete one", "NOT_FOUND"),
        ("set two 0 0 2\r\nabcd", "CLIENT_ERROR bad data chunk"),
        ("nonsense", "ERROR"),
        ("flush_all", "OK"),
    ];
    for address in both(|| Service::Kv(kv::Store::default())) {
        let mut stream = connect(address);
        for (request, wanted) in conversation {
            stream
                .write_all(format!("{request}\r\n").as_bytes())
                .unwrap();
            let mut got = vec![0; wanted.len() + 2];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(
                String::from_utf8_lossy(&got),
                format!("{wanted}\r\n"),
                "{request}"
            );
            if request.starts_with("set two") {
                // Its last bytes are a line of their own.
                stream.read_exact(&mut [0; 7]).unwrap();
            }
        }
        // Pipelined, in pieces, and without answers.
        let load: Vec<String> = (0..100)
            .map(|n| format!("set key{n} 0 0 4 noreply\r\n{n:04}\r\nget key{n}\r\n"))
            .collect();
        let wanted: Vec<String> = (0..100)
            .map(|n| format!("VALUE key{n} 0 4\r\n{n:04}\r\nEND\r\n"))
            .collect();
        let (load, wanted) = (load.concat(), wanted.concat());
        let mut writer = stream.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                for piece in load.as_bytes().chunks(37) {
                    writer.write_all(piece).unwrap();
                }
            });
            let mut got = vec![0; wanted.len()];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(String::from_utf8_lossy(&got), wanted);
        });
        stream.write_all(b"quit\r\n").unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }
}
