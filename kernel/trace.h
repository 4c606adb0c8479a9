/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM flexsc

#if !defined(_FLEXSC_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _FLEXSC_TRACE_H

#include <linux/tracepoint.h>

/* A posted call is about to be executed by the current task. */
TRACE_EVENT(flexsc_invoke,
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

/* The current task blocks in a posted call and hands the entries left over. */
TRACE_EVENT(flexsc_block,
	TP_PROTO(unsigned int nr, unsigned int left),
	TP_ARGS(nr, left),
	TP_STRUCT__entry(
		__field(unsigned int, nr)
		__field(unsigned int, left)
	),
	TP_fast_assign(
		__entry->nr = nr;
		__entry->left = left;
	),
	TP_printk("nr=%u left=%u", __entry->nr, __entry->left)
);

/* A posted call has its result. */
TRACE_EVENT(flexsc_complete,
	TP_PROTO(unsigned int nr, unsigned int index, long result),
	TP_ARGS(nr, index, result),
	TP_STRUCT__entry(
		__field(unsigned int, nr)
		__field(unsigned int, index)
		__field(long, result)
	),
	TP_fast_assign(
		__entry->nr = nr;
		__entry->index = index;
		__entry->result = result;
	),
	TP_printk("nr=%u index=%u result=%ld", __entry->nr, __entry->index,
		  __entry->result)
);

#endif /* _FLEXSC_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
