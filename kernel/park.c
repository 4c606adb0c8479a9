// SPDX-License-Identifier: GPL-2.0
/*
 * Calls that wait for their file without a thread: an entry in the file's wait
 * queue stands for the call.
 *
 * Such files are sockets and pipes. Their wait queues last as long as the file,
 * to which each call holds a reference, so none of them sends POLLFREE.
 */
#include <linux/atomic.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/net.h>
#include <linux/pipe_fs_i.h>
#include <linux/poll.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <linux/syscall_thread.h>
#include <linux/syscall_try.h>
#include <linux/wait.h>
#include <net/sock.h>

#include "helpers.h"

/* What ends the wait of a call that reads, receives or accepts. */
#define FLEXSC_EVENTS	(EPOLLIN | EPOLLRDNORM | EPOLLERR | EPOLLHUP | EPOLLRDHUP)

/* Those that change neither what is waited for nor for how long. */
#define FLEXSC_MSG	(MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC)

/*
 * For how long a call is left to an owner that runs in user space: it often
 * comes back to WAIT within that time, and a thread costs two switches.
 */
#define FLEXSC_GRACE_NS	(250 * NSEC_PER_USEC)

/* Of one registration: who is told that a file is ready, and of which entries. */
struct flexsc_parker {
	struct task_struct *owner;
	struct flexsc_deferred *later;
	struct hrtimer grace;
	int attention;			/* enum flexsc_attention */
	atomic64_t counts[FLEXSC_PARK_COUNTS];
	atomic64_t pages;		/* those with any bit in @ready */
	atomic64_t ready[];		/* one bit for each entry of a page */
};

struct flexsc_parked {
	struct wait_queue_entry wait;
	struct wait_queue_head *head;	/* where @wait is or was, or NULL */
	struct flexsc_parker *parker;
	struct file *file;
	struct flexsc_parked_call call;
	unsigned int page;
	unsigned int index;
	unsigned int vain;		/* times that it was woken in vain */
	long result;			/* of the call; < 0 if it was not made */
	bool woken;			/* protected by head->lock */
	bool is_pipe;
};

/* The owner has not come back. */
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
	put_task_struct(parker->owner);
	kfree(parker);
}

/* A caller that goes away, or to sleep, looks at what is ready after this. */
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
 * Take those of @parked that are ready. Others that are not parked yet keep
 * their bits, for the task that is parking them.
 */
u64 flexsc_parker_take(struct flexsc_parker *parker, unsigned int page,
		       u64 parked)
{
	u64 bits;

	/* In this order: a bit that comes later comes with its page's bit. */
	atomic64_fetch_andnot(BIT_ULL(page), &parker->pages);
	bits = atomic64_fetch_andnot(parked, &parker->ready[page]);
	if (bits & ~parked)
		atomic64_or(BIT_ULL(page), &parker->pages);
	return bits & parked;
}

/* The owner has parked a call. */
void flexsc_parker_parked(struct flexsc_parker *parker)
{
	atomic64_inc(&parker->counts[FLEXSC_PARK_PARKED]);
}

u64 flexsc_parker_counted(const struct flexsc_parker *parker,
			  enum flexsc_park_count what)
{
	return atomic64_read(&parker->counts[what]);
}

/*
 * The owner is not in WAIT. A call does not wait for it if another waiter could
 * have been woken instead, nor if it sleeps.
 */
static void flexsc_parker_away(struct flexsc_parker *parker, bool others)
{
	if (others || !task_is_running(parker->owner))
		flexsc_deferred_trigger_now(parker->later);
	else if (!hrtimer_is_queued(&parker->grace))
		hrtimer_start(&parker->grace, ns_to_ktime(FLEXSC_GRACE_NS),
			      HRTIMER_MODE_REL);
}

/*
 * Called by whoever wakes the queue, with its lock held, maybe in an interrupt.
 * The lock keeps @p and so its parker: flexsc_park_unhook() takes it.
 */
