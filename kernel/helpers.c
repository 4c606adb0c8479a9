// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust can not call by itself: inline functions and macros of the kernel,
 * and the module's parameters.
 */
#include <linux/bitops.h>
#include <linux/capability.h>
#include <linux/cpumask.h>
#include <linux/cred.h>
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nsproxy.h>
#include <linux/overflow.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/prio.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/syscall_thread.h>
#include <linux/time_namespace.h>
#include <linux/vmalloc.h>

#include "helpers.h"

MODULE_IMPORT_NS(SYSCALL_THREADS);

static uint enable;

static int flexsc_set_enable(const char *val, const struct kernel_param *kp)
{
	return param_set_uint_minmax(val, kp, 0, 2);
}

static const struct kernel_param_ops flexsc_enable_ops = {
	.set = flexsc_set_enable,
	.get = param_get_uint,
};

module_param_cb(enable, &flexsc_enable_ops, &enable, 0644);
__MODULE_PARM_TYPE(enable, "uint");
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

static uint max_user_pages = 8192;
module_param(max_user_pages, uint, 0644);
MODULE_PARM_DESC(max_user_pages, "Syscall pages that one user may have in all engines together (default 8192, 0 = no limit)");

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

unsigned int flexsc_max_user_pages(void)
{
	return READ_ONCE(max_user_pages);
}

