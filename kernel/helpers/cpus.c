// SPDX-License-Identifier: GPL-2.0
/*
 * CPUs and nice values of the current task, for Rust.
 */
#include <linux/capability.h>
#include <linux/cpumask.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/prio.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/syscall_thread.h>

#include "../helpers.h"

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
 * Put into @few the CPUs of @mask on which some thread of the program may run
 * now or, if that leaves none, all CPUs on which such a thread may run.
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
		/* The usual exit, taken at the first thread. */
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
 * Let the current syscall thread run on @bits or, if @bits is 0, on the CPUs of
 * @mask that the program itself may still use, within its cpuset. If no CPU is
 * left, the affinity does not change.
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

/* Returns how many of the CPUs that the current task may use are online. */
unsigned int flexsc_usable_cpus(void)
{
	return cpumask_weight_and(&syscall_caller()->cpus_mask, cpu_online_mask);
}

/* Returns the CPUs from 0 to 63 that are active and in the current task's cpuset. */
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
	return task_nice(syscall_caller());
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

/* Returns the task that the current syscall thread, which last served @served, follows. */
static struct task_struct *flexsc_followed(struct task_struct *served)
{
	return READ_ONCE(served->flags) & PF_EXITING ? current->group_leader :
						       served;
}

/*
 * Returns true if the current syscall thread, which last served @served, has
 * outdated credentials or, if @nice, an outdated nice value.
 */
bool flexsc_is_behind(struct task_struct *served, bool nice)
{
	struct task_struct *tsk = flexsc_followed(served);

	if (rcu_access_pointer(tsk->real_cred) !=
	    rcu_access_pointer(current->real_cred))
		return true;
	return nice && task_nice(tsk) != task_nice(current);
}

/* Update both. */
void flexsc_keep_up(struct task_struct *served, bool nice)
{
	struct task_struct *tsk = flexsc_followed(served);

	syscall_thread_adopt(tsk);
	if (nice)
		flexsc_follow_nice(tsk);
}

/*
 * Give the current syscall thread a nice value. A lower one requires that the
 * requester was allowed to set it; the thread's own rights may be out of date.
 */
void flexsc_renice(int nice, bool privileged)
{
	if (nice >= task_nice(current) || privileged)
		set_user_nice(current, nice);
}

/*
 * Copy the CPU mask of the task that made this call, perhaps by posting it. The
 * caller frees the copy with flexsc_free_cpus().
 */
struct cpumask *flexsc_own_cpus(void)
{
	struct cpumask *mask = kmalloc(cpumask_size(), GFP_KERNEL_ACCOUNT);
	struct task_struct *caller = syscall_caller();

	if (mask) {
		raw_spin_lock_irq(&caller->pi_lock);
		cpumask_copy(mask, &caller->cpus_mask);
		raw_spin_unlock_irq(&caller->pi_lock);
	}
	return mask;
}

void flexsc_free_cpus(struct cpumask *mask)
{
	kfree(mask);
}
