// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust can not call by itself: inline functions and macros of the kernel,
 * and the module's parameters.
 */
#include <linux/bitops.h>
#include <linux/capability.h>
#include <linux/cpumask.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

#include "helpers.h"

MODULE_IMPORT_NS(SYSCALL_THREADS);

static uint enable;
module_param(enable, uint, 0644);
MODULE_PARM_DESC(enable, "Who may use /dev/flexsc: 0 = everyone that the device's mode admits (default), 1 = only CAP_SYS_ADMIN, 2 = nobody");

static ushort mode = 0666;
module_param(mode, ushort, 0444);
MODULE_PARM_DESC(mode, "Mode of /dev/flexsc (default 0666)");

static uint max_pages = 1024;
module_param(max_pages, uint, 0644);
MODULE_PARM_DESC(max_pages, "Syscall pages that one engine may have (default 1024)");

static uint max_threads = 8192;
module_param(max_threads, uint, 0644);
MODULE_PARM_DESC(max_threads, "Syscall threads that one engine may have (default 8192)");

bool flexsc_may_open(void)
{
	switch (READ_ONCE(enable)) {
	case 0:
		return true;
	case 1:
		return capable(CAP_SYS_ADMIN);
	default:
		return false;
	}
}

umode_t flexsc_device_mode(void)
{
	return mode & 0666;
}

unsigned int flexsc_max_pages(void)
{
	return READ_ONCE(max_pages);
}

unsigned int flexsc_max_threads(void)
{
	return READ_ONCE(max_threads);
}

/* One function for each class of locks: the macro's static key is lockdep's. */
void flexsc_lock_init_pages(raw_spinlock_t *lock)
{
	raw_spin_lock_init(lock);
}

void flexsc_lock_init_pool(raw_spinlock_t *lock)
{
	raw_spin_lock_init(lock);
}

void flexsc_lock_init_slots(raw_spinlock_t *lock)
{
	raw_spin_lock_init(lock);
}

void flexsc_lock(raw_spinlock_t *lock)
{
	raw_spin_lock(lock);
}

void flexsc_unlock(raw_spinlock_t *lock)
{
	raw_spin_unlock(lock);
}

struct task_struct *flexsc_current(void)
{
	return current;
}

struct mm_struct *flexsc_current_mm(void)
{
	return current->mm;
}

struct pid *flexsc_current_tgid(void)
{
	return task_tgid(current);
}

bool flexsc_is_current(struct mm_struct *mm, struct pid *tgid)
{
	return current->mm == mm && task_tgid(current) == tgid;
}

/* Is the current task executing posted calls, as their owner or otherwise? */
bool flexsc_is_executing(void)
{
	return current->flags & PF_SYSCALL_THREAD;
}

/*
 * Has the last thread that runs in user space ended? Syscall threads alone
 * must not keep a process.
 */
bool flexsc_is_orphaned(void)
{
	struct task_struct *t;
	bool orphaned = true;

	rcu_read_lock();
	for_each_thread(current, t) {
		if (!(READ_ONCE(t->flags) & (PF_USER_WORKER | PF_EXITING))) {
			orphaned = false;
			break;
		}
	}
	rcu_read_unlock();
	return orphaned;
}

bool flexsc_signal_pending(void)
{
	return signal_pending(current);
}

/* Between two entries: let others run. True where a signal is pending. */
bool flexsc_breathe(void)
{
	cond_resched();
	return signal_pending(current);
}

void flexsc_relax(void)
{
	cpu_relax();
}

/*
 * Sleeping: prepare, look once more at what is waited for, then sleep or
 * cancel. prepare's barrier pairs with the one in wake_up_process().
 */
void flexsc_sleep_prepare(void)
{
	set_current_state(TASK_INTERRUPTIBLE);
}

void flexsc_sleep_cancel(void)
{
	__set_current_state(TASK_RUNNING);
}

/* Returns the jiffies left, 0 where the time is over; < 0 as time: for ever. */
long flexsc_sleep(long timeout_ms)
{
	if (timeout_ms < 0) {
		schedule();
		return 1;
	}
	return schedule_timeout(msecs_to_jiffies(timeout_ms) + 1);
}

/* Sleep until CLOCK_MONOTONIC is @when_ns. Returns 0 where the time is over. */
int flexsc_sleep_until(u64 when_ns)
{
	ktime_t expires = min_t(u64, when_ns, KTIME_MAX);

	return schedule_hrtimeout_range(&expires, current->timer_slack_ns,
					HRTIMER_MODE_ABS);
}

u64 flexsc_now_ns(void)
{
	return ktime_get_ns();
}

void flexsc_mb(void)
{
	smp_mb();
}

/* The number of bits that are set; one instruction on most processors. */
unsigned int flexsc_weight(u64 bits)
{
	return hweight64(bits);
}

/* Bind the current syscall thread to @cpu. */
bool flexsc_run_on(unsigned int cpu)
{
	return cpu < nr_cpu_ids && cpu_online(cpu) &&
	       !set_cpus_allowed_ptr(current, cpumask_of(cpu));
}

void flexsc_run_anywhere(struct cpumask *mask)
{
	/* The mask may have gone offline or out of the cpuset since. */
	if (set_cpus_allowed_ptr(current, mask))
		set_cpus_allowed_ptr(current, cpu_possible_mask);
}

/* A copy of the current task's CPU mask, to be freed with free_cpus. */
struct cpumask *flexsc_own_cpus(void)
{
	struct cpumask *mask = kmalloc(cpumask_size(), GFP_KERNEL);

	if (mask)
		cpumask_copy(mask, current->cpus_ptr);
	return mask;
}

void flexsc_free_cpus(struct cpumask *mask)
{
	kfree(mask);
}

unsigned int flexsc_nr_cpus(void)
{
	return num_online_cpus();
}

u64 flexsc_online_cpus(void)
{
	u64 mask = 0;
	unsigned int cpu;

	for_each_online_cpu(cpu)
		if (cpu < 64)
			mask |= BIT_ULL(cpu);
	return mask;
}

/*
 * May a read from or a write to @fd block for an unbounded time? Files that
 * poll() can wait for may, unless they are non-blocking.
 */
int flexsc_file_may_block(unsigned int fd)
{
	struct fd f = fdget(fd);
	int may = 0;

	if (fd_file(f)) {
		may = file_can_poll(fd_file(f)) &&
		      !(fd_file(f)->f_flags & O_NONBLOCK);
		fdput(f);
	}
	return may;
}

/* Zeroed memory that can be mapped to user space, a multiple of pages. */
void *flexsc_area_alloc(size_t size)
{
	return vmalloc_user(size);
}

void flexsc_area_free(void *area)
{
	vfree(area);
}

/* Map the whole of @area; not inherited, not expanded, never executable. */
int flexsc_mmap(struct vm_area_struct *vma, void *area)
{
	if (!(vma->vm_flags & VM_SHARED) || !(vma->vm_flags & VM_READ) ||
	    !(vma->vm_flags & VM_WRITE))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYEXEC);
	return remap_vmalloc_range(vma, area, 0);
}

void flexsc_mm_grab(struct mm_struct *mm)
{
	mmgrab(mm);
}

void flexsc_mm_drop(struct mm_struct *mm)
{
	mmdrop(mm);
}

struct pid *flexsc_get_pid(struct pid *pid)
{
	return get_pid(pid);
}

void flexsc_seq_u64(struct seq_file *m, const char *name, u64 value)
{
	seq_printf(m, "%s:\t%llu\n", name, value);
}
