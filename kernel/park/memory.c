// SPDX-License-Identifier: GPL-2.0
/* The memory of parked calls and of what they share. */
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "parked.h"

/*
 * How many ended calls a registration keeps for the next ones, which saves an
 * accounted allocation for each. With one, KASAN sees the end of most calls.
 */
#define FLEXSC_SPARES	(IS_ENABLED(CONFIG_KASAN) ? 1 : 64)

/* Most calls wait for one file; a call that waits for a time has no use for the room. */
static struct flexsc_parked *flexsc_parked_memory(struct flexsc_parker *parker,
						  unsigned int waits)
{
	struct flexsc_parked *p;
	struct llist_node *spare = NULL;

	if (waits <= 1)
		spare = llist_del_first(&parker->spare);
	if (!spare)
		return kmalloc(struct_size(p, wait, max(waits, 1u)),
			       GFP_KERNEL_ACCOUNT);
	atomic_dec(&parker->spares);
	return llist_entry(spare, struct flexsc_parked, spare);
}

/* After this, @p may be another call. */
void flexsc_parked_free_memory(struct flexsc_parked *p)
{
	struct flexsc_parker *parker = p->parker;

	WARN_ON_ONCE(atomic_read(&p->state) != FLEXSC_RESTS ||
		     (p->timed && hrtimer_active(&p->timer)));
	if (p->most > 1 || atomic_read(&parker->spares) >= FLEXSC_SPARES) {
		kfree(p);
		return;
	}
	atomic_inc(&parker->spares);
	llist_add(&p->spare, &parker->spare);
}

/* For the owner. */
struct flexsc_parked *flexsc_parked_alloc(struct flexsc_parker *parker,
					  const struct flexsc_park_kind *kind,
					  const struct flexsc_parked_call *call,
					  unsigned int waits)
{
	struct flexsc_parked *p = flexsc_parked_memory(parker, waits);

	if (p) {
		memset(p, 0, offsetof(struct flexsc_parked, timer));
		p->parker = parker;
		p->kind = kind;
		p->call = *call;
		p->result = -ECANCELED;
		p->most = waits;
	}
	return p;
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
	struct flexsc_parked *p, *next;

	hrtimer_cancel(&parker->grace);
	llist_for_each_entry_safe(p, next, llist_del_all(&parker->spare), spare)
		kfree(p);
	put_task_struct(parker->owner);
	kfree(parker);
}
