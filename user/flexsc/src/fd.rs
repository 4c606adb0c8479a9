// SPDX-License-Identifier: MIT OR Apache-2.0
//! Descriptors that stay open as long as an operation may use them.

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;

/// A descriptor that is owned or shared. Its number belongs to the same file until the last
/// operation on it has finished, even if the [`Ring`](crate::Ring) is forgotten.
///
/// It is made from an [`OwnedFd`], a `File`, a socket, an `Arc` of one of these, or from a
/// descriptor that is borrowed forever (such as standard input). [`Fd::duplicate`] makes
/// one from anything else. Cloning is cheap and opens nothing.
///
/// ```
/// use std::fs::File;
/// use flexsc::{Fd, ops::Read};
///
/// # fn main() -> std::io::Result<()> {
/// let file: Fd = File::open("/proc/self/stat")?.into();
/// let first = Read::new(&file, vec![0; 16]).at(0);
/// let second = Read::new(&file, vec![0; 16]).at(16);
/// # let _ = (first, second);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Fd {
    /// # Invariants
    ///
    /// The descriptor is open as long as `keeper` exists, or the number is that of no
    /// descriptor.
    raw: RawFd,
    keeper: Option<Keeper>,
}

/// A value that closes the descriptor when it is dropped.
type Keeper = Arc<dyn Any + Send + Sync>;

impl Fd {
    /// Duplicates a descriptor that can only be borrowed. The result refers to the same
    /// open file.
    ///
    /// # Errors
    ///
    /// The errors of fcntl(2), F_DUPFD_CLOEXEC: EMFILE.
    pub fn duplicate(fd: impl AsFd) -> io::Result<Fd> {
        Ok(fd.as_fd().try_clone_to_owned()?.into())
    }

    /// The current working directory (AT_FDCWD), for operations that take a directory and a
    /// path. If the path is absolute, the directory does not matter.
    #[must_use]
    pub fn cwd() -> Fd {
        nix::fcntl::AT_FDCWD.into()
    }

    /// The number of [`Fd::opened`], which is not a descriptor.
    pub(crate) const OPENED: RawFd = -1;

    /// The file that a [`WithFile`](crate::ops::WithFile) opens, for its operations. Any
    /// other operation fails with EBADF.
    #[must_use]
    pub fn opened() -> Fd {
        // INVARIANT: this number is never open.
        Fd {
            raw: Fd::OPENED,
            keeper: None,
        }
    }

    /// Returns the descriptor, for example to close it by an operation.
    ///
    /// # Errors
    ///
    /// The value itself, if another value shares the descriptor, such as an operation in
    /// flight, or if the descriptor is only borrowed.
    pub fn into_owned(self) -> Result<OwnedFd, Fd> {
        let Fd { raw, keeper } = self;
        let Some(keeper) = keeper else {
            return Err(Fd { raw, keeper });
        };
        take_owned(keeper).map_err(|keeper| Fd {
            raw,
            keeper: Some(keeper),
        })
    }
}

/// Implements `From` for a type whose descriptor stays open while a reference to the value
/// exists.
macro_rules! keepers {
    ($($type:ty),* $(,)?) => {
        $(
            impl From<$type> for Fd {
                fn from(owner: $type) -> Fd {
                    Arc::new(owner).into()
                }
            }

            impl From<Arc<$type>> for Fd {
                fn from(owner: Arc<$type>) -> Fd {
                    // INVARIANT: the type closes its descriptor only when it is dropped,
                    // and `keeper` prevents that.
                    Fd { raw: owner.as_raw_fd(), keeper: Some(owner) }
                }
            }
        )*

        /// Returns the descriptor of a keeper that is not shared.
        fn take_owned(keeper: Keeper) -> Result<OwnedFd, Keeper> {
            $(
                let keeper = match keeper.downcast::<$type>() {
                    Ok(owner) => return match Arc::try_unwrap(owner) {
                        Ok(owner) => Ok(owner.into()),
                        Err(owner) => Err(owner),
                    },
                    Err(other) => other,
                };
            )*
            Err(keeper)
        }
    };
}

keepers!(
    OwnedFd,
    File,
    TcpListener,
    TcpStream,
    UdpSocket,
    UnixDatagram,
    UnixListener,
    UnixStream,
    ChildStderr,
    ChildStdin,
    ChildStdout,
);

impl From<BorrowedFd<'static>> for Fd {
    fn from(fd: BorrowedFd<'static>) -> Fd {
        // INVARIANT: it stays open forever.
        Fd {
            raw: fd.as_raw_fd(),
            keeper: None,
        }
    }
}

impl From<&Fd> for Fd {
    fn from(fd: &Fd) -> Fd {
        fd.clone()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.raw
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fd").field(&self.raw).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_open(fd: RawFd) -> bool {
        std::fs::exists(format!("/proc/self/fd/{fd}")).unwrap()
    }

    #[test]
    fn it_is_open_until_the_last_one_is_gone() {
        let file = Arc::new(File::open("/dev/null").unwrap());
        let raw = file.as_raw_fd();
        let fd: Fd = file.into();
        let other = Fd::from(&fd);
        drop(fd);
        assert!(is_open(raw));
        assert_eq!(other.as_raw_fd(), raw);
    }

    #[test]
    fn a_descriptor_comes_back_when_nobody_shares_it() {
        for fd in [
            Fd::from(File::open("/dev/null").unwrap()),
            OwnedFd::from(File::open("/dev/null").unwrap()).into(),
            UnixStream::pair().unwrap().0.into(),
        ] {
            let raw = fd.as_raw_fd();
            let other = fd.clone();
            let fd = fd.into_owned().unwrap_err();
            drop(other);
            let owned = fd.into_owned().unwrap();
            assert_eq!(owned.as_raw_fd(), raw);
            assert!(is_open(raw));
        }
        assert_eq!(
            Fd::cwd().into_owned().unwrap_err().as_raw_fd(),
            libc::AT_FDCWD
        );
    }

    #[test]
    fn what_is_only_borrowed_is_duplicated() {
        let file = File::open("/dev/null").unwrap();
        let fd = Fd::duplicate(&file).unwrap();
        assert_ne!(fd.as_raw_fd(), file.as_raw_fd());
        drop(file);
        assert!(is_open(fd.as_raw_fd()));
    }
}
