// SPDX-License-Identifier: MIT OR Apache-2.0
//! One call of a sequence. Its arguments may stand for results of earlier calls.

use std::fmt;

use super::normal::Norm;

/// A register: the result of an earlier call, -1 before that call.
pub type Reg = u8;
pub const REGS: usize = 64;

/// An argument, or a field of a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Val {
    Num(u64),
    Reg(Reg),
    /// An address in the arena, as its offset.
    Mem(u64),
    /// The address of one of the call's buffers.
    Buf(u8),
    /// The process ID.
    Pid,
}

/// A value that a generator gives for an argument.
#[derive(Clone, Debug)]
pub enum Arg {
    Val(Val),
    Buf(Buf),
}

macro_rules! arg_from_numbers {
    ($($t:ty),+) => { $(impl From<$t> for Arg {
        fn from(number: $t) -> Arg {
            Arg::Val(Val::Num(number as u64))
        }
    })+ };
}
arg_from_numbers!(i32, u32, i64, u64, usize);

impl From<Val> for Arg {
    fn from(val: Val) -> Arg {
        Arg::Val(val)
    }
}

impl From<Buf> for Arg {
    fn from(buf: Buf) -> Arg {
        Arg::Buf(buf)
    }
}

/// A path or another string with its zero.
impl From<&str> for Arg {
    fn from(text: &str) -> Arg {
        Arg::Buf(Buf::text(text))
    }
}

/// Memory that a call reads or writes.
#[derive(Clone, Debug)]
pub struct Buf {
    data: Vec<u8>,
    fields: Vec<(usize, usize, Arg)>,
    norm: Norm,
}

impl Buf {
    /// Input: these bytes.
    pub fn bytes(data: Vec<u8>) -> Buf {
        Buf {
            data,
            fields: Vec::new(),
            norm: Norm::Input,
        }
    }

    /// Input: a string with its zero.
    pub fn text(text: &str) -> Buf {
        let mut data = text.as_bytes().to_vec();
        data.push(0);
        Buf::bytes(data)
    }

    /// Input: a structure of zeroes, to be filled in.
    pub fn zeroed(len: usize) -> Buf {
        Buf::bytes(vec![0; len])
    }

    /// Input: 64-bit words.
    pub fn words(words: &[u64]) -> Buf {
        Buf::bytes(words.iter().flat_map(|word| word.to_ne_bytes()).collect())
    }

    /// Output: bytes that are all compared, including those that the call does not write.
    pub fn out(len: usize) -> Buf {
        Buf::zeroed(len).like(Norm::Exact).fill(0xA5)
    }

    /// With this number of bytes.
    pub fn sized(mut self, len: u64) -> Buf {
        self.data.resize(len as usize, 0x5A);
        self
    }

    fn fill(mut self, byte: u8) -> Buf {
        self.data.fill(byte);
        self
    }

    /// How the output is to be compared.
    pub fn like(mut self, norm: Norm) -> Buf {
        self.norm = norm;
        self
    }

    fn put(mut self, at: usize, bytes: &[u8]) -> Buf {
        self.data[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn u16(self, at: usize, value: u16) -> Buf {
        self.put(at, &value.to_ne_bytes())
    }

    pub fn u32(self, at: usize, value: u32) -> Buf {
        self.put(at, &value.to_ne_bytes())
    }

    pub fn u64(self, at: usize, value: u64) -> Buf {
        self.put(at, &value.to_ne_bytes())
    }

    /// A field of `size` bytes that is known when the call is made.
    pub fn field(mut self, at: usize, size: usize, value: impl Into<Arg>) -> Buf {
        self.fields.push((at, size, value.into()));
        self
    }

    /// A `struct iovec` array.
    pub fn vectors(parts: Vec<Buf>) -> Buf {
        let mut buf = Buf::zeroed(16 * parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            let len = part.data.len() as u64;
            buf = buf.u64(16 * index + 8, len).field(16 * index, 8, part);
        }
        buf
    }
}

/// A buffer whose inner buffers have numbers.
#[derive(Clone, Debug)]
pub struct Flat {
    pub data: Vec<u8>,
    pub fields: Vec<(usize, usize, Val)>,
    pub norm: Norm,
}

/// How a result is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ret {
    /// The same number.
    Exact,
    /// Success or the same error: times, addresses, remaining times.
    Success,
    /// The process's own ID, or the same number.
    Pid,
}

/// The source of a register's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    Result,
    /// A 32-bit word of a buffer.
    Word(usize, usize),
    /// The register becomes empty: -1.
    Gone,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Op {
    pub name: &'static str,
    pub nr: i64,
    pub args: [Val; 6],
    pub bufs: Vec<Flat>,
    pub ret: Ret,
    /// Registers that the call sets.
    pub saves: Vec<(Reg, Place)>,
    /// The call is made only if poll() shows, in the plain run, that these files do not make it
    /// block.
    pub guards: Vec<(Val, i16)>,
    /// The call changes nothing: it may be posted together with its neighbours.
    pub pure: bool,
    /// A syscall thread may refuse the call, because it acts on the calling thread.
    pub own: bool,
    /// The call may be refused; then a plain call is made.
    pub refused: bool,
}

impl Op {
    pub fn new(name: &'static str, nr: i64, given: Vec<Arg>) -> Op {
        let mut op = Op {
            name: name.strip_prefix("SYS_").unwrap_or(name),
            nr,
            args: [Val::Num(0); 6],
            bufs: Vec::new(),
            ret: Ret::Exact,
            saves: Vec::new(),
            guards: Vec::new(),
            pure: false,
            own: false,
            refused: false,
        };
        for (index, arg) in given.into_iter().enumerate() {
            op.args[index] = op.flatten(arg);
        }
        op
    }

