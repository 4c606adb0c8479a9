// SPDX-License-Identifier: GPL-2.0
/*
 * Notify programs that wait with poll(), epoll or an eventfd that results are
 * ready. The scheduler's hook may publish results but must not wake wait
 * queues, so irq_work does it.
 */
#include <linux/eventfd.h>
#include <linux/irq_work.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "../helpers.h"

struct flexsc_notifier {
	/* True once a task has waited or set an eventfd. First field: Rust reads it. */
	unsigned int watched;
	struct irq_work work;
	wait_queue_head_t waiters;
	/* Protected by waiters.lock. */
	struct eventfd_ctx *eventfd;
};

static void flexsc_notifier_work(struct irq_work *work)
{
	struct flexsc_notifier *n = container_of(work, struct flexsc_notifier, work);
	unsigned long flags;

	spin_lock_irqsave(&n->waiters.lock, flags);
	wake_up_locked_poll(&n->waiters, EPOLLIN | EPOLLRDNORM);
	if (n->eventfd)
		eventfd_signal(n->eventfd);
	spin_unlock_irqrestore(&n->waiters.lock, flags);
}

struct flexsc_notifier *flexsc_notifier_new(void)
{
	struct flexsc_notifier *n = kzalloc(sizeof(*n), GFP_KERNEL_ACCOUNT);

	if (n) {
		init_irq_work(&n->work, flexsc_notifier_work);
		init_waitqueue_head(&n->waiters);
	}
	return n;
}

/* The caller ensures that flexsc_notifier_signal() is no longer called. */
void flexsc_notifier_free(struct flexsc_notifier *n)
{
	irq_work_sync(&n->work);
	if (n->eventfd)
		eventfd_ctx_put(n->eventfd);
	kfree(n);
}

/*
 * Results were published. The caller saw @n->watched set after a full barrier,
 * which pairs with the barriers in poll_wait() and in
 * flexsc_notifier_set_eventfd(): either we see the waiter, or it sees the result.
 */
void flexsc_notifier_signal(struct flexsc_notifier *n)
{
	if (waitqueue_active(&n->waiters) || READ_ONCE(n->eventfd))
		irq_work_queue(&n->work);
}

/* The caller must check the results after this call, not before. */
void flexsc_notifier_poll(struct flexsc_notifier *n, struct file *file,
			  struct poll_table_struct *table)
{
	WRITE_ONCE(n->watched, 1);
	poll_wait(file, &n->waiters, table);
}

/* From now on, signal eventfd @fd, or none if @fd is negative. */
int flexsc_notifier_set_eventfd(struct flexsc_notifier *n, int fd)
{
	struct eventfd_ctx *ctx = NULL, *old;

	if (fd >= 0) {
		ctx = eventfd_ctx_fdget(fd);
		if (IS_ERR(ctx))
			return PTR_ERR(ctx);
	}
	spin_lock_irq(&n->waiters.lock);
	old = n->eventfd;
	WRITE_ONCE(n->eventfd, ctx);
	if (ctx)
		WRITE_ONCE(n->watched, 1);
	spin_unlock_irq(&n->waiters.lock);
	/* Pairs with flexsc_notifier_signal(): later results are signalled. */
	smp_mb();
	if (old)
		eventfd_ctx_put(old);
	return 0;
}
