// SPDX-License-Identifier: GPL-2.0
/*
 * What the scheduler's hook finds and may not do itself, because it is a loop
 * over registrations: done by a kworker, which irq_work starts.
 */
#include <linux/irq_work.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "helpers.h"

struct flexsc_deferred {
	struct irq_work irq;
	struct delayed_work work;
	/* Returns after how many milliseconds to call it again, or 0. */
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

/* Call @run with @data whenever flexsc_deferred_trigger() is called from now on. */
void flexsc_deferred_start(struct flexsc_deferred *d,
			   unsigned int (*run)(void *data), void *data)
{
	d->run = run;
	d->data = data;
	enable_delayed_work(&d->work);
}

/* Allowed in the scheduler's hook. */
void flexsc_deferred_trigger(struct flexsc_deferred *d)
{
	irq_work_queue(&d->irq);
}

/* The function does not run any more, whoever asks for it. Returns the data. */
void *flexsc_deferred_stop(struct flexsc_deferred *d)
{
	void *data = d->data;

	disable_delayed_work_sync(&d->work);
	d->data = NULL;
	return data;
}

/* Stopped or never started; nobody asks for it any more. */
void flexsc_deferred_free(struct flexsc_deferred *d)
{
	irq_work_sync(&d->irq);
	kfree(d);
}
