// SPDX-License-Identifier: GPL-2.0
/*
 * Work that the scheduler's hook must not do itself, because the work loops
 * over registrations. irq_work starts a kworker for it.
 *
 * Programs determine how often tasks ask for a run: a poller may block in each
 * call. So there is a pause between two runs, in which a request costs next to
 * nothing. Parked calls that are ready do not wait for the pause: they have
 * work of their own, which does nothing else.
 */
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "../helpers.h"

/* Time between the starts of two runs. */
#define FLEXSC_DEFERRED_PAUSE msecs_to_jiffies(10)

struct flexsc_deferred {
	struct irq_work irq;
	struct delayed_work work;
	struct work_struct ready_work;
	/* A run will begin; no task needs to request it. */
	unsigned int is_asked;
	/* The same for @ready_work. */
	unsigned int is_urgent;
	/* When the last run began. */
	unsigned long last;
	/* Returns the milliseconds until the next call; 0 for none. */
	unsigned int (*run)(void *data);
	void (*run_ready)(void *data);
	void *data;
};

static void flexsc_deferred_work(struct work_struct *work)
{
	struct flexsc_deferred *d =
		container_of(to_delayed_work(work), struct flexsc_deferred, work);
	unsigned int again_ms;

	WRITE_ONCE(d->last, jiffies);
	/*
	 * Pairs with the barrier of the trigger: either the trigger requests
	 * another run, or this run sees what happened before.
	 */
	smp_store_mb(d->is_asked, 0);
	again_ms = d->run(d->data);
	if (again_ms)
		queue_delayed_work(system_unbound_wq, &d->work,
				   msecs_to_jiffies(again_ms));
}

static void flexsc_deferred_ready(struct work_struct *work)
{
	struct flexsc_deferred *d =
		container_of(work, struct flexsc_deferred, ready_work);

	/* As above. */
	smp_store_mb(d->is_urgent, 0);
	d->run_ready(d->data);
}

static void flexsc_deferred_irq(struct irq_work *irq)
{
	struct flexsc_deferred *d = container_of(irq, struct flexsc_deferred, irq);
	unsigned long next = READ_ONCE(d->last) + FLEXSC_DEFERRED_PAUSE;
	unsigned long now = jiffies;

	if (READ_ONCE(d->is_urgent))
		queue_work(system_unbound_wq, &d->ready_work);
	if (READ_ONCE(d->is_asked))
		mod_delayed_work(system_unbound_wq, &d->work,
				 time_before(now, next) ? next - now : 0);
}

/* Triggers are not allowed before flexsc_deferred_start(). */
struct flexsc_deferred *flexsc_deferred_new(void)
{
	struct flexsc_deferred *d = kzalloc(sizeof(*d), GFP_KERNEL_ACCOUNT);

	if (d) {
		init_irq_work(&d->irq, flexsc_deferred_irq);
		INIT_DELAYED_WORK(&d->work, flexsc_deferred_work);
		INIT_WORK(&d->ready_work, flexsc_deferred_ready);
		d->last = jiffies - FLEXSC_DEFERRED_PAUSE;
		disable_delayed_work_sync(&d->work);
		disable_work_sync(&d->ready_work);
	}
	return d;
}

/*
 * From now on, a call of @run with @data begins after each flexsc_deferred_trigger(),
 * one call for all triggers of a pause, and a call of @run_ready soon after each
 * flexsc_deferred_trigger_now().
 */
void flexsc_deferred_start(struct flexsc_deferred *d,
			   unsigned int (*run)(void *data),
			   void (*run_ready)(void *data), void *data)
{
	d->run = run;
	d->run_ready = run_ready;
	d->data = data;
	enable_delayed_work(&d->work);
	enable_work(&d->ready_work);
}

/* May be called in the scheduler's hook. */
void flexsc_deferred_trigger(struct flexsc_deferred *d)
{
	if (!xchg(&d->is_asked, 1))
		irq_work_queue(&d->irq);
}

/* For parked calls that are ready: runs without the pause. */
void flexsc_deferred_trigger_now(struct flexsc_deferred *d)
{
	if (!xchg(&d->is_urgent, 1))
		irq_work_queue(&d->irq);
}

/* After this call neither function runs, whatever is triggered. Returns the data. */
void *flexsc_deferred_stop(struct flexsc_deferred *d)
{
	void *data = d->data;

	disable_delayed_work_sync(&d->work);
	disable_work_sync(&d->ready_work);
	d->data = NULL;
	return data;
}

/* @d was stopped or never started, and is no longer triggered. */
void flexsc_deferred_free(struct flexsc_deferred *d)
{
	irq_work_sync(&d->irq);
	kfree(d);
}
