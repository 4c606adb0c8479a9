/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * FlexSC: exception-less system calls. A program writes calls into syscall
 * pages that it shares with the kernel; the kernel executes them and writes
 * the results back. flexsc(4) describes the operations, docs/abi.md the use of
 * the shared memory.
 *
 * Integers have the machine's byte order. All reserved fields must be zero.
 * Unknown flags are refused with EINVAL.
 */
#ifndef _UAPI_LINUX_FLEXSC_H
#define _UAPI_LINUX_FLEXSC_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define FLEXSC_ABI_VERSION	3

#define FLEXSC_PAGE_SIZE	4096
#define FLEXSC_PAGE_ENTRIES	64	/* entries in one syscall page */
#define FLEXSC_MAX_PAGES	64	/* syscall pages in one registration */
#define FLEXSC_POOLS		16	/* pools that one engine may have */
#define FLEXSC_ALL		0xffffffffU	/* flexsc_eventfd.id: all registrations */

/*
 * Number of flexsc_wait(2) on x86-64: long flexsc_wait(unsigned int fd, u64 arg),
 * with the argument of FLEXSC_IOC_WAIT_FAST. Does the same as that ioctl in fewer
 * instructions. ENOSYS if the kernel has no FlexSC.
 */
#define FLEXSC_NR_WAIT		548

/*
 * The state of an entry, for people, debuggers and programs that look only at one
 * entry. The words of struct flexsc_ctrl decide. The program writes FREE and
 * SUBMITTED, the kernel BUSY and DONE.
 */
enum flexsc_status {
	FLEXSC_FREE		= 0,
	FLEXSC_SUBMITTED	= 1,
	FLEXSC_BUSY		= 2,
	FLEXSC_DONE		= 3,
};

/*
 * Why a call was not executed (flexsc_entry.reason). docs/abi.md has the meaning
 * of each reason, the result that comes with it, and what a program can do.
 */
enum flexsc_reason {
	FLEXSC_REASON_NONE	= 0,
	FLEXSC_REASON_LIFE	= 1,
	FLEXSC_REASON_THREAD	= 2,
	FLEXSC_REASON_GUARDED	= 3,
	FLEXSC_REASON_CONTEXT	= 4,
	FLEXSC_REASON_ENTRY	= 5,
	FLEXSC_REASON_STARVED	= 6,
	FLEXSC_REASON_CHAIN	= 7,
	FLEXSC_REASON_CANCELLED	= 8,
	FLEXSC_REASON_BOUND	= 9,
};

/* flexsc_entry.flags, see docs/abi.md */
#define FLEXSC_ENTRY_ASYNC	(1U << 0)
#define FLEXSC_ENTRY_LINK	(1U << 1)
#define FLEXSC_ENTRY_LOOP	(1U << 2)
#define FLEXSC_ENTRY_SUM	(1U << 3)
#define FLEXSC_ENTRY_ALWAYS	(1U << 4)
#define FLEXSC_ENTRY_FLAGS	(FLEXSC_ENTRY_ASYNC | FLEXSC_ENTRY_LINK | \
				 FLEXSC_ENTRY_LOOP | FLEXSC_ENTRY_SUM | \
				 FLEXSC_ENTRY_ALWAYS)

/*
 * flexsc_entry.take: replaces argument @arg (0 to 5) by the result of the entry
 * @back (1 to 32) places before this one in the same chain. 0: no result is taken.
 */
#define FLEXSC_TAKE(arg, back)	((__u8)((((back) - 1) << 3) | ((arg) + 1)))

/*
 * Chains: neighbours in one page that are posted together, each but the last
 * with FLEXSC_ENTRY_LINK. docs/abi.md has their rules.
 */

/**
 * struct flexsc_entry - one posted system call, one cache line
 * @nr: number of the system call (program)
 * @flags: FLEXSC_ENTRY_* (program)
 * @pool: pool that executes the call; 0: the waiting thread may execute it too (program)
 * @take: FLEXSC_TAKE() or 0, for up to two arguments (program)
 * @reason: enum flexsc_reason (kernel)
 * @status: enum flexsc_status (both)
 * @args: arguments (program)
 * @result: return value of the call, -errno on failure (kernel)
 */
struct flexsc_entry {
	__u16	nr;
	__u8	flags;
	__u8	pool;
	__u8	take[2];
	__u8	reason;
	__u8	status;
	__u64	args[6];
	__s64	result;
} __attribute__((aligned(64)));

/* flexsc_ctrl.flags */
#define FLEXSC_CTRL_NEED_WAKEUP	(1U << 0)	/* no poller is awake: KICK or WAIT after posting */

