// SPDX-License-Identifier: GPL-2.0
/* Calls that wait for one file: they read, receive, accept, write or send. */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/magic.h>
#include <linux/net.h>
#include <linux/pipe_fs_i.h>
#include <linux/sched/xacct.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <net/sock.h>

#include "parked.h"

/* See MOST_IN_VAIN in run/park.rs. */
#define FLEXSC_MOST_IN_VAIN	128

/* Flags that change neither the event that is waited for nor the time. */
#define FLEXSC_MSG	(MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC)
#define FLEXSC_SEND_MSG	(MSG_MORE | MSG_NOSIGNAL)

/* unix_stream_sendmsg() sends no larger pieces, see sock_may_try_send(). */
#define FLEXSC_UNIX_PIECE	SZ_32K

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

/*
 * Only streams: of datagrams, the receiver's queue may be what has no room, and its
 * senders wait exclusively where poll() does not.
 */
static bool flexsc_sock_sends(const struct socket *sock)
{
	const struct sock *sk = sock->sk;

	if (sock->type != SOCK_STREAM || !flexsc_sock_is_known(sk) ||
	    READ_ONCE(sk->sk_prot) != sk->sk_prot_creator)
		return false;
	/* Each part would have a time stamp. */
	if (READ_ONCE(sk->sk_tsflags))
		return false;
	switch (READ_ONCE(sk->sk_state)) {
	case TCP_ESTABLISHED:
	case TCP_CLOSE_WAIT:
		return true;
	}
	return false;
}

/*
 * Returns true if SO_SNDTIMEO is a time for the whole call. On a unix stream, it
 * begins anew with each piece.
 */
static bool flexsc_send_has_one_time(const struct socket *sock,
				     const struct flexsc_parked_call *call)
{
	const struct sock *sk = sock->sk;

	if (READ_ONCE(sk->sk_family) != AF_UNIX ||
	    READ_ONCE(sk->sk_sndtimeo) == MAX_SCHEDULE_TIMEOUT)
		return true;
	return (call->nr == __NR_write || call->nr == __NR_sendto) &&
	       call->args[2] <= FLEXSC_UNIX_PIECE &&
	       call->args[2] + 64 <= READ_ONCE(sk->sk_sndbuf) >> 1;
}

