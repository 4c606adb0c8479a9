// SPDX-License-Identifier: GPL-2.0
/*
 * poll(), and ppoll() without a mask: both wait for a few files and for a time.
 *
 * As in a plain call, each check uses the descriptor numbers in the program's
 * array. In between, the call is in the queues of the files that these named.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/net.h>
#include <linux/personality.h>
#include <linux/time64.h>
#include <linux/uaccess.h>
#include <net/sock.h>

#include "parked.h"

/* The array is copied to the stack. */
#define FLEXSC_POLL_FILES	16

/*
 * Returns true if poll() only checks the file, and the file has one queue that
 * lasts as long as the file. For other files poll() may sleep, or consume an
 * event.
 */
static bool flexsc_polls_quietly(const struct file *file)
{
	umode_t mode = file_inode(file)->i_mode;

	if (S_ISFIFO(mode))
		return true;
	if (IS_ENABLED(CONFIG_NET) && S_ISSOCK(mode)) {
		const struct socket *sock = sock_from_file((struct file *)file);

		return sock && flexsc_sock_is_known(sock->sk);
	}
	return flexsc_is_counter(file);
}

struct flexsc_poll_table {
	struct poll_table_struct table;
	struct flexsc_parked *p;
	bool is_full;
};

static void flexsc_poll_queue(struct file *file, struct wait_queue_head *head,
			      struct poll_table_struct *table)
{
	struct flexsc_poll_table *t =
		container_of(table, struct flexsc_poll_table, table);
	struct flexsc_parked *p = t->p;

	if (flexsc_park_queue(p, head, table->_key, false))
		p->wait[p->waits - 1].file = get_file(file);
	else
		t->is_full = true;
}

static enum flexsc_park flexsc_arm_poll_on(struct flexsc_parked *p,
					   const struct pollfd *fd)
{
	__poll_t events = demangle_poll(fd->events) | EPOLLERR | EPOLLHUP;
	struct flexsc_poll_table t = { .p = p };

	if (fd->fd < 0)
		return FLEXSC_PARK_WAITS;

	CLASS(fd, f)(fd->fd);
	/* The result is an event: POLLNVAL. */
	if (fd_empty(f))
		return FLEXSC_PARK_READY;
	if (!flexsc_polls_quietly(fd_file(f)))
		return FLEXSC_PARK_NOT;
	init_poll_funcptr(&t.table, flexsc_poll_queue);
	/* Not all bits: one of them would poll the network card. */
	t.table._key = events;
	events &= vfs_poll(fd_file(f), &t.table);
	if (t.is_full)
		return FLEXSC_PARK_NOT;
	return events ? FLEXSC_PARK_READY : FLEXSC_PARK_WAITS;
}

static enum flexsc_park flexsc_arm_poll(struct flexsc_parked *p)
{
	unsigned int n = min_t(unsigned int, p->call.args[1], FLEXSC_POLL_FILES);
	struct pollfd fds[FLEXSC_POLL_FILES], *fd;

	/* A plain call reports what is wrong with the array. */
	if (READ_ONCE(current_thread_info()->syscall_work) & ~SYSCALL_WORK_SECCOMP ||
	    copy_from_user(fds, (void __user *)p->call.args[0], n * sizeof(*fd)))
		return FLEXSC_PARK_NOT;
	for (fd = fds; fd < fds + n; fd++) {
		enum flexsc_park park = flexsc_arm_poll_on(p, fd);

		if (park != FLEXSC_PARK_WAITS)
			return park;
	}
	return FLEXSC_PARK_WAITS;
}

/* ppoll() reports how much of its time is left, like poll_select_finish(). */
static void flexsc_poll_end(struct flexsc_parked *p)
{
	struct timespec64 left;

	if (p->call.nr != __NR_ppoll || !p->call.args[2] ||
	    READ_ONCE(flexsc_park_owner(p)->personality) & STICKY_TIMEOUTS)
		return;
	left = ktime_to_timespec64(max_t(ktime_t, flexsc_park_left(p), 0));
	/* The program may have put the time into read-only memory. */
	if (put_timespec64(&left, (void __user *)p->call.args[2]))
		return;
}

/* The poll that stands for the call for the rest of its time. */
static struct syscall_instead flexsc_poll_for(const struct flexsc_parked *p,
					      int timeout_ms)
{
	return (struct syscall_instead) {
		.nr = __NR_poll,
		.args = { p->call.args[0], p->call.args[1], timeout_ms },
	};
}

