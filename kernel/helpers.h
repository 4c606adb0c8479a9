/* SPDX-License-Identifier: GPL-2.0 */
/* C functions that the Rust side of flexsc calls; copied in sys/c.rs. */
#ifndef _FLEXSC_HELPERS_H
#define _FLEXSC_HELPERS_H

#include <linux/types.h>

struct cpumask;
struct file;
struct flexsc_debug;
struct flexsc_deferred;
struct flexsc_notifier;
struct flexsc_parked;
struct flexsc_parker;
struct mm_struct;
struct pid;
struct poll_table_struct;
struct pt_regs;
struct seq_file;
struct syscall_outcome;
struct task_struct;
struct vm_area_struct;

void flexsc_lock_init_pages(raw_spinlock_t *lock);
void flexsc_lock_init_pool(raw_spinlock_t *lock);
void flexsc_lock_init_slots(raw_spinlock_t *lock);
void flexsc_lock(raw_spinlock_t *lock);
void flexsc_unlock(raw_spinlock_t *lock);

struct task_struct *flexsc_current(void);
bool flexsc_is_caller(const struct task_struct *task);
struct mm_struct *flexsc_current_mm(void);
struct pid *flexsc_current_tgid(void);
bool flexsc_signal_pending(void);
bool flexsc_resched(void);
void flexsc_relax(void);
void flexsc_sleep_prepare(void);
void flexsc_sleep_cancel(void);
long flexsc_sleep(long timeout_ms);
int flexsc_sleep_until(u64 when_ns);
u64 flexsc_now_ns(void);
u64 flexsc_monotonic_to_host(u64 when_ns);
void flexsc_mb(void);
unsigned int flexsc_weight(u64 bits);
bool flexsc_run_on(unsigned int cpu);
void flexsc_run_on_cpus(struct cpumask *mask, u64 bits);
unsigned int flexsc_this_cpu(void);
unsigned int flexsc_usable_cpus(void);
u64 flexsc_allowed_cpus(void);
struct cpumask *flexsc_own_cpus(void);
void flexsc_free_cpus(struct cpumask *mask);
u64 flexsc_cpus_bits(struct cpumask *mask);
int flexsc_nice(void);
bool flexsc_may_renice(int nice);
void flexsc_follow_nice(struct task_struct *owner);
bool flexsc_is_behind(struct task_struct *served, bool nice);
void flexsc_keep_up(struct task_struct *served, bool nice);
void flexsc_renice(int nice, bool privileged);

void *flexsc_area_alloc(size_t size);
void flexsc_area_free(void *area);
int flexsc_mmap(struct vm_area_struct *vma, void *area);
int flexsc_access(struct vm_area_struct *vma, void *area, size_t size,
		  unsigned long first, unsigned long addr, void *buf, int len,
		  bool write);
int flexsc_charge_pinned(struct mm_struct *mm, unsigned long pages);
void flexsc_uncharge_pinned(struct mm_struct *mm, unsigned long pages);
void flexsc_warn(void);
void flexsc_mm_grab(struct mm_struct *mm);
void flexsc_mm_drop(struct mm_struct *mm);
struct pid *flexsc_get_pid(struct pid *pid);
bool flexsc_may_open(void);
umode_t flexsc_device_mode(void);
unsigned int flexsc_max_pages(void);
unsigned int flexsc_max_threads(void);
unsigned int flexsc_max_user_pages(void);
unsigned int flexsc_current_user(void);
void flexsc_thread_name(char *name, unsigned int engine, unsigned int pool);
void flexsc_seq_u64(struct seq_file *m, const char *name, u64 value);

struct flexsc_notifier *flexsc_notifier_new(void);
void flexsc_notifier_free(struct flexsc_notifier *n);
void flexsc_notifier_signal(struct flexsc_notifier *n);
void flexsc_notifier_poll(struct flexsc_notifier *n, struct file *file,
			  struct poll_table_struct *table);
int flexsc_notifier_set_eventfd(struct flexsc_notifier *n, int fd);

struct flexsc_deferred *flexsc_deferred_new(void);
void flexsc_deferred_start(struct flexsc_deferred *d,
			   unsigned int (*run)(void *data),
			   void (*run_ready)(void *data), void *data);
