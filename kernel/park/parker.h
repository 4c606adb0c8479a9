/* SPDX-License-Identifier: GPL-2.0 */
/* What the parked calls of a registration share. */
#ifndef _FLEXSC_PARKER_H
#define _FLEXSC_PARKER_H

#include <linux/atomic.h>
#include <linux/hrtimer.h>
#include <linux/llist.h>

#include "../helpers.h"

/* State of one registration: the task to notify of ready files, and the ready entries. */
struct flexsc_parker {
	struct task_struct *owner;
	struct flexsc_deferred *later;
	struct hrtimer grace;
	int attention;			/* enum flexsc_attention */
	atomic_t spares;		/* length of @spare */
	struct llist_head spare;	/* only the owner takes from it */
	atomic64_t counts[FLEXSC_PARK_COUNTS];
	atomic64_t pages;		/* pages with any bit in @ready */
	atomic64_t ready[];		/* one bit for each entry of a page */
};

enum hrtimer_restart flexsc_parker_grace(struct hrtimer *timer);
void flexsc_parker_tell(struct flexsc_parker *parker, unsigned int page,
			bool others);

#endif /* _FLEXSC_PARKER_H */