/* The number of the current task's user in the initial namespace. */
unsigned int flexsc_current_user(void)
{
	return __kuid_val(current_uid());
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

/* Does the current task execute a call of @task's, or is it @task itself? */
bool flexsc_is_caller(const struct task_struct *task)
{
	return task == syscall_caller();
}

struct mm_struct *flexsc_current_mm(void)
{
	return current->mm;
}

struct pid *flexsc_current_tgid(void)
{
	return task_tgid(current);
}

bool flexsc_signal_pending(void)
{
	return signal_pending(current);
}

/*
 * Between two entries: let others run, and those who wait for tasks to leave
 * what they may have been tracing. A syscall thread also does what other tasks
 * do on their way to user space. True where a signal is pending.
 */
bool flexsc_resched(void)
{
	cond_resched_tasks_rcu_qs();
	syscall_thread_user_work();
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
	long left = 1;

	if (timeout_ms < 0)
		schedule();
	else
		left = schedule_timeout(msecs_to_jiffies(timeout_ms) + 1);
	/* Stay on the stack meanwhile: /proc/PID/wchan shows this function's name. */
	barrier();
	return left;
}

/* Sleep until CLOCK_MONOTONIC is @when_ns. Returns 0 where the time is over. */
int flexsc_sleep_until(u64 when_ns)
{
	ktime_t expires = min_t(u64, when_ns, KTIME_MAX);
	int ret;

	ret = schedule_hrtimeout_range(&expires, current->timer_slack_ns,
				       HRTIMER_MODE_ABS);
	/* As above. */
	barrier();
	return ret;
}

u64 flexsc_now_ns(void)
{
	return ktime_get_ns();
}

/*
 * CLOCK_MONOTONIC as the current task's time namespace shows it in the host's.
 * timens_ktime_to_host() is not for modules.
 */
u64 flexsc_monotonic_to_host(u64 when_ns)
{
#ifdef CONFIG_TIME_NS
	const struct time_namespace *ns = current->nsproxy->time_ns;
	s64 offset = timespec64_to_ns(&ns->offsets.monotonic);

	if (offset >= 0)
		return when_ns > offset ? when_ns - offset : 0;
	if (check_sub_overflow(when_ns, offset, &when_ns))
		return U64_MAX;
#endif
	return when_ns;
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

/*
 * Bind the current syscall thread to @cpu: within its cpuset, which may move it
 * away later.
 */
bool flexsc_run_on(unsigned int cpu)
{
	return cpu < nr_cpu_ids && cpu_online(cpu) &&
	       !syscall_thread_set_cpus(cpumask_of(cpu)) &&
	       raw_smp_processor_id() == cpu;
}

static void flexsc_bits_to_cpus(struct cpumask *mask, u64 bits)
{
	unsigned int cpu;

	cpumask_clear(mask);
	for_each_possible_cpu(cpu)
		if (cpu < 64 && (bits & BIT_ULL(cpu)))
			cpumask_set_cpu(cpu, mask);
}

u64 flexsc_cpus_bits(struct cpumask *mask)
{
	unsigned int cpu;
	u64 bits = 0;

	for_each_cpu(cpu, mask)
		if (cpu < 64)
			bits |= BIT_ULL(cpu);
	return bits;
}

/*
 * Put into @few those of @mask on which some thread of the program may run now,
 * or all on which one may if that leaves none.
 */
static void flexsc_narrow_cpus(struct cpumask *few, const struct cpumask *mask)
{
	struct task_struct *t;

	cpumask_clear(few);
	rcu_read_lock();
	for_each_thread(current, t) {
		if (task_is_syscall_thread(t) || t->flags & PF_EXITING)
			continue;
		raw_spin_lock_irq(&t->pi_lock);
		cpumask_or(few, few, &t->cpus_mask);
		raw_spin_unlock_irq(&t->pi_lock);
		/* The usual end, at the first thread. */
		if (cpumask_subset(mask, few))
			break;
	}
	rcu_read_unlock();
	if (cpumask_empty(few))
		cpumask_copy(few, mask);
	else if (cpumask_intersects(few, mask))
		cpumask_and(few, few, mask);
}

/*
 * Let the current syscall thread run on @bits, or if they are 0 on those of
 * @mask that the program itself may still use, within its cpuset. If nothing is
 * left it stays where it is.
 */
void flexsc_run_on_cpus(struct cpumask *mask, u64 bits)
{
	cpumask_var_t few;

	if (!alloc_cpumask_var(&few, GFP_KERNEL))
		return;
	if (bits)
		flexsc_bits_to_cpus(few, bits);
	else
		flexsc_narrow_cpus(few, mask);
	syscall_thread_set_cpus(few);
	free_cpumask_var(few);
}

unsigned int flexsc_this_cpu(void)
{
	return raw_smp_processor_id();
}

/* How many of the CPUs that the current task may use are online? */
unsigned int flexsc_usable_cpus(void)
{
	return cpumask_weight_and(current->cpus_ptr, cpu_online_mask);
}

/* Which of CPU 0 to 63 are in use and in the current task's cpuset? */
u64 flexsc_allowed_cpus(void)
{
	cpumask_var_t mask;
	u64 bits;

	if (!alloc_cpumask_var(&mask, GFP_KERNEL))
		return 0;
	syscall_thread_get_cpus(mask);
	cpumask_and(mask, mask, cpu_active_mask);
	bits = flexsc_cpus_bits(mask);
	free_cpumask_var(mask);
	return bits;
}

int flexsc_nice(void)
{
	return task_nice(current);
}

/* As the kernel's can_nice(). */
bool flexsc_may_renice(int nice)
{
	return nice_to_rlimit(nice) <= rlimit(RLIMIT_NICE) ||
	       capable(CAP_SYS_NICE);
}

/* Give the current syscall thread the nice value of @owner. */
void flexsc_follow_nice(struct task_struct *owner)
{
	int nice = task_nice(owner);

	if (unlikely(nice != task_nice(current)))
		set_user_nice(current, nice);
}

/*
 * Give the current syscall thread a nice value. A better one only if whoever
 * asked for it had the right: those of the thread itself may be out of date.
 */
void flexsc_renice(int nice, bool privileged)
{
	if (nice >= task_nice(current) || privileged)
		set_user_nice(current, nice);
}

/* A copy of the current task's CPU mask, to be freed with free_cpus. */
struct cpumask *flexsc_own_cpus(void)
{
	struct cpumask *mask = kmalloc(cpumask_size(), GFP_KERNEL_ACCOUNT);

	if (mask)
		cpumask_copy(mask, current->cpus_ptr);
	return mask;
}

void flexsc_free_cpus(struct cpumask *mask)
{
	kfree(mask);
}

/*
 * May a read from or a write to @fd block for an unbounded time? Files that
 * poll() can wait for may, unless they are non-blocking.
 */
int flexsc_file_may_block(unsigned int fd)
{
	const struct file_operations *op;
	struct file *file;
	int may = 0;

	/*
	 * A hint, so no reference is taken. The file may be closed and its
	 * memory be that of another one meanwhile, but it was open within this
	 * section, or the other one was: the module that its operations belong
	 * to stays until the section ends. A new file has none at first.
	 */
	rcu_read_lock();
	file = files_lookup_fd_raw(current->files, fd);
	if (file) {
		op = READ_ONCE(file->f_op);
		may = !(READ_ONCE(file->f_flags) & O_NONBLOCK) &&
		      (!op || op->poll);
	}
	rcu_read_unlock();
	return may;
}

/*
 * Zeroed memory that can be mapped to user space, a multiple of pages. Each of
 * them is charged to the memory cgroup until its last user has dropped it,
 * which may be a pipe that the program has put it into.
 */
void *flexsc_area_alloc(size_t size)
{
	return __vmalloc(size, GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN);
}

void flexsc_area_free(void *area)
{
	vfree(area);
}

/*
 * Map the whole of @area; not expanded, never executable, not inherited, which
 * VM_IO keeps madvise(MADV_DOFORK) from changing.
 */
int flexsc_mmap(struct vm_area_struct *vma, void *area)
{
	unsigned long addr;

	if (!(vma->vm_flags & VM_SHARED) || !(vma->vm_flags & VM_READ) ||
	    !(vma->vm_flags & VM_WRITE))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	vm_flags_mod(vma, VM_IO | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP,
		     VM_MAYEXEC);
	for (addr = vma->vm_start; addr < vma->vm_end; addr += PAGE_SIZE) {
		int ret = vm_insert_page(vma, addr, vmalloc_to_page(area));

		if (ret)
			return ret;
		area += PAGE_SIZE;
	}
	return 0;
}

/*
 * What a debugger reads or writes in a mapping of @area, which begins at page
 * @first of the file. Returns how many bytes, or -errno.
 */
int flexsc_access(struct vm_area_struct *vma, void *area, size_t size,
		  unsigned long first, unsigned long addr, void *buf, int len,
		  bool write)
{
	unsigned long offset = addr - vma->vm_start +
			       ((vma->vm_pgoff - first) << PAGE_SHIFT);

	if (!(vma->vm_flags & (write ? VM_WRITE : VM_READ)))
		return -EACCES;
	if (len < 0 || offset >= size)
		return -EFAULT;
	len = min3((unsigned long)len, size - offset, vma->vm_end - addr);
	if (write)
		memcpy(area + offset, buf, len);
	else
		memcpy(buf, area + offset, len);
	return len;
}

/*
 * Charge @pages to RLIMIT_MEMLOCK of the current task, which belongs to @mm: as
 * pinned memory, which unlike locked memory can be given back where a mapping
 * ends, with the address space locked.
 */
int flexsc_charge_pinned(struct mm_struct *mm, unsigned long pages)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	unsigned long sum = atomic64_add_return(pages, &mm->pinned_vm);

	sum += data_race(mm->locked_vm);
	if (sum > limit && !capable(CAP_IPC_LOCK)) {
		atomic64_sub(pages, &mm->pinned_vm);
		return -ENOMEM;
	}
	return 0;
}

void flexsc_uncharge_pinned(struct mm_struct *mm, unsigned long pages)
{
	atomic64_sub(pages, &mm->pinned_vm);
}

/* Something happened that can not: say so, once. */
void flexsc_warn(void)
{
	WARN_ON_ONCE(1);
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

/*
 * @name has room for TASK_COMM_LEN bytes. All digits of @engine and @pool have
 * not, so of the former the last five are shown.
 */
void flexsc_thread_name(char *name, unsigned int engine, unsigned int pool)
{
	snprintf(name, TASK_COMM_LEN, "flexsc-%u:%u", engine % 100000, pool);
}

void flexsc_seq_u64(struct seq_file *m, const char *name, u64 value)
{
	seq_printf(m, "%s:\t%llu\n", name, value);
}
