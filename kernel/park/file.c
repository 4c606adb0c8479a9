// SPDX-License-Identifier: GPL-2.0
/* Calls that wait for one file: they read, receive or accept. */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/net.h>
#include <linux/pipe_fs_i.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <net/sock.h>

#include "park.h"

/* See MOST_IN_VAIN in run/park.rs. */
#define FLEXSC_MOST_IN_VAIN	128

/* Flags that change neither the event that is waited for nor the time. */
#define FLEXSC_MSG	(MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC)

/* The call waits for a connection or a datagram, which only one waiter gets. */
static bool flexsc_sock_exclusive(const struct socket *sock)
{
	return sock->sk->sk_type != SOCK_STREAM ||
	       READ_ONCE(sock->sk->sk_state) == TCP_LISTEN;
}

/* Families of the sockets on which a call is tried, see sock_may_try_recv(). */
bool flexsc_sock_is_known(const struct sock *sk)
{
	switch (READ_ONCE(sk->sk_family)) {
	case AF_INET:
	case AF_INET6:
		return sk_is_tcp(sk) || sk_is_udp(sk);
	case AF_NETLINK:
	case AF_PACKET:
	case AF_UNIX:
		return true;
	}
	return false;
}

static bool flexsc_sock_parks(const struct socket *sock, bool accepts)
{
	const struct sock *sk = sock->sk;

	if (!flexsc_sock_is_known(sk))
		return false;
	/* With TLS or BPF in between, the call may wait for another event. */
	if (READ_ONCE(sk->sk_prot) != sk->sk_prot_creator)
		return false;
	if (accepts)
		return READ_ONCE(sk->sk_state) == TCP_LISTEN;
	return READ_ONCE(sk->sk_state) != TCP_LISTEN &&
	       READ_ONCE(sk->sk_rcvlowat) <= 1;
}

/* Returns true for a file without an inode of its own, with this name. */
static bool flexsc_is_anon(const struct file *file, const char *name)
{
	return file_inode(file)->i_sb->s_magic == ANON_INODE_FS_MAGIC &&
	       !strcmp(file->f_path.dentry->d_name.name, name);
}

/* Returns true for an eventfd or a timerfd. Each wakes all its readers. */
bool flexsc_is_counter(const struct file *file)
{
	return flexsc_is_anon(file, "[eventfd]") || flexsc_is_anon(file, "[timerfd]");
}

