// SPDX-License-Identifier: GPL-2.0
/*
 * Tasks, sleeping, time, locks and files, for Rust: inline functions and macros
 * of the kernel, which Rust cannot call directly.
 */
#include <linux/bitops.h>
#include <linux/cred.h>
#include <linux/hrtimer.h>
#include <linux/module.h>
#include <linux/nsproxy.h>
#include <linux/overflow.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/spinlock.h>
#include <linux/syscall_thread.h>
#include <linux/time_namespace.h>

#include "../helpers.h"

MODULE_IMPORT_NS(SYSCALL_THREADS);

/* Returns the id of the current task's user in the initial user namespace. */
unsigned int flexsc_current_user(void)
{
	return __kuid_val(current_uid());
}

/* One function per lock class: the macro has a static lockdep key. */
void flexsc_lock_init_pages(raw_spinlock_t *lock)
{
	raw_spin_lock_init(lock);
}

void flexsc_lock_init_pool(raw_spinlock_t *lock)
{
	raw_spin_lock_init(lock);
}

void flexsc_lock_init_slots(raw_spinlock_t *lock)
{
	raw_spin_lock_init(lock);
}

void flexsc_lock(raw_spinlock_t *lock)
{
	raw_spin_lock(lock);
}

void flexsc_unlock(raw_spinlock_t *lock)
{
	raw_spin_unlock(lock);
}

struct task_struct *flexsc_current(void)
{
	return current;
}

/* Returns true if @task is the current task, or the current task executes its call. */
bool flexsc_is_caller(const struct task_struct *task)
{
	return task == syscall_caller();
}

struct mm_struct *flexsc_current_mm(void)
{
	return current->mm;
}

struct pid *flexsc_current_tgid(void)
{
	return task_tgid(current);
}

bool flexsc_signal_pending(void)
{
	return signal_pending(current);
}

/*
 * Between two entries: let other tasks run, and report a quiescent state of
 * tasks-RCU, for tracers. A syscall thread also does what other tasks do on
 * their way to user space. Returns true if a signal is pending.
 */
bool flexsc_resched(void)
{
	cond_resched_tasks_rcu_qs();
	syscall_thread_user_work();
	return signal_pending(current);
}

void flexsc_relax(void)
{
	cpu_relax();
}

/*
 * Sleeping: prepare, check the condition once more, then sleep or cancel. The
 * barrier of flexsc_sleep_prepare() pairs with the one in wake_up_process().
 */
void flexsc_sleep_prepare(void)
{
	set_current_state(TASK_INTERRUPTIBLE);
}

void flexsc_sleep_cancel(void)
{
	__set_current_state(TASK_RUNNING);
}

/* Returns the jiffies left, 0 after a timeout. A time < 0 means no timeout. */
long flexsc_sleep(long timeout_ms)
{
	long left = 1;

	if (timeout_ms < 0)
		schedule();
	else
		left = schedule_timeout(msecs_to_jiffies(timeout_ms) + 1);
	/* Stay on the stack in sleep: /proc/PID/wchan shows this function's name. */
	barrier();
	return left;
}

/* Sleep until CLOCK_MONOTONIC reaches @when_ns. Returns 0 if it has. */
int flexsc_sleep_until(u64 when_ns)
{
	ktime_t expires = min_t(u64, when_ns, KTIME_MAX);
	int ret;

	ret = schedule_hrtimeout_range(&expires, current->timer_slack_ns,
				       HRTIMER_MODE_ABS);
	/* As above. */
	barrier();
	return ret;
}

u64 flexsc_now_ns(void)
{
	return ktime_get_ns();
}

/*
 * Convert CLOCK_MONOTONIC from the current task's time namespace to the host's.
 * timens_ktime_to_host() is not exported to modules.
 */
u64 flexsc_monotonic_to_host(u64 when_ns)
{
#ifdef CONFIG_TIME_NS
	const struct time_namespace *ns = current->nsproxy->time_ns;
	s64 offset = timespec64_to_ns(&ns->offsets.monotonic);

	if (offset >= 0)
		return when_ns > offset ? when_ns - offset : 0;
	if (check_sub_overflow(when_ns, offset, &when_ns))
		return U64_MAX;
#endif
	return when_ns;
}

void flexsc_mb(void)
{
	smp_mb();
}

/* Returns the number of set bits; one instruction on most processors. */
unsigned int flexsc_weight(u64 bits)
{
	return hweight64(bits);
}

/* Warn, once, about an event that should be impossible. */
void flexsc_warn(void)
{
	WARN_ON_ONCE(1);
}

void flexsc_mm_grab(struct mm_struct *mm)
{
	mmgrab(mm);
}

void flexsc_mm_drop(struct mm_struct *mm)
{
	mmdrop(mm);
}

struct pid *flexsc_get_pid(struct pid *pid)
{
	return get_pid(pid);
}

/*
 * @name has room for TASK_COMM_LEN bytes, which is not enough for all digits of
 * @engine and @pool: the last five of @engine are shown.
 */
void flexsc_thread_name(char *name, unsigned int engine, unsigned int pool)
{
	snprintf(name, TASK_COMM_LEN, "flexsc-%u:%u", engine % 100000, pool);
}

void flexsc_seq_u64(struct seq_file *m, const char *name, u64 value)
{
	seq_printf(m, "%s:\t%llu\n", name, value);
}