static struct syscall_outcome flexsc_try_poll(struct flexsc_parked *p,
					      struct pt_regs *regs)
{
	/* Before the check: events after the time do not count. */
	bool timed_out = READ_ONCE(p->timed_out);
	struct syscall_instead look = flexsc_poll_for(p, 0);
	struct syscall_outcome out;
	int error;

	/* Audit and tracepoints would see a different call. */
	error = syscall_allows_self(regs, p->call.nr, &p->asked);
	if (error)
		return flexsc_not_made(error);
	out = syscall_invoke_instead_self(regs, p->call.nr, &look);
	/* There are no events, and a signal is pending. */
	if ((long)out.value == -ERESTART_RESTARTBLOCK)
		out.value = 0;
	if (!out.value && !timed_out)
		return flexsc_not_made(-EAGAIN);
	flexsc_poll_end(p);
	return out;
}

/*
 * How long a poll() of a thread waits at most. Little with lockdep, so that tests
 * need not wait for weeks.
 */
#define FLEXSC_POLL_MOST_MS	(IS_ENABLED(CONFIG_PROVE_LOCKING) ? 20 : INT_MAX)

/* Rounded up, as a time for poll(); -1: no limit. */
static int flexsc_poll_left_ms(const struct flexsc_parked *p)
{
	if (!p->timed)
		return -1;
	if (READ_ONCE(p->timed_out))
		return 0;
	return clamp_t(s64, DIV_ROUND_UP_ULL(max_t(s64, flexsc_park_left(p), 0),
					     NSEC_PER_MSEC), 0, FLEXSC_POLL_MOST_MS);
}

static struct syscall_outcome flexsc_invoke_poll(struct flexsc_parked *p,
						 struct task_struct *owner,
						 struct pt_regs *regs)
{
	struct syscall_instead rest = flexsc_poll_for(p, flexsc_poll_left_ms(p));
	struct syscall_outcome out;

	out = syscall_invoke_instead_for(owner, regs, p->call.nr, &p->asked, &rest);
	/* It was more than poll() can be told. */
	if (!out.error && !out.value && p->timed && flexsc_park_left(p) > 0)
		return flexsc_not_made(-EAGAIN);
	if (!out.error && (long)out.value >= 0)
		flexsc_poll_end(p);
	return out;
}

/* No events: an interrupted plain call returns the same. */
static long flexsc_cancel_poll(struct flexsc_parked *p)
{
	struct pollfd __user *fds = (void __user *)p->call.args[0];
	unsigned int i;

	flexsc_poll_end(p);
	for (i = 0; i < p->call.args[1]; i++)
		if (put_user(0, &fds[i].revents))
			return -EFAULT;
	return -EINTR;
}

static const struct flexsc_park_kind flexsc_park_polls = {
	.arm = flexsc_arm_poll,
	.try = flexsc_try_poll,
	.invoke = flexsc_invoke_poll,
	.cancel = flexsc_cancel_poll,
};

/* Take the time of the call. Returns false if a plain call must report an error. */
static bool flexsc_poll_time(const struct flexsc_parked_call *call, bool *timed,
			     ktime_t *time)
{
	struct timespec64 ts;

	if (call->nr == __NR_poll) {
		*timed = (int)call->args[2] >= 0;
		*time = ms_to_ktime((int)call->args[2]);
		return true;
	}
	*timed = call->args[2];
	if (!*timed)
		return true;
	if (get_timespec64(&ts, (void __user *)call->args[2]) ||
	    !timespec64_valid(&ts))
		return false;
	*time = timespec64_to_ktime(ts);
	/* A time of zero is not written back. */
	return *time != 0;
}

struct flexsc_parked *flexsc_park_poll(struct flexsc_parker *parker,
				       const struct flexsc_parked_call *call)
{
	struct flexsc_parked *p;
	bool timed = false;
	ktime_t time;

	/* A plain call compares the number with RLIMIT_NOFILE. */
	if (call->args[1] > min(FLEXSC_POLL_FILES, rlimit(RLIMIT_NOFILE)) ||
	    (call->nr == __NR_ppoll && call->args[3]) ||
	    !flexsc_poll_time(call, &timed, &time))
		return NULL;
	p = flexsc_parked_alloc(parker, &flexsc_park_polls, call, call->args[1]);
	if (p && timed)
		flexsc_park_set_time(p, CLOCK_MONOTONIC, time, false);
	return p;
}