/**
 * struct flexsc_ctrl - control block of one syscall page, two cache lines
 * @posted: doorbell, one bit for each entry, toggled to post it (program)
 * @reaped: one bit for each entry, toggled when the program has taken its result (program)
 * @taken: one bit for each entry, toggled when the kernel has accepted it (kernel)
 * @done: one bit for each entry, toggled when its result is ready (kernel)
 * @flags: FLEXSC_CTRL_* (kernel)
 *
 * docs/abi.md has the sets of entries that follow from these words, and the
 * order of loads and stores on both sides.
 */
struct flexsc_ctrl {
	__u64	posted;
	__u64	reaped;
	__u64	__user_reserved[6];
	__u64	taken;
	__u64	done;
	__u32	flags;
	__u32	__kernel_reserved32;
	__u64	__kernel_reserved[5];
} __attribute__((aligned(64)));

/**
 * struct flexsc_register - argument of FLEXSC_IOC_REGISTER
 * @size: sizeof(struct flexsc_register) (in)
 * @abi: FLEXSC_ABI_VERSION (in); EPROTO if the kernel has another one
 * @flags: 0 (in)
 * @pages: number of syscall pages, 1 to FLEXSC_MAX_PAGES (in)
 * @id: of the registration (out)
 * @ctrl_len: length of the control blocks' part of the mapping in bytes (out)
 * @mmap_offset: for mmap() of the device (out)
 * @mmap_len: for mmap() of the device, in bytes (out)
 * @__reserved: 0 (in)
 *
 * Creates syscall pages that belong to the calling thread. The mapping begins
 * with the control blocks, one for each page; the pages follow at ctrl_len.
 * Both parts are multiples of the page size.
 */
struct flexsc_register {
	__u32	size;
	__u32	abi;
	__u32	flags;
	__u32	pages;
	__u32	id;
	__u32	ctrl_len;
	__u64	mmap_offset;
	__u64	mmap_len;
	__u64	__reserved[2];
};

/* flexsc_wait.policy */
enum flexsc_policy {
	FLEXSC_WAIT_NONE	= 0,	/* execute posted entries, do not sleep */
	FLEXSC_WAIT_ANY		= 1,	/* until one result is ready */
	FLEXSC_WAIT_SOME	= 2,	/* until min results, or linger_ns after the first */
	FLEXSC_WAIT_ALL		= 3,	/* until all posted entries are finished */
	FLEXSC_WAIT_ADAPTIVE	= 4,	/* as SOME, with numbers that adapt to the rate of completions */
};

/**
 * struct flexsc_wait - argument of FLEXSC_IOC_WAIT
 * @size: sizeof(struct flexsc_wait)
 * @id: registration to wait on; the caller must own it
 * @policy: enum flexsc_policy
 * @min: number of results that FLEXSC_WAIT_SOME waits for
 * @timeout_ns: CLOCK_MONOTONIC time, in the caller's time namespace, at which
 *	to give up with ETIME, 0: never
 * @linger_ns: for FLEXSC_WAIT_SOME: fewer than min results suffice once this
 *	       time has passed since the first one, 0: wait for min results
 * @flags: 0
 * @__reserved: 0
 *
 * The ioctl returns the number of results that are ready and not reaped.
 */
struct flexsc_wait {
	__u32	size;
	__u32	id;
	__u32	policy;
	__u32	min;
	__u64	timeout_ns;
	__u64	linger_ns;
	__u32	flags;
	__u32	__reserved;
};

/*
 * FLEXSC_IOC_WAIT_FAST: like WAIT without timeouts, with the argument packed
 * into one word: registration in bits 0-31, policy in bits 32-39, min in bits
 * 40-63.
 */
#define FLEXSC_WAIT_FAST_ARG(id, policy, min) \
	(((__u64)(min) << 40) | ((__u64)(policy) << 32) | (__u64)(id))

/*
 * Parameters (FLEXSC_IOC_SET, FLEXSC_IOC_GET). POOL_* are parameters of one
 * pool, the others of the engine, with flexsc_param.pool 0. SET of a POOL_*
 * parameter creates a pool that does not exist; GET fails with ENOENT.
 *
 * POLL_CPUS, POLLED_CPUS and POOL_CPUS are sets of CPUs, see flexsc_param.len.
 */
