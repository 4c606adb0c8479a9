// SPDX-License-Identifier: GPL-2.0
/*
 * Calls that wait without a thread, from the decision to their end. In park/:
 * their wait, what the calls of a registration share, and the kinds of calls.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/sched/task_stack.h>

#include "park/parked.h"

/*
 * Prepare to park a call, for its owner. Returns NULL if the call cannot be
 * parked, or if memory is short.
 */
struct flexsc_parked *flexsc_parked_new(struct flexsc_parker *parker,
					unsigned int page, unsigned int index,
					const struct flexsc_parked_call *call)
{
	const struct seccomp_filter *asked = NULL;
	struct pt_regs *regs = task_pt_regs(current);
	struct flexsc_parked *p;

	/* Audit and tracepoints must see the beginning of the call. */
	arch_syscall_frame_args(regs, call->args);
	if (syscall_allows_self(regs, call->nr, &asked))
		return NULL;
	switch (call->nr) {
	case __NR_poll:
	case __NR_ppoll:
		p = flexsc_park_poll(parker, call);
		break;
	case __NR_nanosleep:
	case __NR_clock_nanosleep:
		p = flexsc_park_sleep(parker, call);
		break;
	default:
		p = flexsc_park_file(parker, call);
	}
	if (p) {
		p->page = page;
		p->index = index;
		p->asked = asked;
	}
	return p;
}

const struct flexsc_parked_call *flexsc_parked_call(const struct flexsc_parked *p)
{
	return &p->call;
}

/* Returns true if the call has sent any bytes since the last time. */
bool flexsc_parked_advances(struct flexsc_parked *p)
{
	bool advances = p->advances;

	p->advances = false;
	return advances;
}

/* A wake-up of @p was spurious, if it has sent nothing. Returns how many were. */
unsigned int flexsc_parked_in_vain(struct flexsc_parked *p)
{
	/* The event of the wake-up is gone. */
	p->owed = false;
	if (flexsc_parked_advances(p))
		return p->vain;
	atomic64_inc(&p->parker->counts[FLEXSC_PARK_VAIN]);
	return ++p->vain;
}

/* Returns true if a part of the call was made: it must not be made again. */
bool flexsc_parked_has_begun(const struct flexsc_parked *p)
{
	return p->part.sent;
}

void flexsc_parked_end(struct flexsc_parked *p, long result)
{
	p->result = result;
}

/* Pass an exclusive wake-up that the call has not used to the next waiter. */
void flexsc_parked_free(struct flexsc_parked *p)
{
	flexsc_park_unhook(p);
	if (p->owed && flexsc_file_wakes_next(p)) {
		atomic64_inc(&p->parker->counts[FLEXSC_PARK_PASSED]);
		wake_up_interruptible_poll(p->wait[0].head,
					   p->sends ? EPOLLOUT | EPOLLWRNORM :
						      EPOLLIN | EPOLLRDNORM);
	}
	if (p->file)
		fput(p->file);
	flexsc_parked_free_memory(p);
	/* A syscall thread may sleep for a long time, so close the file now. */
	syscall_thread_user_work();
}

struct syscall_outcome flexsc_parked_try(struct flexsc_parked *p,
					 struct pt_regs *regs)
{
	return p->kind->try(p, regs);
}

struct syscall_outcome flexsc_parked_invoke(struct flexsc_parked *p,
					    struct task_struct *owner,
					    struct pt_regs *regs)
{
	return p->kind->invoke(p, owner, regs);
}

/* CANCEL has ended the call. Returns its result. */
long flexsc_parked_cancel(struct flexsc_parked *p)
{
	return p->kind->cancel(p);
}