    fn flatten(&mut self, arg: Arg) -> Val {
        let buf = match arg {
            Arg::Val(val) => return val,
            Arg::Buf(buf) => buf,
        };
        let index = self.bufs.len();
        self.bufs.push(Flat {
            data: buf.data,
            fields: Vec::new(),
            norm: buf.norm,
        });
        for (at, size, arg) in buf.fields {
            let val = self.flatten(arg);
            self.bufs[index].fields.push((at, size, val));
        }
        Val::Buf(index as u8)
    }

    /// The result goes to a register.
    pub fn save(mut self, reg: Reg) -> Op {
        self.saves.push((reg, Place::Result));
        self
    }

    /// The 32-bit word at `at` of buffer `buf` goes to a register.
    pub fn save_from(mut self, reg: Reg, buf: usize, at: usize) -> Op {
        self.saves.push((reg, Place::Word(buf, at)));
        self
    }

    /// The value of the register is no longer used.
    pub fn ends(mut self, reg: Reg) -> Op {
        self.saves.push((reg, Place::Gone));
        self
    }

    pub fn ret(mut self, ret: Ret) -> Op {
        self.ret = ret;
        self
    }

    /// Makes the call only if the file can be read at once.
    pub fn if_readable(mut self, fd: Val) -> Op {
        self.guards.push((fd, libc::POLLIN));
        self
    }

    /// Makes the call only if the file can be written to at once.
    pub fn if_writable(mut self, fd: Val) -> Op {
        self.guards.push((fd, libc::POLLOUT));
        self
    }

    pub fn pure(mut self) -> Op {
        self.pure = true;
        self
    }

    pub fn own(mut self) -> Op {
        self.own = true;
        self
    }

    /// Only a plain call has a result: an entry is refused.
    pub fn refused(mut self) -> Op {
        self.refused = true;
        self.own = true;
        self
    }
}

/// Numbers of calls; some are newer than the `libc` crate's lists.
#[expect(non_upper_case_globals, reason = "named as in the libc crate")]
pub mod nr {
    pub use libc::*;

    pub const SYS_cachestat: i64 = 451;
    pub const SYS_futex_wake: i64 = 454;
    pub const SYS_futex_wait: i64 = 455;
    pub const SYS_lsm_list_modules: i64 = 461;
}

/// `op!(SYS_read, fd, Buf::out(10), 10)`
macro_rules! op {
    ($nr:ident $(, $arg:expr)* $(,)?) => {
        $crate::differential::op::Op::new(
            stringify!($nr),
            $crate::differential::op::nr::$nr,
            vec![$($crate::differential::op::Arg::from($arg)),*],
        )
    };
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.args.iter().rposition(|arg| *arg != Val::Num(0));
        let args = &self.args[..used.map_or(0, |last| last + 1)];
        write!(f, "{}(", self.name)?;
        for (index, arg) in args.iter().enumerate() {
            if index != 0 {
                write!(f, ", ")?;
            }
            self.show(*arg, f)?;
        }
        write!(f, ")")?;
        for (reg, place) in &self.saves {
            match place {
                Place::Result => write!(f, " -> r{reg}")?,
                Place::Word(buf, at) => write!(f, " -> r{reg} (buffer {buf}, byte {at})")?,
                Place::Gone => {}
            }
        }
        Ok(())
    }
}

impl Op {
    fn show(&self, val: Val, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match val {
            Val::Num(number) if (number as i64) < 0 || number < 4096 => {
                write!(f, "{}", number as i64)
            }
            Val::Num(number) => write!(f, "{number:#x}"),
            Val::Reg(reg) => write!(f, "r{reg}"),
            Val::Mem(offset) => write!(f, "arena+{offset:#x}"),
            Val::Pid => write!(f, "getpid()"),
            Val::Buf(index) => self.show_buf(&self.bufs[usize::from(index)], f),
        }
    }

    fn show_buf(&self, buf: &Flat, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if buf.norm != Norm::Input && buf.fields.is_empty() {
            return write!(f, "out[{}]", buf.data.len());
        }
        if buf.fields.is_empty() && buf.data.len() > 1 {
            let text = buf.data.strip_suffix(&[0]).unwrap_or(&buf.data);
            if text.iter().all(u8::is_ascii_graphic) {
                return write!(f, "{:?}", String::from_utf8_lossy(text));
            }
        }
        write!(f, "[{}:", buf.data.len())?;
        let zeroes = buf.data.iter().rev().take_while(|&&byte| byte == 0).count();
        for byte in buf.data.iter().take((buf.data.len() - zeroes).min(48)) {
            write!(f, " {byte:02x}")?;
        }
        for (at, _, val) in &buf.fields {
            write!(f, ", {at}=")?;
            self.show(*val, f)?;
        }
        write!(f, "]")
    }
}