enum flexsc_param_id {
	FLEXSC_PARAM_POLL_CPUS	= 0,	/* CPUs with a poller, empty: none (default) */
	FLEXSC_PARAM_IDLE_NS	= 1,	/* how long a poller is idle before it sleeps, up to FLEXSC_MAX_IDLE_NS; 0: one round */
	FLEXSC_PARAM_MAX_THREADS = 2,	/* upper limit of syscall threads, all pools together */
	FLEXSC_PARAM_RETIRE_MS	= 3,	/* how long an idle syscall thread stays */
	FLEXSC_PARAM_EXTRA_POLLERS = 4,	/* pollers that may be recruited beside POLL_CPUS, 0: none (default) */
	FLEXSC_PARAM_ORDER	= 5,	/* enum flexsc_order */
	FLEXSC_PARAM_LOOP_MAX	= 6,	/* rounds of a chain's loop, 1 to FLEXSC_MAX_ROUNDS */
	FLEXSC_PARAM_POLLED_CPUS = 7,	/* GET only: CPUs with a poller now, awake or asleep, recruited or not */
	FLEXSC_PARAM_POOL_CPUS	= 8,	/* CPUs that the pool's threads run on; SET of the empty set: those of the opener (default) */
	FLEXSC_PARAM_POOL_CONCURRENCY = 9, /* threads of the pool that run at once, 0: one for each of its CPUs (default) */
	FLEXSC_PARAM_POOL_NICE	= 10,	/* nice value of the pool's threads, -20 to 19, as __s64 */
};

/* An hour. */
#define FLEXSC_MAX_IDLE_NS	3600000000000ULL

/* A loop of the shortest calls ends within minutes. */
#define FLEXSC_MAX_ROUNDS	4294967296ULL

/* FLEXSC_PARAM_ORDER: the order in which the entries of a batch are started. */
enum flexsc_order {
	FLEXSC_ORDER_POSTED	= 0,	/* by index, around the page: the order of posting if entries are used in turn */
	FLEXSC_ORDER_NUMBER	= 1,	/* grouped by the number of the call */
	FLEXSC_ORDER_IO_FIRST	= 2,	/* entries for syscall threads first */
};

/**
 * struct flexsc_param - argument of FLEXSC_IOC_SET and FLEXSC_IOC_GET
 * @size: sizeof(struct flexsc_param)
 * @param: enum flexsc_param_id
 * @pool: 0, or for FLEXSC_PARAM_POOL_*: 0 to FLEXSC_POOLS - 1
 * @len: for a set of CPUs: its length in bytes; otherwise 0
 * @value: in for SET, out for GET. For a set of CPUs: its address, in for both.
 *	   The set is as in sched_setaffinity(2), of any length: GET fills the
 *	   whole set, and fails with EINVAL if a CPU does not fit
 */
struct flexsc_param {
	__u32	size;
	__u32	param;
	__u32	pool;
	__u32	len;
	__u64	value;
};

/**
 * struct flexsc_cancel - argument of FLEXSC_IOC_CANCEL
 * @size: sizeof(struct flexsc_cancel)
 * @id: registration
 * @index: page times FLEXSC_PAGE_ENTRIES plus number of the entry
 * @flags: 0
 *
 * Ends a posted call as a signal ends a plain one. Returns at once; the
 * result is published as usual.
 */
struct flexsc_cancel {
	__u32	size;
	__u32	id;
	__u32	index;
	__u32	flags;
};

/**
 * struct flexsc_eventfd - argument of FLEXSC_IOC_EVENTFD
 * @size: sizeof(struct flexsc_eventfd)
 * @id: registration, or FLEXSC_ALL
 * @fd: eventfd to signal when results are ready, -1: none
 * @flags: 0
 *
 * The eventfd of a registration and the one for all registrations are both signalled.
 */
struct flexsc_eventfd {
	__u32	size;
	__u32	id;
	__s32	fd;
	__u32	flags;
};

/**
 * struct flexsc_stats - argument of FLEXSC_IOC_QUERY
 * @size: sizeof(struct flexsc_stats) that the caller knows (in); the kernel
 *	  fills in the fields that both know and stores its own size (out)
 * @__reserved: 0
 * @posted: entries accepted
 * @inline_done: entries executed by the waiting thread itself
 * @thread_done: entries executed by syscall threads
 * @refused: entries refused (EOPNOTSUPP, or EINVAL for the entry itself)
 * @handoffs: number of times an executing thread blocked and another one took over
 * @kicks: KICK calls
 * @waits: WAIT calls
 * @sleeps: number of times a WAIT call had to sleep
 * @idle_polls: rounds in which a poller found nothing
 * @poller_sleeps: number of times a poller went to sleep
 * @threads: syscall threads now
 * @threads_idle: idle syscall threads now
 * @threads_created: syscall threads created so far
 * @threads_retired: syscall threads that ended because they were idle
 * @create_failed: syscall threads that could not be created
 * @peak_running: highest number of syscall threads taking entries at once, without
 *		threads that were blocked in a call or finishing one
 * @peak_blocked: highest number of calls blocked at once
 * @pages: syscall pages now
 * @cancels: CANCEL calls that found their entry
 * @chains: chains executed to their end or failure
 * @loop_rounds: rounds of loops, without the first round of each loop
 * @pollers: CPUs with a poller now, awake or asleep
 * @pollers_recruited: number of times a poller was recruited for a backlog
 * @pollers_released: number of times a recruited poller gave its CPU back
 * @pools: pools now
 * @parked: number of times a call was parked, to wait without a thread
 * @woken: number of times a file woke a parked call
 * @woken_in_vain: how many of these wake-ups were spurious: the call had to wait again
 * @passed_on: exclusive wake-ups that parked calls have passed on to other waiters
 * @timed_out: number of times the time of a parked call expired
 */
