// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends back what it receives.

use std::io;

use super::connection::Connection;

pub async fn serve(mut peer: impl Connection) -> io::Result<()> {
    let mut buf = Vec::new();
    while peer.receive(&mut buf).await? > 0 {
        peer.send(&mut buf).await?;
    }
    Ok(())
}
