/* SPDX-License-Identifier: GPL-2.0 */
/* A parked call as the parts of park see it. */
#ifndef _FLEXSC_PARKED_H
#define _FLEXSC_PARKED_H

#include <linux/atomic.h>
#include <linux/hrtimer.h>
#include <linux/llist.h>
#include <linux/poll.h>
#include <linux/syscall_thread.h>
#include <linux/syscall_try.h>
#include <linux/wait.h>

#include "parker.h"

/* Events that end the wait of a call that reads, receives or accepts. */
#define FLEXSC_EVENTS	(EPOLLIN | EPOLLRDNORM | EPOLLERR | EPOLLHUP | EPOLLRDHUP)
/* Events that end the wait of a call that writes or sends. */
#define FLEXSC_ROOM	(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND | EPOLLERR | EPOLLHUP)

struct sock;

/* The operations that differ between kinds of calls. */
struct flexsc_park_kind {
	/* Wait from now on: enter the queues of all files. */
	enum flexsc_park (*arm)(struct flexsc_parked *p);
	/* As the owner: make the call if it need not wait. Otherwise -EAGAIN. */
	struct syscall_outcome (*try)(struct flexsc_parked *p,
				      struct pt_regs *regs);
	/* As a syscall thread: make the call, which waits in it or gives -EAGAIN. */
	struct syscall_outcome (*invoke)(struct flexsc_parked *p,
					 struct task_struct *owner,
					 struct pt_regs *regs);
	/* Returns the result of the call when CANCEL ends it. */
	long (*cancel)(struct flexsc_parked *p);
};

/*
 * Changed by cmpxchg while the call waits, so that only one of several wake-ups
 * takes effect. Otherwise it belongs to the task that has the call.
 */
enum flexsc_parked_state {
	FLEXSC_RESTS,		/* takes no wake-up */
	FLEXSC_WAITS,
	FLEXSC_WOKEN,
};

/* An entry in a wait queue. Its @private is the call. */
struct flexsc_parked_wait {
	struct wait_queue_entry entry;
	struct wait_queue_head *head;	/* where @entry is or was */
	struct file *file;		/* held for @head, or NULL */
	__poll_t events;
};

struct flexsc_parked {
	/* Zero at first, as all that follows up to @timer. */
	union {
		const struct flexsc_park_kind *kind;
		struct llist_node spare;	/* in the parker's list, after the call */
	};
	struct flexsc_parker *parker;
	struct file *file;		/* that the call acts on, or NULL */
	struct flexsc_parked_call call;
	const struct seccomp_filter *asked;	/* has allowed the call; compared only */
	long result;			/* of the call; < 0 if it was not made */
	struct syscall_part part;	/* of the call that was made, if it sends */
	atomic_t state;			/* enum flexsc_parked_state */
	unsigned int vain;		/* number of spurious wake-ups */
	u8 page;
	u8 index;
	u8 waits;			/* entries of @wait that are in use */
	u8 most;			/* all entries of @wait */
	u8 sends : 1;			/* waits for room, not for bytes */
	u8 advances : 1;		/* has sent something; see flexsc_parked_advances() */
	u8 timed : 1;			/* @timer is set */
	bool timed_out;			/* written by @timer */
	bool owed;			/* has an exclusive wake-up; head->lock */
	bool checked;			/* the file was found fit for the next wait */
	struct hrtimer timer;
	struct flexsc_parked_wait wait[];
};

extern const struct flexsc_park_kind flexsc_park_files;

struct flexsc_parked *flexsc_parked_alloc(struct flexsc_parker *parker,
					  const struct flexsc_park_kind *kind,
					  const struct flexsc_parked_call *call,
					  unsigned int waits);
void flexsc_parked_free_memory(struct flexsc_parked *p);
bool flexsc_park_queue(struct flexsc_parked *p, struct wait_queue_head *head,
		       __poll_t events, bool exclusive);

void flexsc_park_set_time(struct flexsc_parked *p, clockid_t clock, ktime_t time,
			  bool is_absolute);
ktime_t flexsc_park_left(const struct flexsc_parked *p);
const struct task_struct *flexsc_park_owner(const struct flexsc_parked *p);
bool flexsc_parked_is_ours(const struct flexsc_parked *p);
bool flexsc_file_wakes_next(const struct flexsc_parked *p);
bool flexsc_sock_is_known(const struct sock *sk);
bool flexsc_is_counter(const struct file *file);

static inline struct syscall_outcome flexsc_not_made(long error)
{
	return (struct syscall_outcome) { .error = error };
}

/* Prepare to park a call, or return NULL if that is impossible. */
struct flexsc_parked *flexsc_park_file(struct flexsc_parker *parker,
				       const struct flexsc_parked_call *call);
struct flexsc_parked *flexsc_park_poll(struct flexsc_parker *parker,
				       const struct flexsc_parked_call *call);
struct flexsc_parked *flexsc_park_sleep(struct flexsc_parker *parker,
					const struct flexsc_parked_call *call);

#endif /* _FLEXSC_PARKED_H */
