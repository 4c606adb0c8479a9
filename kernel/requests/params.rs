// SPDX-License-Identifier: GPL-2.0

//! SET and GET: the parameters of an engine and its pools.

use crate::{
    defs::{OrderKind, POOLS},
    engine::Engine,
    pool::Nice,
    sys::process,
};
use kernel::prelude::*;
use kernel::sync::ArcBorrow;
use kernel::uapi;

fn number(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| EINVAL)
}

/// The pool that a parameter is for.
fn pool_number(pool: u32) -> Result<u8> {
    match u8::try_from(pool) {
        Ok(pool) if usize::from(pool) < POOLS => Ok(pool),
        _ => Err(EINVAL),
    }
}

fn is_of_pool(param: u32) -> bool {
    matches!(
        param,
        uapi::flexsc_param_id_FLEXSC_PARAM_POOL_CPUS
            | uapi::flexsc_param_id_FLEXSC_PARAM_POOL_CONCURRENCY
            | uapi::flexsc_param_id_FLEXSC_PARAM_POOL_NICE
    )
}

/// Returns true for parameters whose value is a set of CPUs.
pub(crate) fn is_cpu_set(param: u32) -> bool {
    matches!(
        param,
        uapi::flexsc_param_id_FLEXSC_PARAM_POLL_CPUS
            | uapi::flexsc_param_id_FLEXSC_PARAM_POLLED_CPUS
            | uapi::flexsc_param_id_FLEXSC_PARAM_POOL_CPUS
    )
}

