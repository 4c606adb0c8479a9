// SPDX-License-Identifier: GPL-2.0
/*
 * Work that the scheduler's hook must not do itself, because it loops over
 * registrations. irq_work starts a kworker, which does it.
 */
#include <linux/irq_work.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "helpers.h"

struct flexsc_deferred {
	struct irq_work irq;
	struct delayed_work work;
	/* Returns the milliseconds after which to call it again; 0: not again. */
	unsigned int (*run)(void *data);
	void *data;
};

static void flexsc_deferred_work(struct work_struct *work)
{
	struct flexsc_deferred *d =
		container_of(to_delayed_work(work), struct flexsc_deferred, work);
	unsigned int again_ms = d->run(d->data);

	if (again_ms)
		queue_delayed_work(system_unbound_wq, &d->work,
				   msecs_to_jiffies(again_ms));
}

static void flexsc_deferred_irq(struct irq_work *irq)
{
	struct flexsc_deferred *d = container_of(irq, struct flexsc_deferred, irq);

	mod_delayed_work(system_unbound_wq, &d->work, 0);
}

/* Does nothing before flexsc_deferred_start(). */
struct flexsc_deferred *flexsc_deferred_new(void)
{
	struct flexsc_deferred *d = kzalloc(sizeof(*d), GFP_KERNEL_ACCOUNT);

	if (d) {
		init_irq_work(&d->irq, flexsc_deferred_irq);
		INIT_DELAYED_WORK(&d->work, flexsc_deferred_work);
		disable_delayed_work_sync(&d->work);
	}
	return d;
}

/* From now on, each flexsc_deferred_trigger() leads to a call of @run with @data. */
void flexsc_deferred_start(struct flexsc_deferred *d,
			   unsigned int (*run)(void *data), void *data)
{
	d->run = run;
	d->data = data;
	enable_delayed_work(&d->work);
}

/* May be called in the scheduler's hook. */
void flexsc_deferred_trigger(struct flexsc_deferred *d)
{
	irq_work_queue(&d->irq);
}

/* After this call @run does not run, in spite of any trigger. Returns the data. */
void *flexsc_deferred_stop(struct flexsc_deferred *d)
{
	void *data = d->data;

	disable_delayed_work_sync(&d->work);
	d->data = NULL;
	return data;
}

/* @d was stopped or never started; there are no more triggers. */
void flexsc_deferred_free(struct flexsc_deferred *d)
{
	irq_work_sync(&d->irq);
	kfree(d);
}
