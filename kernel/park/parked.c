// SPDX-License-Identifier: GPL-2.0
/*
 * The wait of a parked call: entries in the wait queues of files, and a timer.
 *
 * The files are sockets, pipes, eventfds and timerfds. Their wait queues last as
 * long as the file, to which each call holds a reference, so none of them sends
 * POLLFREE.
 */
#include <linux/file.h>
#include <linux/sched/jobctl.h>

#include "parked.h"

/*
 * Returns true if it may take the owner an unbounded time to continue a call,
 * because it is stopped, traced or frozen, or about to be. A plain call would
 * not be in the queue then.
 */
static bool flexsc_is_held_up(struct task_struct *owner)
{
	return READ_ONCE(owner->jobctl) &
		(JOBCTL_STOPPED | JOBCTL_TRACED | JOBCTL_TRAP_FREEZE |
		 JOBCTL_PENDING_MASK) ||
	       READ_ONCE(owner->flags) & PF_EXITING ||
	       READ_ONCE(owner->__state) & TASK_FROZEN;
}

/* The caller has changed the state, so it is the only waker of this wait. */
static void flexsc_parked_tell(struct flexsc_parked *p, bool others)
{
	struct flexsc_parker *parker = p->parker;

	flexsc_trace_ready(p->call.nr, p->page * 64 + p->index, parker->owner);
	atomic64_or(BIT_ULL(p->index), &parker->ready[p->page]);
	flexsc_parker_tell(parker, p->page, others);
}

/* Take the wake-up, unless the call was already woken or does not wait. */
static bool flexsc_parked_woken(struct flexsc_parked *p)
{
	return atomic_cmpxchg(&p->state, FLEXSC_WAITS, FLEXSC_WOKEN) == FLEXSC_WAITS;
}

/*
 * Called by the task or interrupt that wakes the queue, with its lock held. The
 * lock keeps the call, and so its parker: flexsc_park_unhook() takes it.
 */
static int flexsc_park_wake(struct wait_queue_entry *entry, unsigned int mode,
			    int sync, void *key)
{
	struct flexsc_parked_wait *wait =
		container_of(entry, struct flexsc_parked_wait, entry);
	struct flexsc_parked *p = entry->private;
	__poll_t events = key_to_poll(key);
	bool takes;

	/* Without a key, any event may have happened. */
	if (events && !(events & wait->events))
		return 0;
	if (!flexsc_parked_woken(p))
		return 0;
	atomic64_inc(&p->parker->counts[FLEXSC_PARK_WOKEN]);
	list_del_init(&entry->entry);
	/* If this waiter is held up, an exclusive wake-up also goes to the next. */
	takes = entry->flags & WQ_FLAG_EXCLUSIVE &&
		!flexsc_is_held_up(p->parker->owner);
	if (takes)
		p->owed = true;
	flexsc_parked_tell(p, takes && !list_empty(&wait->head->head));
	return takes;
}

static void flexsc_park_time_out(struct flexsc_parked *p)
{
	WRITE_ONCE(p->timed_out, true);
	atomic64_inc(&p->parker->counts[FLEXSC_PARK_TIMED_OUT]);
}

static enum hrtimer_restart flexsc_park_timer(struct hrtimer *timer)
{
	struct flexsc_parked *p = container_of(timer, struct flexsc_parked, timer);

	flexsc_park_time_out(p);
	if (flexsc_parked_woken(p))
		flexsc_parked_tell(p, false);
	return HRTIMER_NORESTART;
}

/*
 * The wait of @p, which was just created, ends after this time or at it. The
 * end does not change if the call waits again.
 */
void flexsc_park_set_time(struct flexsc_parked *p, clockid_t clock, ktime_t time,
			  bool is_absolute)
{
	/* Many may expire at once, so not in a hard interrupt. */
	hrtimer_init(&p->timer, clock, HRTIMER_MODE_ABS_SOFT);
	p->timer.function = flexsc_park_timer;
	if (!is_absolute)
		time = ktime_add_safe(hrtimer_cb_get_time(&p->timer), time);
	hrtimer_set_expires_range_ns(&p->timer, time, current->timer_slack_ns);
	p->timed = true;
}

/* Returns the task that has posted the call. */
const struct task_struct *flexsc_park_owner(const struct flexsc_parked *p)
{
	return p->parker->owner;
}

/* Returns how long the call may still wait; zero or less if its time has expired. */
ktime_t flexsc_park_left(const struct flexsc_parked *p)
{
	return ktime_sub(hrtimer_get_softexpires(&p->timer),
			 p->timer.base->get_time());
}

/* Wait for events of a file. Returns false if no wait-queue entry is left. */
bool flexsc_park_queue(struct flexsc_parked *p, struct wait_queue_head *head,
		       __poll_t events, bool exclusive)
{
	struct flexsc_parked_wait *wait = &p->wait[p->waits];

	if (p->waits == p->most)
		return false;
	p->waits++;
	init_waitqueue_func_entry(&wait->entry, flexsc_park_wake);
	wait->entry.private = p;
	wait->head = head;
	wait->file = NULL;
	wait->events = events;
	if (exclusive)
		add_wait_queue_exclusive(head, &wait->entry);
	else
		add_wait_queue(head, &wait->entry);
	return true;
}

/* Returns true if the current task is one of the process whose call this is. */
bool flexsc_parked_is_ours(const struct flexsc_parked *p)
{
	return same_thread_group(current, p->parker->owner);
}

/*
 * After this function nothing wakes the call any more, and the entry is not
 * ready: otherwise a task that checks the bits would find it again and again.
 */
void flexsc_park_unhook(struct flexsc_parked *p)
{
	struct flexsc_parked_wait *wait;
	unsigned long flags;

	/* Only flexsc_park_arm() changes this. */
	if (atomic_read(&p->state) == FLEXSC_RESTS)
		return;
	for (wait = p->wait; wait < p->wait + p->waits; wait++) {
		/* Even if it is off the queue: the wake function may still be running. */
		spin_lock_irqsave(&wait->head->lock, flags);
		list_del_init(&wait->entry.entry);
		spin_unlock_irqrestore(&wait->head->lock, flags);
		if (wait->file)
			fput(wait->file);
		wait->file = NULL;
	}
	if (p->timed)
		hrtimer_cancel(&p->timer);
	atomic_set(&p->state, FLEXSC_RESTS);
	atomic64_andnot(BIT_ULL(p->index), &p->parker->ready[p->page]);
}

/*
 * Wait from now on. Unless the return value says that the call need not wait, the
 * caller must check afterwards whether it must.
 */
enum flexsc_park flexsc_park_arm(struct flexsc_parked *p)
{
	/* Earlier wake-ups must not end this wait. */
	flexsc_park_unhook(p);
	p->waits = 0;
	if (p->timed && !p->timed_out && flexsc_park_left(p) <= 0)
		flexsc_park_time_out(p);
	if (p->timed_out)
		return FLEXSC_PARK_READY;
	atomic_set(&p->state, FLEXSC_WAITS);
	if (p->timed)
		hrtimer_start_expires(&p->timer, HRTIMER_MODE_ABS_SOFT);
	return p->kind->arm(p);
}
