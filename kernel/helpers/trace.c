// SPDX-License-Identifier: GPL-2.0
/* The tracepoints of flexsc and the functions through which Rust fires them. */
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <asm/syscall.h>

#include "../helpers.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

void flexsc_trace_invoke(unsigned int nr, unsigned int index,
			 struct task_struct *owner)
{
	trace_flexsc_invoke(nr, index, owner);
}

void flexsc_trace_block(unsigned int left)
{
	trace_flexsc_block(syscall_get_nr(current, current_pt_regs()), left);
}

void flexsc_trace_complete(unsigned int nr, unsigned int index, long result)
{
	trace_flexsc_complete(nr, index, result);
}

void flexsc_trace_post(struct task_struct *owner, unsigned int id,
		       unsigned int page, u64 bits)
{
	trace_flexsc_post(owner, id, page, bits);
}

void flexsc_trace_handoff(unsigned int pool, unsigned int queued)
{
	trace_flexsc_handoff(pool, queued);
}

void flexsc_trace_wait(unsigned int id, unsigned int missing)
{
	trace_flexsc_wait(id, missing);
}

void flexsc_trace_kick(struct task_struct *owner, unsigned int id)
{
	trace_flexsc_kick(owner, id);
}

void flexsc_trace_park(unsigned int nr, unsigned int index,
		       struct task_struct *owner)
{
	trace_flexsc_park(nr, index, owner);
}

void flexsc_trace_ready(unsigned int nr, unsigned int index,
			struct task_struct *owner)
{
	trace_flexsc_ready(nr, index, owner);
}

/*
 * How many of the tracepoints that fire once for each batch or call are in
 * use. Rust has no static keys, and one word serves as well as four keys.
 * The kernel changes tracepoints one at a time.
 */
int flexsc_tracers;

int flexsc_trace_reg(void)
{
	WRITE_ONCE(flexsc_tracers, flexsc_tracers + 1);
	return 0;
}

void flexsc_trace_unreg(void)
{
	WRITE_ONCE(flexsc_tracers, flexsc_tracers - 1);
}
