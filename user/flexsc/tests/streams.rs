// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Stream` through the traits of futures-io and of tokio.

use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::Poll;
use std::thread;

use flexsc::futures::{Executor, Stream};

/// Reads to the end and writes everything back, by one of the two families of traits.
macro_rules! echo {
    ($name:ident, $family:path, $read:expr, $close:ident) => {
        async fn $name(mut stream: Stream) -> io::Result<usize> {
            use $family as family;
            let mut total = 0;
            let mut buf = [0; 1000];
            loop {
                let count = poll_fn(|cx| ($read)(Pin::new(&mut stream), cx, &mut buf)).await?;
                if count == 0 {
                    break;
                }
                let mut at = 0;
                while at < count {
                    at += poll_fn(|cx| {
                        family::AsyncWrite::poll_write(Pin::new(&mut stream), cx, &buf[at..count])
                    })
                    .await?;
                }
                total += count;
            }
            poll_fn(|cx| family::AsyncWrite::poll_flush(Pin::new(&mut stream), cx)).await?;
            poll_fn(|cx| family::AsyncWrite::$close(Pin::new(&mut stream), cx)).await?;
            Ok(total)
        }
    };
}

echo!(
    echo_of_futures,
    futures_io,
    futures_io::AsyncRead::poll_read,
    poll_close
);

fn read_of_tokio(
    stream: Pin<&mut Stream>,
    cx: &mut std::task::Context<'_>,
    buf: &mut [u8; 1000],
) -> Poll<io::Result<usize>> {
    let mut buf = tokio::io::ReadBuf::new(buf);
    let read = tokio::io::AsyncRead::poll_read(stream, cx, &mut buf);
    read.map_ok(|()| buf.filled().len())
}

echo!(echo_of_tokio, tokio::io, read_of_tokio, poll_shutdown);

/// Returns the bytes that the peer gets back for this.
fn echoed<F: Future<Output = io::Result<usize>> + 'static>(
    sent: &[u8],
    capacity: usize,
    echo: impl FnOnce(Stream) -> F,
) -> Vec<u8> {
    let (near, far) = UnixStream::pair().unwrap();
    let executor = Executor::open(1).unwrap();
    let stream = Stream::with_capacity(executor.reactor().clone(), near, capacity);
    thread::scope(|scope| {
        scope.spawn(|| {
            (&far).write_all(sent).unwrap();
            far.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let got = scope.spawn(|| {
            let mut got = Vec::new();
            (&far).read_to_end(&mut got).unwrap();
            got
        });
        let total = executor.block_on(echo(stream)).unwrap();
        assert_eq!(total.unwrap(), sent.len());
        got.join().unwrap()
    })
}

#[test]
fn what_is_written_is_what_was_read() {
    // More than the socket's buffers have room for, so that writes are short.
    let sent: Vec<u8> = (0..400_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    for capacity in [0, 7, 100_000] {
        let sent = &sent[..if capacity < 10 { 2_000 } else { sent.len() }];
        assert!(echoed(sent, capacity, echo_of_futures) == sent);
        assert!(echoed(sent, capacity, echo_of_tokio) == sent);
    }
}

#[test]
fn the_error_of_a_write_comes_later() {
    let (near, far) = UnixStream::pair().unwrap();
    drop(far);
    let executor = Executor::open(1).unwrap();
    let mut stream = Stream::new(executor.reactor().clone(), near);
    let error = executor.block_on(poll_fn(|cx| {
        let wrote = futures_io::AsyncWrite::poll_write(Pin::new(&mut stream), cx, b"lost");
        assert!(matches!(wrote, Poll::Ready(Ok(4))));
        Poll::Ready(())
    }));
    error.unwrap();
    let flush = poll_fn(|cx| futures_io::AsyncWrite::poll_flush(Pin::new(&mut stream), cx));
    let error = executor.block_on(flush).unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn lines_are_read_by_the_buffer() {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"one\ntwo").unwrap();
    let executor = Executor::open(1).unwrap();
    let mut stream = Stream::new(executor.reactor().clone(), near);
    for (wanted, taken) in [(&b"one\ntwo"[..], 4), (b"two", 3)] {
        let filled = poll_fn(|cx| {
            let filled = futures_io::AsyncBufRead::poll_fill_buf(Pin::new(&mut stream), cx);
            filled.map_ok(<[u8]>::to_vec)
        });
        assert_eq!(executor.block_on(filled).unwrap().unwrap(), wanted);
        futures_io::AsyncBufRead::consume(Pin::new(&mut stream), taken);
    }
}
