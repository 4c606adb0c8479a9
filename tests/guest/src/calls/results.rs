// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results that look like restart codes.

use std::os::fd::OwnedFd;

use crate::check::Check;
use crate::kit::abi::REASON_NONE;
use crate::kit::mode::in_modes;
use crate::kit::ring::check_done;
use crate::kit::sys;

tests! { "calls":
    like_restart_codes => "a result that equals a restart code is the same as that of a plain call";
}

/// Numbers that mean, inside the kernel, that a call must be restarted or that only its poster can
/// make it, and some numbers without a meaning.
const NUMBERS: [i64; 8] = [-512, -513, -514, -515, -516, -517, -532, -533];

/// A file whose offset may be any number, as the offset is an address.
fn memory() -> Check<OwnedFd> {
    let fd = plain!(SYS_open, c"/proc/self/mem".as_ptr(), libc::O_RDONLY);
    check!(fd > 2, "open /proc/self/mem: {}", crate::check::Ret(fd));
    Ok(sys::own(fd as i32))
}

fn like_restart_codes() -> Check {
    let file = memory()?;
    for number in NUMBERS {
        let plain = plain!(SYS_lseek, &file, number, libc::SEEK_SET);
        check_ret!("plain lseek", plain, number);
    }
    in_modes(1, |_, ring| {
        for number in NUMBERS {
            let seek = call!(SYS_lseek, &file, number, libc::SEEK_SET);
            check_done("lseek", ring.run(seek)?, number, REASON_NONE)?;
            // Beside other calls, each of which is executed once.
            let mut calls = [call!(SYS_lseek, &file, 1, libc::SEEK_CUR); 5];
            calls[0] = seek;
            let got: Vec<i64> = ring.run_all(&calls)?.iter().map(|d| d.result).collect();
            let want: Vec<i64> = (0..5).map(|n| number + n).collect();
            check_eq!("lseek and steps of one", got, want);
        }
        Ok(())
    })
}