/// Parameters. A set of CPUs is a word here, so CPUs beyond 63 cannot be polled, and pools cannot
/// be bound to them. The ABI has no such limit.
impl Engine {
    /// SET.
    pub(crate) fn set(self: ArcBorrow<'_, Self>, pool: u32, param: u32, value: u64) -> Result {
        if is_of_pool(param) {
            return self.set_of_pool(pool_number(pool)?, param, value);
        }
        if pool != 0 {
            return Err(EINVAL);
        }
        match param {
            uapi::flexsc_param_id_FLEXSC_PARAM_POLL_CPUS => self.set_poll_cpus(value)?,
            uapi::flexsc_param_id_FLEXSC_PARAM_EXTRA_POLLERS => {
                self.set_extra_pollers(number(value)?)
            }
            uapi::flexsc_param_id_FLEXSC_PARAM_IDLE_NS => {
                if value > uapi::FLEXSC_MAX_IDLE_NS {
                    return Err(EINVAL);
                }
                self.set_idle_ns(value);
            }
            uapi::flexsc_param_id_FLEXSC_PARAM_MAX_THREADS => {
                let value = number(value)?;
                if value == 0 {
                    return Err(EINVAL);
                }
                self.set_max_threads(value);
            }
            uapi::flexsc_param_id_FLEXSC_PARAM_RETIRE_MS => self.set_retire_ms(number(value)?),
            uapi::flexsc_param_id_FLEXSC_PARAM_ORDER => self.set_order(OrderKind::try_from(value)?),
            uapi::flexsc_param_id_FLEXSC_PARAM_LOOP_MAX => {
                if value == 0 || value > uapi::FLEXSC_MAX_ROUNDS {
                    return Err(EINVAL);
                }
                self.set_loop_max(value);
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    /// GET.
    pub(crate) fn get_param(&self, pool: u32, param: u32) -> Result<u64> {
        if is_of_pool(param) {
            return self.get_of_pool(pool_number(pool)?, param);
        }
        if pool != 0 {
            return Err(EINVAL);
        }
        Ok(match param {
            uapi::flexsc_param_id_FLEXSC_PARAM_POLL_CPUS => self.pools.first().wished_cpus(),
            uapi::flexsc_param_id_FLEXSC_PARAM_EXTRA_POLLERS => {
                self.pools.first().extra_pollers().into()
            }
            uapi::flexsc_param_id_FLEXSC_PARAM_POLLED_CPUS => self.pools.first().polled_cpus(),
            uapi::flexsc_param_id_FLEXSC_PARAM_IDLE_NS => self.idle_ns(),
            uapi::flexsc_param_id_FLEXSC_PARAM_MAX_THREADS => self.max_threads().into(),
            uapi::flexsc_param_id_FLEXSC_PARAM_RETIRE_MS => self.retire_ms().into(),
            uapi::flexsc_param_id_FLEXSC_PARAM_ORDER => self.order() as u64,
            uapi::flexsc_param_id_FLEXSC_PARAM_LOOP_MAX => self.loop_max(),
            _ => return Err(EINVAL),
        })
    }

    /// SET of a parameter of one pool, which is created if it does not exist.
    fn set_of_pool(self: ArcBorrow<'_, Self>, pool: u8, param: u32, value: u64) -> Result {
        let change = Change::new(param, value)?;
        if let Change::Nice(nice) = change {
            // Requires the same rights as setpriority(2).
            let now = self.pools.get(pool).map(|pool| pool.settings.nice());
            if nice.value < now.unwrap_or_else(process::nice) && !nice.privileged {
                return Err(EACCES);
            }
            process::check_nice(nice.value)?;
        }
        let number = pool;
        let pool = self.pools.make(number)?;
        if number != 0 && !pool.has_threads() {
            self.spawn_patiently(number)?;
        }
        match change {
            Change::Cpus(cpus) => pool.settings.set_cpus(cpus),
            Change::Limit(limit) => pool.settings.set_limit(limit),
            Change::Nice(nice) => pool.settings.set_nice(nice),
        }
        let usable = match pool.settings.cpus() {
            0 => self.cpus().bits(),
            cpus => cpus,
        };
        pool.set_usable((usable & process::allowed_cpus()).count_ones());
        self.pools.open(pool);
        Ok(())
    }

    fn get_of_pool(&self, pool: u8, param: u32) -> Result<u64> {
        if !self.pools.set().has(pool) {
            return Err(ENOENT);
        }
        let settings = &self.pools.get(pool).ok_or(ENOENT)?.settings;
        Ok(match param {
            uapi::flexsc_param_id_FLEXSC_PARAM_POOL_CPUS => match settings.cpus() {
                0 => self.cpus().bits(),
                cpus => cpus,
            },
            uapi::flexsc_param_id_FLEXSC_PARAM_POOL_CONCURRENCY => settings.limit().into(),
            _ => i64::from(settings.nice()) as u64,
        })
    }

    /// SET POLL_CPUS.
    fn set_poll_cpus(self: ArcBorrow<'_, Self>, mask: u64) -> Result {
        if mask & !process::allowed_cpus() != 0 {
            return Err(EINVAL);
        }
        let first = self.pools.first();
        let before = first.wished_cpus();
        for _ in 0..first.set_wished_cpus(mask) {
            if let Err(e) = self.spawn_patiently(0) {
                first.set_wished_cpus(before);
                return Err(e);
            }
        }
        if !first.wants_pollers() {
            self.poll_no_more();
        }
        Ok(())
    }

    fn set_extra_pollers(self: ArcBorrow<'_, Self>, extra: u32) {
        self.pools.first().set_extra_pollers(extra);
    }
}

/// A checked change of a pool's settings.
enum Change {
    Cpus(u64),
    Limit(u32),
    Nice(Nice),
}

impl Change {
    fn new(param: u32, value: u64) -> Result<Self> {
        Ok(match param {
            uapi::flexsc_param_id_FLEXSC_PARAM_POOL_CPUS => {
                if value & !process::allowed_cpus() != 0 {
                    return Err(EINVAL);
                }
                Change::Cpus(value)
            }
            uapi::flexsc_param_id_FLEXSC_PARAM_POOL_CONCURRENCY => Change::Limit(number(value)?),
            _ => match i32::try_from(value as i64) {
                Ok(value @ -20..=19) => Change::Nice(Nice {
                    value,
                    privileged: process::may_renice(value),
                }),
                _ => return Err(EINVAL),
            },
        })
    }
}
