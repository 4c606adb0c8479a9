// SPDX-License-Identifier: GPL-2.0
/*
 * Calls that wait without a thread. Entries in the wait queues of files, and a
 * timer, represent the call. The kinds of calls are in park/.
 *
 * The files are sockets, pipes, eventfds and timerfds. Their wait queues last as
 * long as the file, to which each call holds a reference, so none of them sends
 * POLLFREE.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/sched/jobctl.h>
#include <linux/sched/task.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>

#include "park/park.h"

/*
 * How long a call is left to an owner that runs in user space: the owner often
 * returns to WAIT within this time, and a thread costs two context switches.
 */
#define FLEXSC_GRACE_NS	(250 * NSEC_PER_USEC)

/* The owner has not returned in time. */
static enum hrtimer_restart flexsc_parker_grace(struct hrtimer *timer)
{
	struct flexsc_parker *parker =
		container_of(timer, struct flexsc_parker, grace);

	/* Pairs with flexsc_park_wake(), which leaves a queued timer alone. */
	smp_mb();
	if (READ_ONCE(parker->attention) == FLEXSC_AWAY &&
	    atomic64_read(&parker->pages))
		flexsc_deferred_trigger_now(parker->later);
	return HRTIMER_NORESTART;
}

struct flexsc_parker *flexsc_parker_new(struct task_struct *owner,
					struct flexsc_deferred *later,
					unsigned int pages)
{
	struct flexsc_parker *parker =
		kzalloc(struct_size(parker, ready, pages), GFP_KERNEL_ACCOUNT);

	if (parker) {
		parker->owner = get_task_struct(owner);
		parker->later = later;
		hrtimer_init(&parker->grace, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
		parker->grace.function = flexsc_parker_grace;
	}
	return parker;
}

/* No call is parked any more. */
void flexsc_parker_free(struct flexsc_parker *parker)
{
	hrtimer_cancel(&parker->grace);
	flexsc_parker_free_memory(parker);
	put_task_struct(parker->owner);
	kfree(parker);
}

/* A caller that leaves or sleeps must check for ready entries after this. */
void flexsc_parker_attend(struct flexsc_parker *parker, int attention)
{
	WRITE_ONCE(parker->attention, attention);
	/* Pairs with flexsc_park_wake(). */
	smp_mb();
}

bool flexsc_parker_attends(const struct flexsc_parker *parker)
{
	return READ_ONCE(parker->attention) != FLEXSC_AWAY;
}

/* Returns the pages with entries whose files are ready, one bit for each. */
u64 flexsc_parker_ready(const struct flexsc_parker *parker)
{
	return atomic64_read(&parker->pages);
}

/*
 * Take the ready entries of @parked. Other entries keep their ready bits, but
 * the page's bit is cleared, so they are not found before
 * flexsc_parker_parked(): they are being parked now, or CANCEL has just taken
 * them.
 */
u64 flexsc_parker_take(struct flexsc_parker *parker, unsigned int page,
		       u64 parked)
{
	/* In this order: setting an entry's bit later sets the page's bit again. */
	atomic64_fetch_andnot(BIT_ULL(page), &parker->pages);
	return atomic64_fetch_andnot(parked, &parker->ready[page]) & parked;
}

u64 flexsc_parker_counted(const struct flexsc_parker *parker,
			  enum flexsc_park_count what)
{
	return atomic64_read(&parker->counts[what]);
}

/*
 * The owner left WAIT. A call does not wait for the owner if another waiter could
 * have been woken instead, or if the owner sleeps.
 */
static void flexsc_parker_away(struct flexsc_parker *parker, bool others)
{
	if (others || !task_is_running(parker->owner))
		flexsc_deferred_trigger_now(parker->later);
	else if (!hrtimer_is_queued(&parker->grace))
		hrtimer_start(&parker->grace, ns_to_ktime(FLEXSC_GRACE_NS),
			      HRTIMER_MODE_REL);
}

/* An entry of @page is ready. @others: another waiter could have been woken instead. */
static void flexsc_parker_tell(struct flexsc_parker *parker, unsigned int page,
			       bool others)
{
	atomic64_or(BIT_ULL(page), &parker->pages);
	/* Pairs with flexsc_parker_attend(): it sees the bits, or we see its store. */
	smp_mb();
	switch (READ_ONCE(parker->attention)) {
	case FLEXSC_AWAY:
		/* A later task checks the file, and finds it ready. */
		flexsc_parker_away(parker, others);
		break;
	case FLEXSC_SLEEPS:
		wake_up_process(parker->owner);
		break;
	}
}

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

/*
 * Prepare to park a call, for its owner. Returns NULL if the call cannot be
 * parked, or if memory is short.
 */
struct flexsc_parked *flexsc_parked_new(struct flexsc_parker *parker,
					unsigned int page, unsigned int index,
					const struct flexsc_parked_call *call)
{
	const struct seccomp_filter *asked = NULL;
	struct pt_regs *regs = task_pt_regs(current);
	struct flexsc_parked *p;

	/* Audit and tracepoints must see the beginning of the call. */
	arch_syscall_frame_args(regs, call->args);
	if (syscall_allows_self(regs, call->nr, &asked))
		return NULL;
	switch (call->nr) {
	case __NR_poll:
	case __NR_ppoll:
		p = flexsc_park_poll(parker, call);
		break;
	case __NR_nanosleep:
	case __NR_clock_nanosleep:
		p = flexsc_park_sleep(parker, call);
		break;
	default:
		p = flexsc_park_file(parker, call);
	}
	if (p) {
		p->page = page;
		p->index = index;
		p->asked = asked;
	}
	return p;
}

/* Returns true if the current task is one of the process whose call this is. */
bool flexsc_parked_is_ours(const struct flexsc_parked *p)
{
	return same_thread_group(current, p->parker->owner);
}

const struct flexsc_parked_call *flexsc_parked_call(const struct flexsc_parked *p)
{
	return &p->call;
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

/*
 * The call is parked from now on. No task has found earlier wake-ups of the call.
 */
void flexsc_parker_parked(struct flexsc_parker *parker, unsigned int page,
			  unsigned int index)
{
	atomic64_inc(&parker->counts[FLEXSC_PARK_PARKED]);
	/* Pairs with flexsc_parker_take(): it finds the entry parked, or we see the bit. */
	smp_mb();
	if (atomic64_read(&parker->ready[page]) & BIT_ULL(index))
		flexsc_parker_tell(parker, page, false);
}

/* Returns true if the call has sent any bytes since the last time. */
bool flexsc_parked_advances(struct flexsc_parked *p)
{
	bool advances = p->advances;

	p->advances = false;
	return advances;
}

/* A wake-up of @p was spurious, if it has sent nothing. Returns how many were. */
unsigned int flexsc_parked_in_vain(struct flexsc_parked *p)
{
	/* The event of the wake-up is gone. */
	p->owed = false;
	if (flexsc_parked_advances(p))
		return p->vain;
	atomic64_inc(&p->parker->counts[FLEXSC_PARK_VAIN]);
	return ++p->vain;
}

/* Returns true if a part of the call was made: it must not be made again. */
bool flexsc_parked_has_begun(const struct flexsc_parked *p)
{
	return p->part.sent;
}

void flexsc_parked_end(struct flexsc_parked *p, long result)
{
	p->result = result;
}

/* Pass an exclusive wake-up that the call has not used to the next waiter. */
void flexsc_parked_free(struct flexsc_parked *p)
{
	flexsc_park_unhook(p);
	if (p->owed && flexsc_file_wakes_next(p)) {
		atomic64_inc(&p->parker->counts[FLEXSC_PARK_PASSED]);
		wake_up_interruptible_poll(p->wait[0].head,
					   p->sends ? EPOLLOUT | EPOLLWRNORM :
						      EPOLLIN | EPOLLRDNORM);
	}
	if (p->file)
		fput(p->file);
	flexsc_parked_free_memory(p);
	/* A syscall thread may sleep for a long time, so close the file now. */
	syscall_thread_user_work();
}

struct syscall_outcome flexsc_parked_try(struct flexsc_parked *p,
					 struct pt_regs *regs)
{
	return p->kind->try(p, regs);
}

struct syscall_outcome flexsc_parked_invoke(struct flexsc_parked *p,
					    struct task_struct *owner,
					    struct pt_regs *regs)
{
	return p->kind->invoke(p, owner, regs);
}

/* CANCEL has ended the call. Returns its result. */
long flexsc_parked_cancel(struct flexsc_parked *p)
{
	return p->kind->cancel(p);
}
