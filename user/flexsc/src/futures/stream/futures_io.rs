// SPDX-License-Identifier: MIT OR Apache-2.0
//! The traits of futures-io.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};

use super::Stream;

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if to.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let from = ready!(this.poll_fill(cx))?;
        let count = from.len().min(to.len());
        to[..count].copy_from_slice(&from[..count]);
        this.take(count);
        Poll::Ready(Ok(count))
    }
}

alike!(poll_close);
