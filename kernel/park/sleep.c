// SPDX-License-Identifier: GPL-2.0
/* nanosleep() and clock_nanosleep(): both wait only for a time. */
#include <linux/nsproxy.h>
#include <linux/time64.h>
#include <linux/time_namespace.h>

#include "parked.h"

static enum flexsc_park flexsc_arm_sleep(struct flexsc_parked *p)
{
	return FLEXSC_PARK_WAITS;
}

static struct syscall_outcome flexsc_slept(const struct flexsc_parked *p)
{
	return READ_ONCE(p->timed_out) ? (struct syscall_outcome) { } :
					 flexsc_not_made(-EAGAIN);
}

static struct syscall_outcome flexsc_try_sleep(struct flexsc_parked *p,
					       struct pt_regs *regs)
{
	return flexsc_slept(p);
}

/* The call reaches a thread only when its time has expired. */
static struct syscall_outcome flexsc_invoke_sleep(struct flexsc_parked *p,
						  struct task_struct *owner,
						  struct pt_regs *regs)
{
	struct syscall_outcome out = flexsc_slept(p);

	if (out.error)
		out = (struct syscall_outcome) { .value = -EINTR };
	return out;
}

/* The clocks that can be slept on, and the places of the arguments. */
struct flexsc_sleep {
	clockid_t clock;
	bool is_absolute;
	const void __user *time;
	void __user *left;
};

static bool flexsc_sleep_of(const struct flexsc_parked_call *call,
			    struct flexsc_sleep *s)
{
	unsigned int at = call->nr == __NR_clock_nanosleep ? 2 : 0;

	s->clock = at ? call->args[0] : CLOCK_MONOTONIC;
	s->is_absolute = at && call->args[1] & TIMER_ABSTIME;
	s->time = (void __user *)call->args[at];
	s->left = s->is_absolute ? NULL : (void __user *)call->args[at + 1];
	switch (s->clock) {
	case CLOCK_REALTIME:
	case CLOCK_MONOTONIC:
	case CLOCK_BOOTTIME:
	case CLOCK_TAI:
		return true;
	}
	return false;
}

/* Like an interrupted plain call. */
static long flexsc_cancel_sleep(struct flexsc_parked *p)
{
	struct timespec64 left;
	struct flexsc_sleep s;

	if (!flexsc_sleep_of(&p->call, &s) || !s.left)
		return -EINTR;
	if (flexsc_park_left(p) <= 0)
		return 0;
	left = ktime_to_timespec64(flexsc_park_left(p));
	return put_timespec64(&left, s.left) ? -EFAULT : -EINTR;
}

static const struct flexsc_park_kind flexsc_park_sleeps = {
	.arm = flexsc_arm_sleep,
	.try = flexsc_try_sleep,
	.invoke = flexsc_invoke_sleep,
	.cancel = flexsc_cancel_sleep,
};

/* Like timens_ktime_to_host(). */
static ktime_t flexsc_sleep_to_host(clockid_t clock, ktime_t time)
{
#ifdef CONFIG_TIME_NS
	const struct timens_offsets *offsets = &current->nsproxy->time_ns->offsets;
	ktime_t offset;

	switch (clock) {
	case CLOCK_MONOTONIC:
		offset = timespec64_to_ktime(offsets->monotonic);
		break;
	case CLOCK_BOOTTIME:
		offset = timespec64_to_ktime(offsets->boottime);
		break;
	default:
		return time;
	}
	if (time < offset)
		return 0;
	time = ktime_sub(time, offset);
	return time < 0 ? KTIME_MAX : time;
#else
	return time;
#endif
}

struct flexsc_parked *flexsc_park_sleep(struct flexsc_parker *parker,
					const struct flexsc_parked_call *call)
{
	struct flexsc_parked *p;
	struct timespec64 ts;
	struct flexsc_sleep s;
	ktime_t time;

	/* A plain call reports the error. */
	if (!flexsc_sleep_of(call, &s) || get_timespec64(&ts, s.time) ||
	    !timespec64_valid(&ts))
		return NULL;
	time = timespec64_to_ktime(ts);
	if (s.is_absolute)
		time = flexsc_sleep_to_host(s.clock, time);
	/* A relative time does not change if the clock is set. */
	else if (s.clock == CLOCK_REALTIME)
		s.clock = CLOCK_MONOTONIC;
	p = flexsc_parked_alloc(parker, &flexsc_park_sleeps, call, 0);
	if (p)
		flexsc_park_set_time(p, s.clock, time, s.is_absolute);
	return p;
}