static int flexsc_park_wake(struct wait_queue_entry *wait, unsigned int mode,
			    int sync, void *key)
{
	struct flexsc_parked *p = container_of(wait, struct flexsc_parked, wait);
	struct flexsc_parker *parker = p->parker;
	__poll_t events = key_to_poll(key);

	/* Without a key anything may have happened. */
	if (events && !(events & FLEXSC_EVENTS))
		return 0;
	list_del_init(&wait->entry);
	p->woken = true;
	atomic64_inc(&parker->counts[FLEXSC_PARK_WOKEN]);
	flexsc_trace_ready(p->call.nr, p->page * 64 + p->index, parker->owner);

	atomic64_or(BIT_ULL(p->index), &parker->ready[p->page]);
	atomic64_or(BIT_ULL(p->page), &parker->pages);
	/* Pairs with flexsc_parker_attend(): it sees the bits, or we see it. */
	smp_mb();
	switch (READ_ONCE(parker->attention)) {
	case FLEXSC_AWAY:
		/* Whoever comes later looks at the file, and finds it ready. */
		flexsc_parker_away(parker, wait->flags & WQ_FLAG_EXCLUSIVE &&
				   !list_empty(&p->head->head));
		break;
	case FLEXSC_SLEEPS:
		wake_up_process(parker->owner);
		break;
	}
	return 1;
}

/* The call waits for what a listening socket or a datagram socket gives to one. */
static bool flexsc_sock_exclusive(const struct socket *sock)
{
	return sock->sk->sk_type != SOCK_STREAM ||
	       READ_ONCE(sock->sk->sk_state) == TCP_LISTEN;
}

/* Those of the sockets that a call is tried on, see sock_may_try_recv(). */
static bool flexsc_sock_parks(const struct socket *sock, bool accepts)
{
	const struct sock *sk = sock->sk;

	switch (READ_ONCE(sk->sk_family)) {
	case AF_INET:
	case AF_INET6:
		if (!sk_is_tcp(sk) && !sk_is_udp(sk))
			return false;
		break;
	case AF_NETLINK:
	case AF_PACKET:
	case AF_UNIX:
		break;
	default:
		return false;
	}
	/* With TLS or BPF in between, something else may be waited for. */
	if (READ_ONCE(sk->sk_prot) != sk->sk_prot_creator)
		return false;
	if (READ_ONCE(sk->sk_rcvtimeo) != MAX_SCHEDULE_TIMEOUT)
		return false;
	if (accepts)
		return READ_ONCE(sk->sk_state) == TCP_LISTEN;
	return READ_ONCE(sk->sk_state) != TCP_LISTEN &&
	       READ_ONCE(sk->sk_rcvlowat) <= 1;
}

/* Would a call that has to wait do nothing else until the file wakes it? */
static bool flexsc_parks(struct file *file, const struct flexsc_parked_call *call)
{
	struct socket *sock = NULL;
	bool accepts = false;

	/* Audit and tracepoints shall see the call begin. */
	if (READ_ONCE(current_thread_info()->syscall_work))
		return false;
	if (!(file->f_mode & FMODE_NOWAIT) || !(file->f_mode & FMODE_STREAM))
		return false;
	if (IS_ENABLED(CONFIG_NET))
		sock = sock_from_file(file);
	switch (call->nr) {
	case __NR_read:
	case __NR_readv:
		if (!sock)
			return S_ISFIFO(file_inode(file)->i_mode) &&
			       !pipe_has_watch_queue(file->private_data);
		break;
	case __NR_accept:
	case __NR_accept4:
		accepts = true;
		break;
	case __NR_recvfrom:
		if (call->args[3] & ~(u64)FLEXSC_MSG)
			return false;
		break;
	case __NR_recvmsg:
		if (call->args[2] & ~(u64)FLEXSC_MSG)
			return false;
		break;
	default:
		return false;
	}
	return sock && flexsc_sock_parks(sock, accepts);
}

/*
 * Prepare to park a call on the file that its first argument names now. Returns
 * NULL if the call can not be parked, or if there is no memory.
 */
struct flexsc_parked *flexsc_parked_new(struct flexsc_parker *parker,
					unsigned int page, unsigned int index,
					const struct flexsc_parked_call *call)
{
	struct file *file = fget(call->args[0]);
	struct flexsc_parked *p;

	if (!file)
		return NULL;
	if (file->f_flags & O_NONBLOCK || !flexsc_parks(file, call))
		goto fail;
	p = kzalloc(sizeof(*p), GFP_KERNEL_ACCOUNT);
	if (!p)
		goto fail;
	init_waitqueue_func_entry(&p->wait, flexsc_park_wake);
	INIT_LIST_HEAD(&p->wait.entry);
	p->parker = parker;
	p->file = file;
	p->call = *call;
	p->result = -ECANCELED;
	p->page = page;
	p->index = index;
	p->is_pipe = S_ISFIFO(file_inode(file)->i_mode);
	return p;
fail:
	fput(file);
	return NULL;
}

const struct flexsc_parked_call *flexsc_parked_call(const struct flexsc_parked *p)
{
	return &p->call;
}

