// SPDX-License-Identifier: GPL-2.0
/* A file in debugfs for each engine: /sys/kernel/debug/flexsc/TGID-NUMBER. */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/rtmutex.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "../helpers.h"

struct flexsc_debug {
	struct dentry *file;
	void (*show)(struct seq_file *m, void *data);
	void *data;
};

static struct dentry *flexsc_debug_dir;

#if IS_ENABLED(CONFIG_PROVE_LOCKING) && IS_ENABLED(CONFIG_RT_MUTEXES)
/*
 * For tests of calls that sleep for a lock with priority inheritance. No call
 * that can be posted does so in a small machine: futexes of that kind are
 * refused, and the rest are buses such as I2C.
 */
static DEFINE_RT_MUTEX(flexsc_debug_lock);
static DECLARE_WAIT_QUEUE_HEAD(flexsc_debug_wait);
static bool flexsc_debug_held;

/* At the beginning: wait for the lock. Behind it: tell whether it is held. */
static ssize_t flexsc_debug_read(struct file *file, char __user *buf,
				 size_t count, loff_t *pos)
{
	if (*pos)
		return READ_ONCE(flexsc_debug_held);
	rt_mutex_lock(&flexsc_debug_lock);
	rt_mutex_unlock(&flexsc_debug_lock);
	return 0;
}

/* "1" holds the lock until "0" is written. */
static ssize_t flexsc_debug_write(struct file *file, const char __user *buf,
				  size_t count, loff_t *pos)
{
	bool hold;
	int ret = kstrtobool_from_user(buf, count, &hold);

	if (ret)
		return ret;
	if (hold) {
		rt_mutex_lock(&flexsc_debug_lock);
		WRITE_ONCE(flexsc_debug_held, true);
		wait_event_interruptible(flexsc_debug_wait,
					 !READ_ONCE(flexsc_debug_held));
		WRITE_ONCE(flexsc_debug_held, false);
		rt_mutex_unlock(&flexsc_debug_lock);
	} else {
		WRITE_ONCE(flexsc_debug_held, false);
		wake_up_all(&flexsc_debug_wait);
	}
	return count;
}

static const struct file_operations flexsc_debug_lock_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = flexsc_debug_read,
	.write = flexsc_debug_write,
};

static void flexsc_debug_add_lock(void)
{
	debugfs_create_file("rt_mutex", 0600, flexsc_debug_dir, NULL,
			    &flexsc_debug_lock_fops);
}
#else
static inline void flexsc_debug_add_lock(void) { }
#endif

void flexsc_debug_init(void)
{
	flexsc_debug_dir = debugfs_create_dir("flexsc", NULL);
	flexsc_debug_add_lock();
}

void flexsc_debug_exit(void)
{
	debugfs_remove(flexsc_debug_dir);
}

static int flexsc_debug_show(struct seq_file *m, void *unused)
{
	struct flexsc_debug *d = m->private;

	d->show(m, d->data);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(flexsc_debug);

/* Best effort: on failure there is no debugfs file. */
struct flexsc_debug *flexsc_debug_add(unsigned int number,
				      void (*show)(struct seq_file *m, void *data),
				      void *data)
{
	struct flexsc_debug *d = kzalloc(sizeof(*d), GFP_KERNEL_ACCOUNT);
	char name[32];

	if (!d)
		return NULL;
	d->show = show;
	d->data = data;
	snprintf(name, sizeof(name), "%d-%u", current->tgid, number);
	d->file = debugfs_create_file(name, 0400, flexsc_debug_dir, d,
				      &flexsc_debug_fops);
	return d;
}

/* Wait until no task reads the file any more. Returns the data. */
void *flexsc_debug_remove(struct flexsc_debug *d)
{
	void *data = d->data;

	debugfs_remove(d->file);
	kfree(d);
	return data;
}
