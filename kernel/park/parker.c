// SPDX-License-Identifier: GPL-2.0
/*
 * What the parked calls of a registration share: which of them are ready, and who
 * continues them.
 */
#include <linux/sched.h>

#include "parker.h"

/*
 * How long a call is left to an owner that runs in user space: the owner often
 * returns to WAIT within this time, and a thread costs two context switches.
 */
#define FLEXSC_GRACE_NS	(250 * NSEC_PER_USEC)

/* The owner has not returned in time. */
enum hrtimer_restart flexsc_parker_grace(struct hrtimer *timer)
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
void flexsc_parker_tell(struct flexsc_parker *parker, unsigned int page,
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