/*
 * After this call the wake function does not run, nor will it, and the entry is
 * not ready: whoever looks at the bits would find it again and again. Returns
 * true if the wake function has run.
 */
bool flexsc_park_unhook(struct flexsc_parked *p)
{
	unsigned long flags;
	bool woken;

	if (!p->head)
		return false;
	/* Even off the queue: the wake function may not have returned yet. */
	spin_lock_irqsave(&p->head->lock, flags);
	list_del_init(&p->wait.entry);
	woken = p->woken;
	spin_unlock_irqrestore(&p->head->lock, flags);
	atomic64_andnot(BIT_ULL(p->index), &p->parker->ready[p->page]);
	return woken;
}

struct flexsc_park_table {
	struct poll_table_struct table;
	struct flexsc_parked *p;
	bool again;
};

static void flexsc_park_queue(struct file *file, struct wait_queue_head *head,
			      struct poll_table_struct *table)
{
	struct flexsc_park_table *t =
		container_of(table, struct flexsc_park_table, table);
	struct flexsc_parked *p = t->p;

	/* None of these files has two; a call on such a file is not parked. */
	if (p->head) {
		t->again = true;
		return;
	}
	p->head = head;
	if (flexsc_sock_exclusive(sock_from_file(file)))
		add_wait_queue_exclusive(head, &p->wait);
	else
		add_wait_queue(head, &p->wait);
}

/*
 * Wait for the file from now on. Whether the call has to wait at all is for the
 * caller to find out afterwards, if poll() does not say that it need not.
 */
enum flexsc_park flexsc_park_arm(struct flexsc_parked *p)
{
	__poll_t events = 0;

	/* What woke it before is not to end this wait. */
	flexsc_park_unhook(p);
	p->head = NULL;
	p->woken = false;

	if (!flexsc_parks(p->file, &p->call))
		return FLEXSC_PARK_NOT;
	if (p->is_pipe) {
		struct pipe_inode_info *pipe = p->file->private_data;

		/* Not pipe_poll(): it changes what writers do from then on. */
		p->head = &pipe->rd_wait;
		add_wait_queue_exclusive(p->head, &p->wait);
	} else {
		struct socket *sock = sock_from_file(p->file);
		struct flexsc_park_table t = { .p = p };

		/* Not vfs_poll(): that may poll the network card. */
		init_poll_funcptr(&t.table, flexsc_park_queue);
		t.table._key = FLEXSC_EVENTS;
		events = READ_ONCE(sock->ops)->poll(p->file, sock, &t.table);
		if (!p->head || t.again) {
			flexsc_park_unhook(p);
			return FLEXSC_PARK_NOT;
		}
	}
	return events & FLEXSC_EVENTS ? FLEXSC_PARK_READY : FLEXSC_PARK_WAITS;
}

/* The file was not ready. Returns how often that has happened to @p. */
unsigned int flexsc_parked_in_vain(struct flexsc_parked *p)
{
	atomic64_inc(&p->parker->counts[FLEXSC_PARK_VAIN]);
	return ++p->vain;
}

void flexsc_parked_end(struct flexsc_parked *p, long result)
{
	p->result = result;
}

/* Does somebody else get what the wake-up of @p was about? */
static bool flexsc_park_is_unused(struct flexsc_parked *p)
{
	struct pipe_inode_info *pipe = p->file->private_data;

	if (p->result < 0)
		return true;
	/* As pipe_read() does after a sleep: writers wake one reader only. */
	return p->is_pipe && !pipe_empty(READ_ONCE(pipe->head), READ_ONCE(pipe->tail));
}

/* An exclusive wake-up that the call has not used goes to the next in the queue. */
void flexsc_parked_free(struct flexsc_parked *p)
{
	if (flexsc_park_unhook(p) && p->wait.flags & WQ_FLAG_EXCLUSIVE &&
	    flexsc_park_is_unused(p)) {
		atomic64_inc(&p->parker->counts[FLEXSC_PARK_PASSED]);
		wake_up_interruptible_poll(p->head, EPOLLIN | EPOLLRDNORM);
	}
	fput(p->file);
	kfree(p);
	/* A syscall thread may sleep for long: close the file now. */
	syscall_thread_user_work();
}

struct syscall_outcome flexsc_parked_try(struct flexsc_parked *p,
					 struct pt_regs *regs)
{
	return syscall_try_file(p->file, regs, p->call.nr);
}

struct syscall_outcome flexsc_parked_invoke(struct flexsc_parked *p,
					    struct task_struct *owner,
					    struct pt_regs *regs)
{
	return syscall_invoke_file_for(owner, p->file, regs, p->call.nr);
}
