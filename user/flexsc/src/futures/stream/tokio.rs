// SPDX-License-Identifier: MIT OR Apache-2.0
//! The traits of tokio.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if to.remaining() > 0 {
            let from = ready!(this.poll_fill(cx))?;
            let count = from.len().min(to.remaining());
            to.put_slice(&from[..count]);
            this.take(count);
        }
        Poll::Ready(Ok(()))
    }
}

alike!(poll_shutdown);
