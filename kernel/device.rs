// SPDX-License-Identifier: GPL-2.0

//! `/dev/flexsc`: decodes ioctl and mmap.

use crate::{
    engine::Engine,
    pages::{self, Pages},
    quota::Quota,
    requests::is_cpu_set,
    sys::{
        abi, errno,
        lines::Lines,
        miscdev::{Closed, Device},
        notify::Poll,
        process::{Caller, Current},
    },
    wait::{self, Policy},
};
use core::mem::size_of;
use kernel::ioctl::{_IO, _IOW, _IOWR};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::uapi;

const MAGIC: u32 = uapi::FLEXSC_IOC_MAGIC;
const REGISTER: u32 = _IOWR::<uapi::flexsc_register>(MAGIC, 0);
const UNREGISTER: u32 = _IO(MAGIC, 1);
const WAIT: u32 = _IOW::<uapi::flexsc_wait>(MAGIC, 2);
const WAIT_FAST: u32 = _IO(MAGIC, 3);
const KICK: u32 = _IO(MAGIC, 4);
const SET: u32 = _IOW::<uapi::flexsc_param>(MAGIC, 5);
const GET: u32 = _IOWR::<uapi::flexsc_param>(MAGIC, 6);
const QUERY: u32 = _IOWR::<uapi::flexsc_stats>(MAGIC, 7);
const CANCEL: u32 = _IOW::<uapi::flexsc_cancel>(MAGIC, 8);
const QUERY_POOL: u32 = _IOWR::<uapi::flexsc_pool_stats>(MAGIC, 9);
const EVENTFD: u32 = _IOW::<uapi::flexsc_eventfd>(MAGIC, 10);

fn register(engine: ArcBorrow<'_, Engine>, caller: &mut Caller, arg: usize) -> Result<isize> {
    let mut r: uapi::flexsc_register = abi::read(arg)?;
    if r.size as usize != size_of::<uapi::flexsc_register>()
        || r.flags != 0
        || r.__reserved != [0; 2]
    {
        return Err(EINVAL);
    }
    if r.abi != uapi::FLEXSC_ABI_VERSION {
        return Err(errno::eproto());
    }
    let pages = engine.register(r.pages)?;
    r.id = pages.id();
    r.ctrl_len = pages.area().ctrl_len() as u32;
    r.mmap_offset = pages.offset();
    r.mmap_len = pages.area().len() as u64;
    if let Err(e) = abi::write(arg, r) {
        // Fails if another thread guessed the number and posted an entry.
        let _ = engine.end(&pages, caller);
        return Err(e);
    }
    Ok(0)
}

fn wait_full(engine: ArcBorrow<'_, Engine>, caller: &Caller, arg: usize) -> Result<isize> {
    let w: uapi::flexsc_wait = abi::read(arg)?;
    if w.size as usize != size_of::<uapi::flexsc_wait>() || w.flags != 0 || w.__reserved != 0 {
        return Err(EINVAL);
    }
    let policy = Policy::new(w.policy, w.min, w.timeout_ns, w.linger_ns)?;
    let pages = engine.get_own(w.id as usize, caller)?;
    Ok(wait::wait(engine, pages, caller.task(), &policy)? as isize)
}

/// The policy in FLEXSC_WAIT_FAST_ARG.
#[inline(always)]
fn policy_of(arg: usize) -> Result<Policy> {
    Policy::new(((arg >> 32) & 0xff) as u32, (arg >> 40) as u32, 0, 0)
}

/// WAIT_FAST through ioctl(2): not inlined, unlike flexsc_wait(2).
fn wait_fast(engine: ArcBorrow<'_, Engine>, caller: &Caller, arg: usize) -> Result<isize> {
    let policy = policy_of(arg)?;
    let pages = engine.get_own(arg & 0xffff_ffff, caller)?;
    Ok(wait::wait(engine, pages, caller.task(), &policy)? as isize)
}

/// WAIT_FAST through flexsc_wait(2).
#[inline(always)]
fn wait_by_call(engine: ArcBorrow<'_, Engine>, caller: &Caller, arg: usize) -> Result<isize> {
    let policy = policy_of(arg)?;
    let pages = engine.get_own(arg & 0xffff_ffff, caller)?;
    Ok(wait::wait_untimed(engine, pages, caller.task(), policy)? as isize)
}

fn param(arg: usize) -> Result<uapi::flexsc_param> {
    let p: uapi::flexsc_param = abi::read(arg)?;
    let sized = p.size as usize == size_of::<uapi::flexsc_param>();
    if !sized || (p.len != 0) != is_cpu_set(p.param) {
        return Err(EINVAL);
    }
    Ok(p)
}

fn set(engine: ArcBorrow<'_, Engine>, arg: usize) -> Result<isize> {
    let mut p = param(arg)?;
    if is_cpu_set(p.param) {
        p.value = abi::read_cpus(p.value, p.len)?;
    }
    engine.set(p.pool, p.param, p.value).map(|()| 0)
}