struct flexsc_stats {
	__u32	size;
	__u32	__reserved;
	__u64	posted;
	__u64	inline_done;
	__u64	thread_done;
	__u64	refused;
	__u64	handoffs;
	__u64	kicks;
	__u64	waits;
	__u64	sleeps;
	__u64	idle_polls;
	__u64	poller_sleeps;
	__u64	threads;
	__u64	threads_idle;
	__u64	threads_created;
	__u64	threads_retired;
	__u64	create_failed;
	__u64	peak_running;
	__u64	peak_blocked;
	__u64	pages;
	__u64	cancels;
	__u64	chains;
	__u64	loop_rounds;
	__u64	pollers;
	__u64	pollers_recruited;
	__u64	pollers_released;
	__u64	pools;
	__u64	parked;
	__u64	woken;
	__u64	woken_in_vain;
	__u64	passed_on;
	__u64	timed_out;
};

/**
 * struct flexsc_pool_stats - argument of FLEXSC_IOC_QUERY_POOL
 * @size: as in struct flexsc_stats
 * @pool: number of the pool (in)
 * @cpus: number of CPUs that its threads run on; FLEXSC_PARAM_POOL_CPUS is the set
 * @concurrency: threads that may run at once
 * @nice: nice value of its threads, as __s64
 * @executed: entries that its threads have executed
 * @handoffs, @threads, @threads_idle, @threads_created, @threads_retired,
 * @create_failed, @peak_running, @peak_blocked: as in struct flexsc_stats
 * @running: threads that run now
 * @blocked: threads that are blocked in a call now
 * @queued: registrations that wait for a thread now
 */
struct flexsc_pool_stats {
	__u32	size;
	__u32	pool;
	__u64	cpus;
	__u64	concurrency;
	__u64	nice;
	__u64	executed;
	__u64	handoffs;
	__u64	threads;
	__u64	threads_idle;
	__u64	threads_created;
	__u64	threads_retired;
	__u64	create_failed;
	__u64	peak_running;
	__u64	peak_blocked;
	__u64	running;
	__u64	blocked;
	__u64	queued;
};

#define FLEXSC_IOC_MAGIC	0xDA
#define FLEXSC_IOC_REGISTER	_IOWR(FLEXSC_IOC_MAGIC, 0, struct flexsc_register)
#define FLEXSC_IOC_UNREGISTER	_IO(FLEXSC_IOC_MAGIC, 1)	/* argument: id */
#define FLEXSC_IOC_WAIT		_IOW(FLEXSC_IOC_MAGIC, 2, struct flexsc_wait)
#define FLEXSC_IOC_WAIT_FAST	_IO(FLEXSC_IOC_MAGIC, 3)
#define FLEXSC_IOC_KICK		_IO(FLEXSC_IOC_MAGIC, 4)	/* argument: id */
#define FLEXSC_IOC_SET		_IOW(FLEXSC_IOC_MAGIC, 5, struct flexsc_param)
#define FLEXSC_IOC_GET		_IOWR(FLEXSC_IOC_MAGIC, 6, struct flexsc_param)
#define FLEXSC_IOC_QUERY	_IOWR(FLEXSC_IOC_MAGIC, 7, struct flexsc_stats)
#define FLEXSC_IOC_CANCEL	_IOW(FLEXSC_IOC_MAGIC, 8, struct flexsc_cancel)
#define FLEXSC_IOC_QUERY_POOL	_IOWR(FLEXSC_IOC_MAGIC, 9, struct flexsc_pool_stats)
#define FLEXSC_IOC_EVENTFD	_IOW(FLEXSC_IOC_MAGIC, 10, struct flexsc_eventfd)

#endif /* _UAPI_LINUX_FLEXSC_H */