static bool flexsc_is_send(const struct flexsc_parked_call *call)
{
	switch (call->nr) {
	case __NR_write:
	case __NR_writev:
	case __NR_sendto:
	case __NR_sendmsg:
		return true;
	}
	return false;
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

/* Returns true if neither flags nor an address change what the call waits for. */
static bool flexsc_waits_as_usual(const struct flexsc_parked_call *call)
{
	switch (call->nr) {
	case __NR_recvfrom:
		return !(call->args[3] & ~(u64)FLEXSC_MSG);
	case __NR_recvmsg:
		return !(call->args[2] & ~(u64)FLEXSC_MSG);
	case __NR_sendto:
		return !(call->args[3] & ~(u64)FLEXSC_SEND_MSG) && !call->args[4];
	case __NR_sendmsg:
		return !(call->args[2] & ~(u64)FLEXSC_SEND_MSG);
	}
	return true;
}

static bool flexsc_pipe_parks(struct file *file,
			      const struct flexsc_parked_call *call)
{
	switch (call->nr) {
	case __NR_read:
	case __NR_readv:
	case __NR_write:
	case __NR_writev:
		return S_ISFIFO(file_inode(file)->i_mode) &&
		       !pipe_has_watch_queue(file->private_data);
	}
	return false;
}

/* Returns true if a call that must wait does nothing else until the file wakes it. */
static bool flexsc_parks(struct file *file, const struct flexsc_parked_call *call)
{
	const struct socket *sock = NULL;

	if (!(file->f_mode & FMODE_NOWAIT))
		return false;
	if (flexsc_is_counter(file))
		return call->nr == __NR_read || call->nr == __NR_readv;
	if (!(file->f_mode & FMODE_STREAM))
		return false;
	if (IS_ENABLED(CONFIG_NET))
		sock = sock_from_file(file);
	if (!sock)
		return flexsc_pipe_parks(file, call);
	if (!flexsc_waits_as_usual(call))
		return false;
	if (flexsc_is_send(call))
		return flexsc_sock_sends(sock) &&
		       flexsc_send_has_one_time(sock, call);
	switch (call->nr) {
	case __NR_accept:
	case __NR_accept4:
		return flexsc_sock_parks(sock, true);
	case __NR_read:
	case __NR_readv:
	case __NR_recvfrom:
	case __NR_recvmsg:
		return flexsc_sock_parks(sock, false);
	}
	return false;
}

/*
 * Take SO_RCVTIMEO or SO_SNDTIMEO at the beginning of the call. Returns false if
 * the time is negative.
 */
static bool flexsc_file_set_time(struct flexsc_parked *p, struct file *file)
{
	long ticks = MAX_SCHEDULE_TIMEOUT;
	const struct socket *sock = NULL;
	ktime_t time = KTIME_MAX;

	if (IS_ENABLED(CONFIG_NET))
		sock = sock_from_file(file);
	if (sock)
		ticks = p->sends ? READ_ONCE(sock->sk->sk_sndtimeo) :
				   READ_ONCE(sock->sk->sk_rcvtimeo);
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
	if (p) {
		p->sends = flexsc_is_send(call);
		if (flexsc_file_set_time(p, file)) {
			p->file = file;
			p->checked = true;
			return p;
		}
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
	bool exclusive = !t->p->sends && !flexsc_is_counter(file) &&
			 flexsc_sock_exclusive(sock_from_file(file));

	if (!flexsc_park_queue(t->p, head, table->_key, exclusive))
		t->is_full = true;
}

static enum flexsc_park flexsc_arm_file(struct flexsc_parked *p)
{
	__poll_t events, wanted = p->sends ? FLEXSC_ROOM : FLEXSC_EVENTS;
	struct flexsc_park_table t = { .p = p };
	bool fits = p->checked || flexsc_parks(p->file, &p->call);
	struct socket *sock;

	/* An option of a socket may change before the next wait. */
	p->checked = false;
	/* Filters of seccomp were asked when the call was tried. */
	if (READ_ONCE(current_thread_info()->syscall_work) & ~SYSCALL_WORK_SECCOMP ||
	    !fits)
		return FLEXSC_PARK_NOT;
	if (S_ISFIFO(file_inode(p->file)->i_mode)) {
		struct pipe_inode_info *pipe = p->file->private_data;

		/* Not with pipe_poll(), which permanently changes what writers do. */
		flexsc_park_queue(p, p->sends ? &pipe->wr_wait : &pipe->rd_wait,
				  wanted, true);
		return FLEXSC_PARK_WAITS;
	}
	init_poll_funcptr(&t.table, flexsc_park_queue_file);
	t.table._key = wanted;
	sock = sock_from_file(p->file);
	/* Not with vfs_poll() for a socket, which may poll the network card. */
	if (sock)
		events = READ_ONCE(sock->ops)->poll(p->file, sock, &t.table);
	else
		events = vfs_poll(p->file, &t.table);
	/* None of these files has two queues. */
	if (!p->waits || t.is_full)
		return FLEXSC_PARK_NOT;
	return events & wanted ? FLEXSC_PARK_READY : FLEXSC_PARK_WAITS;
}

/*
 * The call ends without another try. As in a plain call, the result is the number
 * of bytes, if any were sent.
 */
static long flexsc_end_file(const struct flexsc_parked *p, long error)
{
	bool writes = p->call.nr == __NR_write || p->call.nr == __NR_writev;
	bool reads = p->call.nr == __NR_read || p->call.nr == __NR_readv;

	if (writes && p->part.sent)
		fsnotify_modify(p->file);
	/* Not if this is a kworker. */
	if (flexsc_parked_is_ours(p)) {
		if (writes) {
			add_wchar(current, p->part.sent);
			inc_syscw(current);
		} else if (reads) {
			inc_syscr(current);
		}
	}
	return p->part.sent ?: error;
}

/*
 * Make the call of @owner, or of the current task if that is NULL, if it need not
 * wait. Only events from before the end of its time count.
 */
static struct syscall_outcome flexsc_try_file_for(struct flexsc_parked *p,
						  struct task_struct *owner,
						  struct pt_regs *regs)
{
	bool timed_out = READ_ONCE(p->timed_out);
	size_t sent = p->part.sent;
	struct syscall_outcome out;

	if (owner)
		out = syscall_try_file_for(owner, p->file, regs, p->call.nr,
					   &p->asked, &p->part);
	else
		out = syscall_try_file(p->file, regs, p->call.nr, &p->asked,
				       &p->part);
	if (p->part.sent != sent)
		p->advances = true;
	if (out.error == -EAGAIN && timed_out)
		out = (struct syscall_outcome) {
			.value = flexsc_end_file(p, -EAGAIN),
		};
	return out;
}

static struct syscall_outcome flexsc_try_file(struct flexsc_parked *p,
					      struct pt_regs *regs)
{
	return flexsc_try_file_for(p, NULL, regs);
}

/*
 * A call that waits in a thread starts its time anew, so a call that has already
 * waited is only tried. So is a send, which may have to wait again and again. But
 * observers of the owner's calls must see it. And if poll() reports an event again
 * and again, a plain call decides.
 */
static struct syscall_outcome flexsc_invoke_file(struct flexsc_parked *p,
						 struct task_struct *owner,
						 struct pt_regs *regs)
{
	struct syscall_outcome out;

	if ((p->timed || p->sends) && p->vain < FLEXSC_MOST_IN_VAIN) {
		out = flexsc_try_file_for(p, owner, regs);
		if (out.error != SYSCALL_NOT_TRIED)
			return out;
	}
	/* The thread enters the queue. The call's own entry must not take its wake-up. */
	flexsc_park_unhook(p);
	return syscall_invoke_file_for(owner, p->file, regs, p->call.nr,
				       &p->asked, &p->part);
}

/* Returns true if another waiter can use the wake-up of @p. */
bool flexsc_file_wakes_next(const struct flexsc_parked *p)
{
	const struct pipe_inode_info *pipe = p->file->private_data;

	/* A read of nothing takes no datagram. */
	if (p->result <= 0)
		return true;
	if (!S_ISFIFO(file_inode(p->file)->i_mode))
		return false;
	/*
	 * Like pipe_read() and pipe_write() after a sleep, because writers wake only
	 * one reader, and readers only one writer.
	 */
	if (p->sends)
		return !pipe_full(READ_ONCE(pipe->head), READ_ONCE(pipe->tail),
				  READ_ONCE(pipe->max_usage));
	return !pipe_empty(READ_ONCE(pipe->head), READ_ONCE(pipe->tail));
}

static long flexsc_cancel_file(struct flexsc_parked *p)
{
	return flexsc_end_file(p, -EINTR);
}

const struct flexsc_park_kind flexsc_park_files = {
	.arm = flexsc_arm_file,
	.try = flexsc_try_file,
	.invoke = flexsc_invoke_file,
	.cancel = flexsc_cancel_file,
};
