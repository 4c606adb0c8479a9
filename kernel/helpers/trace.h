/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM flexsc

#if !defined(_FLEXSC_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _FLEXSC_TRACE_H

#include <linux/tracepoint.h>

/* Registration of the tracepoints that fire once for each batch or call. */
int flexsc_trace_reg(void);
void flexsc_trace_unreg(void);

/* A posted call is about to be executed by the current task. */
TRACE_EVENT_FN(flexsc_invoke,
	TP_PROTO(unsigned int nr, unsigned int index, struct task_struct *owner),
	TP_ARGS(nr, index, owner),
	TP_STRUCT__entry(
		__field(unsigned int, nr)
		__field(unsigned int, index)
		__field(pid_t, owner)
		__field(pid_t, tgid)
	),
	TP_fast_assign(
		__entry->nr = nr;
		__entry->index = index;
		__entry->owner = owner->pid;
		__entry->tgid = owner->tgid;
	),
	TP_printk("nr=%u index=%u owner=%d tgid=%d", __entry->nr,
		  __entry->index, __entry->owner, __entry->tgid),
	flexsc_trace_reg, flexsc_trace_unreg
);

/* The current task blocks in a posted call and hands over the other entries. */
TRACE_EVENT_FN(flexsc_block,
	TP_PROTO(unsigned int nr, unsigned int left),
	TP_ARGS(nr, left),
	TP_STRUCT__entry(
		__field(unsigned int, nr)
		__field(unsigned int, left)
		__field(pid_t, tgid)
	),
	TP_fast_assign(
		__entry->nr = nr;
		__entry->left = left;
		__entry->tgid = current->tgid;
	),
	TP_printk("nr=%u left=%u tgid=%d", __entry->nr, __entry->left,
		  __entry->tgid),
	flexsc_trace_reg, flexsc_trace_unreg
);

/* A posted call has its result. */
TRACE_EVENT_FN(flexsc_complete,
	TP_PROTO(unsigned int nr, unsigned int index, long result),
	TP_ARGS(nr, index, result),
	TP_STRUCT__entry(
		__field(unsigned int, nr)
		__field(unsigned int, index)
		__field(long, result)
		__field(pid_t, tgid)
	),
	TP_fast_assign(
		__entry->nr = nr;
		__entry->index = index;
		__entry->result = result;
		__entry->tgid = current->tgid;
	),
	TP_printk("nr=%u index=%u result=%ld tgid=%d", __entry->nr,
		  __entry->index, __entry->result, __entry->tgid),
	flexsc_trace_reg, flexsc_trace_unreg
);

/* Posted entries were seen and accepted by the current task. */
TRACE_EVENT_FN(flexsc_post,
	TP_PROTO(struct task_struct *owner, unsigned int id, unsigned int page,
		 u64 bits),
	TP_ARGS(owner, id, page, bits),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(unsigned int, page)
		__field(u64, bits)
		__field(pid_t, owner)
		__field(pid_t, tgid)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->page = page;
		__entry->bits = bits;
		__entry->owner = owner->pid;
		__entry->tgid = owner->tgid;
	),
	TP_printk("id=%u page=%u bits=%#llx owner=%d tgid=%d", __entry->id,
		  __entry->page, __entry->bits, __entry->owner, __entry->tgid),
	flexsc_trace_reg, flexsc_trace_unreg
);

/* The current task blocks, and another thread must continue the pool's work. */
TRACE_EVENT(flexsc_handoff,
	TP_PROTO(unsigned int pool, unsigned int queued),
	TP_ARGS(pool, queued),
	TP_STRUCT__entry(
		__field(unsigned int, pool)
		__field(unsigned int, queued)
		__field(pid_t, tgid)
	),
	TP_fast_assign(
		__entry->pool = pool;
		__entry->queued = queued;
		__entry->tgid = current->tgid;
	),
	TP_printk("pool=%u queued=%u tgid=%d", __entry->pool, __entry->queued,
		  __entry->tgid)
);

/* The current task, an owner, sleeps in WAIT until more results are ready. */
TRACE_EVENT(flexsc_wait,
	TP_PROTO(unsigned int id, unsigned int missing),
	TP_ARGS(id, missing),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(unsigned int, missing)
		__field(pid_t, tgid)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->missing = missing;
		__entry->tgid = current->tgid;
	),
	TP_printk("id=%u missing=%u tgid=%d", __entry->id, __entry->missing,
		  __entry->tgid)
);

/* KICK: a thread must check a registration's doorbells. */
TRACE_EVENT(flexsc_kick,
	TP_PROTO(struct task_struct *owner, unsigned int id),
	TP_ARGS(owner, id),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(pid_t, owner)
		__field(pid_t, tgid)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->owner = owner->pid;
		__entry->tgid = owner->tgid;
	),
	TP_printk("id=%u owner=%d tgid=%d", __entry->id, __entry->owner,
		  __entry->tgid)
);

DECLARE_EVENT_CLASS(flexsc_parked,
	TP_PROTO(unsigned int nr, unsigned int index, struct task_struct *owner),
	TP_ARGS(nr, index, owner),
	TP_STRUCT__entry(
		__field(unsigned int, nr)
		__field(unsigned int, index)
		__field(pid_t, owner)
		__field(pid_t, tgid)
	),
	TP_fast_assign(
		__entry->nr = nr;
		__entry->index = index;
		__entry->owner = owner->pid;
		__entry->tgid = owner->tgid;
	),
	TP_printk("nr=%u index=%u owner=%d tgid=%d", __entry->nr,
		  __entry->index, __entry->owner, __entry->tgid)
);

/* A call waits for its file, without a thread. */
DEFINE_EVENT_FN(flexsc_parked, flexsc_park,
	TP_PROTO(unsigned int nr, unsigned int index, struct task_struct *owner),
	TP_ARGS(nr, index, owner),
	flexsc_trace_reg, flexsc_trace_unreg
);

/* The file of a parked call has woken it. */
DEFINE_EVENT(flexsc_parked, flexsc_ready,
	TP_PROTO(unsigned int nr, unsigned int index, struct task_struct *owner),
	TP_ARGS(nr, index, owner)
);

#endif /* _FLEXSC_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