void flexsc_deferred_trigger(struct flexsc_deferred *d);
void flexsc_deferred_trigger_now(struct flexsc_deferred *d);
void *flexsc_deferred_stop(struct flexsc_deferred *d);
void flexsc_deferred_free(struct flexsc_deferred *d);

/* The owner's reaction to files that become ready; copied in sys/park.rs. */
enum flexsc_attention {
	FLEXSC_AWAY,	/* nothing: a thread executes the call */
	FLEXSC_LOOKS,	/* it checks before it sleeps or leaves */
	FLEXSC_SLEEPS,	/* it must be woken */
};

enum flexsc_park {
	FLEXSC_PARK_WAITS,
	FLEXSC_PARK_READY,
	FLEXSC_PARK_NOT,	/* a thread must make the call */
};

enum flexsc_park_count {
	FLEXSC_PARK_PARKED,
	FLEXSC_PARK_WOKEN,
	FLEXSC_PARK_VAIN,	/* spurious wake-ups: the file was not ready */
	FLEXSC_PARK_PASSED,	/* wake-ups passed on to others */
	FLEXSC_PARK_TIMED_OUT,
	FLEXSC_PARK_COUNTS,
};

struct flexsc_parked_call {
	u64 args[6];
	u16 nr;
};

struct flexsc_parker *flexsc_parker_new(struct task_struct *owner,
					struct flexsc_deferred *later,
					unsigned int pages);
void flexsc_parker_free(struct flexsc_parker *parker);
void flexsc_parker_attend(struct flexsc_parker *parker, int attention);
bool flexsc_parker_attends(const struct flexsc_parker *parker);
u64 flexsc_parker_ready(const struct flexsc_parker *parker);
u64 flexsc_parker_take(struct flexsc_parker *parker, unsigned int page,
		       u64 parked);
void flexsc_parker_parked(struct flexsc_parker *parker, unsigned int page,
			  unsigned int index);
u64 flexsc_parker_counted(const struct flexsc_parker *parker,
			  enum flexsc_park_count what);
struct flexsc_parked *flexsc_parked_new(struct flexsc_parker *parker,
					unsigned int page, unsigned int index,
					const struct flexsc_parked_call *call);
unsigned int flexsc_parked_in_vain(struct flexsc_parked *p);
bool flexsc_parked_advances(struct flexsc_parked *p);
bool flexsc_parked_has_begun(const struct flexsc_parked *p);
void flexsc_parked_end(struct flexsc_parked *p, long result);
void flexsc_parked_free(struct flexsc_parked *p);
const struct flexsc_parked_call *flexsc_parked_call(const struct flexsc_parked *p);
enum flexsc_park flexsc_park_arm(struct flexsc_parked *p);
void flexsc_park_unhook(struct flexsc_parked *p);
long flexsc_parked_cancel(struct flexsc_parked *p);
struct syscall_outcome flexsc_parked_try(struct flexsc_parked *p,
					 struct pt_regs *regs);
struct syscall_outcome flexsc_parked_invoke(struct flexsc_parked *p,
					    struct task_struct *owner,
					    struct pt_regs *regs);

void flexsc_trace_invoke(unsigned int nr, unsigned int index,
			 struct task_struct *owner);
void flexsc_trace_block(unsigned int left);
void flexsc_trace_complete(unsigned int nr, unsigned int index, long result);
extern int flexsc_tracers;
void flexsc_trace_post(struct task_struct *owner, unsigned int id,
		       unsigned int page, u64 bits);
void flexsc_trace_handoff(unsigned int pool, unsigned int queued);
void flexsc_trace_wait(unsigned int id, unsigned int missing);
void flexsc_trace_kick(struct task_struct *owner, unsigned int id);
void flexsc_trace_park(unsigned int nr, unsigned int index,
		       struct task_struct *owner);
void flexsc_trace_ready(unsigned int nr, unsigned int index,
			struct task_struct *owner);

void flexsc_debug_init(void);
void flexsc_debug_exit(void);
struct flexsc_debug *flexsc_debug_add(unsigned int number,
				      void (*show)(struct seq_file *m, void *data),
				      void *data);
void *flexsc_debug_remove(struct flexsc_debug *d);

#endif /* _FLEXSC_HELPERS_H */