fn get(engine: ArcBorrow<'_, Engine>, arg: usize) -> Result<isize> {
    let mut p = param(arg)?;
    let value = engine.get_param(p.pool, p.param)?;
    if is_cpu_set(p.param) {
        abi::write_cpus(p.value, p.len, value)?;
    } else {
        p.value = value;
        abi::write(arg, p)?;
    }
    Ok(0)
}

fn query(engine: ArcBorrow<'_, Engine>, arg: usize) -> Result<isize> {
    // A caller may know an older, shorter struct.
    let asked: abi::Head = abi::read(arg)?;
    if (asked.size as usize) < size_of::<abi::Head>() || asked.reserved != 0 {
        return Err(EINVAL);
    }
    abi::write_prefix(arg, &engine.stats(), asked.size as usize)?;
    Ok(0)
}

fn cancel(engine: ArcBorrow<'_, Engine>, arg: usize) -> Result<isize> {
    let c: uapi::flexsc_cancel = abi::read(arg)?;
    if c.size as usize != size_of::<uapi::flexsc_cancel>() || c.flags != 0 {
        return Err(EINVAL);
    }
    engine.cancel(c.id as usize, c.index).map(|()| 0)
}

fn eventfd(engine: ArcBorrow<'_, Engine>, arg: usize) -> Result<isize> {
    let e: uapi::flexsc_eventfd = abi::read(arg)?;
    if e.size as usize != size_of::<uapi::flexsc_eventfd>() || e.flags != 0 {
        return Err(EINVAL);
    }
    if e.id == uapi::FLEXSC_ALL {
        engine.notifier().set_eventfd(e.fd)?;
    } else {
        engine.get(e.id as usize)?.set_eventfd(e.fd)?;
    }
    Ok(0)
}

fn query_pool(engine: ArcBorrow<'_, Engine>, arg: usize) -> Result<isize> {
    // In this struct, the pool's number takes the word that is reserved in others.
    let asked: abi::Head = abi::read(arg)?;
    if (asked.size as usize) < size_of::<abi::Head>() {
        return Err(EINVAL);
    }
    let stats = engine.pool_stats(asked.reserved)?;
    abi::write_prefix(arg, &stats, asked.size as usize)?;
    Ok(0)
}

/// Checks that the caller belongs to the engine's process, and that the call is not a posted one. A
/// posted ioctl must neither wait for itself nor register pages for a syscall thread.
#[inline(always)]
fn enter(engine: &Engine, caller: Option<Caller>) -> Result<Caller> {
    match caller {
        Some(caller) if engine.is_of(caller.task()) => Ok(caller),
        None if engine.is_of(Current::get()) => Err(EBUSY),
        _ => Err(EPERM),
    }
}

impl Device for Engine {
    type Mapping = Pages;
    type Shared = Arc<Quota>;

    const WAIT: u32 = WAIT_FAST;

    #[inline(always)]
    fn wait(this: ArcBorrow<'_, Self>, caller: Option<Caller>, arg: usize) -> Result<isize> {
        let caller = enter(&this, caller)?;
        wait_by_call(this, &caller, arg)
    }

    fn open(quota: &Arc<Quota>) -> Result<Arc<Self>> {
        let engine = Engine::new(quota)?;
        engine.debug.add(engine.number(), engine.clone());
        engine.deferred.start(engine.clone());
        Ok(engine)
    }

    fn ioctl(
        this: ArcBorrow<'_, Self>,
        caller: Option<Caller>,
        cmd: u32,
        arg: usize,
    ) -> Result<isize> {
        let engine = this;
        let mut caller = enter(&engine, caller)?;
        match cmd {
            WAIT_FAST => wait_fast(engine, &caller, arg),
            WAIT => wait_full(engine, &caller, arg),
            KICK => engine.kick(arg).map(|()| 0),
            REGISTER => register(engine, &mut caller, arg),
            UNREGISTER => engine.unregister(arg, &mut caller).map(|()| 0),
            SET => set(engine, arg),
            GET => get(engine, arg),
            QUERY => query(engine, arg),
            CANCEL => cancel(engine, arg),
            QUERY_POOL => query_pool(engine, arg),
            EVENTFD => eventfd(engine, arg),
            _ => Err(ENOTTY),
        }
    }

    fn area(this: ArcBorrow<'_, Self>, page_offset: usize) -> Result<Arc<Pages>> {
        if !this.is_of(Current::get()) {
            return Err(EPERM);
        }
        let id = pages::id_at(page_offset).ok_or(EINVAL)?;
        this.get(id).map_err(|_| EINVAL)
    }

    fn is_readable(this: ArcBorrow<'_, Self>, poll: &Poll) -> Result<bool> {
        if !this.is_of(Current::get()) {
            return Err(EPERM);
        }
        poll.wait_on(this.notifier());
        Ok(this.is_ready_for_caller())
    }

    fn show(this: ArcBorrow<'_, Self>, lines: &Lines) {
        this.show_stats(lines);
    }

    fn release(this: Arc<Self>, closed: &Closed) {
        this.debug.remove();
        this.close(closed);
        drop(this.deferred.stop());
    }
}