/* Returns true if a call that must wait does nothing else until the file wakes it. */
static bool flexsc_parks(struct file *file, const struct flexsc_parked_call *call)
{
	struct socket *sock = NULL;
	bool accepts = false;

	if (!(file->f_mode & FMODE_NOWAIT))
		return false;
	if (flexsc_is_counter(file))
		return call->nr == __NR_read || call->nr == __NR_readv;
	if (!(file->f_mode & FMODE_STREAM))
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
 * Take SO_RCVTIMEO at the beginning of the call. Returns false if the time is
 * negative.
 */
static bool flexsc_file_set_time(struct flexsc_parked *p, struct file *file)
{
	const struct socket *sock = NULL;
	ktime_t time = KTIME_MAX;
	long ticks;

	if (IS_ENABLED(CONFIG_NET))
		sock = sock_from_file(file);
	ticks = sock ? READ_ONCE(sock->sk->sk_rcvtimeo) : MAX_SCHEDULE_TIMEOUT;
	/* More does not fit. */
	if (ticks < nsecs_to_jiffies64(KTIME_MAX))
		time = ns_to_ktime(jiffies64_to_nsecs(ticks));
	if (ticks != MAX_SCHEDULE_TIMEOUT)
		flexsc_park_set_time(p, CLOCK_MONOTONIC, time, false);
	return ticks > 0;
}

/* For the file that the first argument names now. */
struct flexsc_parked *flexsc_park_file(struct flexsc_parker *parker,
				       const struct flexsc_parked_call *call)
{
	struct file *file = fget(call->args[0]);
	struct flexsc_parked *p = NULL;

	if (!file)
		return NULL;
	if (!(file->f_flags & O_NONBLOCK) && flexsc_parks(file, call))
		p = flexsc_parked_alloc(parker, &flexsc_park_files, call, 1);
	if (p && flexsc_file_set_time(p, file)) {
		p->file = file;
		p->checked = true;
		return p;
	}
	kfree(p);
	fput(file);
	return NULL;
}

struct flexsc_park_table {
	struct poll_table_struct table;
	struct flexsc_parked *p;
	bool is_full;
};

static void flexsc_park_queue_file(struct file *file, struct wait_queue_head *head,
				   struct poll_table_struct *table)
{
	struct flexsc_park_table *t =
		container_of(table, struct flexsc_park_table, table);
	bool exclusive = !flexsc_is_counter(file) &&
			 flexsc_sock_exclusive(sock_from_file(file));

	if (!flexsc_park_queue(t->p, head, FLEXSC_EVENTS, exclusive))
		t->is_full = true;
}

static enum flexsc_park flexsc_arm_file(struct flexsc_parked *p)
{
	struct flexsc_park_table t = { .p = p };
	bool fits = p->checked || flexsc_parks(p->file, &p->call);
	struct socket *sock;
	__poll_t events;

	/* An option of a socket may change before the next wait. */
	p->checked = false;
	/* Filters of seccomp were asked when the call was tried. */
	if (READ_ONCE(current_thread_info()->syscall_work) & ~SYSCALL_WORK_SECCOMP ||
	    !fits)
		return FLEXSC_PARK_NOT;
	if (S_ISFIFO(file_inode(p->file)->i_mode)) {
		struct pipe_inode_info *pipe = p->file->private_data;

		/* Not with pipe_poll(), which permanently changes what writers do. */
		flexsc_park_queue(p, &pipe->rd_wait, FLEXSC_EVENTS, true);
		return FLEXSC_PARK_WAITS;
	}
	init_poll_funcptr(&t.table, flexsc_park_queue_file);
	t.table._key = FLEXSC_EVENTS;
	sock = sock_from_file(p->file);
	/* Not with vfs_poll() for a socket, which may poll the network card. */
	if (sock)
		events = READ_ONCE(sock->ops)->poll(p->file, sock, &t.table);
	else
		events = vfs_poll(p->file, &t.table);
	/* None of these files has two queues. */
	if (!p->waits || t.is_full)
		return FLEXSC_PARK_NOT;
	return events & FLEXSC_EVENTS ? FLEXSC_PARK_READY : FLEXSC_PARK_WAITS;
}

/* What a try means whose call's time was over before it, or not. */
static struct syscall_outcome flexsc_tried(struct syscall_outcome out,
					   bool timed_out)
{
	if (out.error == -EAGAIN && timed_out)
		out = (struct syscall_outcome) { .value = -EAGAIN };
	return out;
}

static struct syscall_outcome flexsc_try_file(struct flexsc_parked *p,
					      struct pt_regs *regs)
{
	/* Checked before the try: events after the time do not count. */
	bool timed_out = READ_ONCE(p->timed_out);

	return flexsc_tried(syscall_try_file(p->file, regs, p->call.nr, &p->asked),
			    timed_out);
}

/*
 * A call that waits in a thread starts SO_RCVTIMEO anew, so a call that has
 * already waited is only tried. But observers of the owner's calls must see it.
 * And if poll() reports an event again and again, a plain call decides.
 */
static struct syscall_outcome flexsc_invoke_file(struct flexsc_parked *p,
						 struct task_struct *owner,
						 struct pt_regs *regs)
{
	struct syscall_outcome out;

	if (p->timed && p->vain < FLEXSC_MOST_IN_VAIN) {
		bool timed_out = READ_ONCE(p->timed_out);

		out = syscall_try_file_for(owner, p->file, regs, p->call.nr,
					   &p->asked);
		out = flexsc_tried(out, timed_out);
		if (out.error != SYSCALL_NOT_TRIED)
			return out;
	}
	return syscall_invoke_file_for(owner, p->file, regs, p->call.nr,
				       &p->asked);
}

static long flexsc_cancel_file(struct flexsc_parked *p)
{
	return -EINTR;
}

const struct flexsc_park_kind flexsc_park_files = {
	.arm = flexsc_arm_file,
	.try = flexsc_try_file,
	.invoke = flexsc_invoke_file,
	.cancel = flexsc_cancel_file,
};
