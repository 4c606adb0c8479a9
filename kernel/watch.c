// SPDX-License-Identifier: GPL-2.0
/*
 * Looks twice a second whether a process has a thread left that runs in user
 * space. Its syscall threads can not do that for themselves: all of them may be
 * blocked in calls, and at a limit none idles beside them.
 */
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "helpers.h"

#define FLEXSC_WATCH_TICKS	(HZ / 2)

struct flexsc_watch {
	struct delayed_work work;
	struct pid *tgid;
	void (*orphaned)(void *data);
	void *data;
};

/* Has the last thread that runs in user space ended? */
static bool flexsc_is_orphaned(struct pid *tgid)
{
	struct task_struct *leader, *t;
	bool orphaned = true;

	rcu_read_lock();
	leader = pid_task(tgid, PIDTYPE_TGID);
	if (leader) {
		for_each_thread(leader, t) {
			if (!(READ_ONCE(t->flags) & (PF_USER_WORKER | PF_EXITING))) {
				orphaned = false;
				break;
			}
		}
	}
	rcu_read_unlock();
	return orphaned;
}

static void flexsc_watch_work(struct work_struct *work)
{
	struct flexsc_watch *w = container_of(to_delayed_work(work), struct flexsc_watch, work);

	if (flexsc_is_orphaned(w->tgid))
		w->orphaned(w->data);
	else
		queue_delayed_work(system_power_efficient_wq, &w->work, FLEXSC_WATCH_TICKS);
}

/* Begins to watch the current process; calls orphaned(data) at most once. */
struct flexsc_watch *flexsc_watch_new(void (*orphaned)(void *data), void *data)
{
	struct flexsc_watch *w = kzalloc(sizeof(*w), GFP_KERNEL_ACCOUNT);

	if (w) {
		INIT_DELAYED_WORK(&w->work, flexsc_watch_work);
		w->tgid = get_pid(task_tgid(current));
		w->orphaned = orphaned;
		w->data = data;
		queue_delayed_work(system_power_efficient_wq, &w->work, FLEXSC_WATCH_TICKS);
	}
	return w;
}

/* Ends it; orphaned() is not called any more when this returns. */
void flexsc_watch_free(struct flexsc_watch *w)
{
	cancel_delayed_work_sync(&w->work);
	put_pid(w->tgid);
	kfree(w);
}
