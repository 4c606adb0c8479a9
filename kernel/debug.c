// SPDX-License-Identifier: GPL-2.0
/* A file in debugfs for each engine: /sys/kernel/debug/flexsc/TGID-NUMBER. */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "helpers.h"

struct flexsc_debug {
	struct dentry *file;
	void (*show)(struct seq_file *m, void *data);
	void *data;
};

static struct dentry *flexsc_debug_dir;

void flexsc_debug_init(void)
{
	flexsc_debug_dir = debugfs_create_dir("flexsc", NULL);
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
