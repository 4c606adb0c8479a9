// SPDX-License-Identifier: GPL-2.0
/*
 * The module's parameters, and their values for Rust. flexsc(4) describes them.
 */
#include <linux/capability.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "../helpers.h"

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
MODULE_PARM_DESC(enable, "Who may use /dev/flexsc: 0 = everyone that the device's mode admits, 1 = only CAP_SYS_ADMIN, 2 = nobody");

static ushort mode = 0666;
module_param(mode, ushort, 0444);
MODULE_PARM_DESC(mode, "Mode of /dev/flexsc");

static uint max_pages = 1024;
module_param(max_pages, uint, 0644);
MODULE_PARM_DESC(max_pages, "Syscall pages that one engine may have");

static uint max_threads = 8192;
module_param(max_threads, uint, 0644);
MODULE_PARM_DESC(max_threads, "Syscall threads that one engine may have");

static uint max_user_pages = 8192;
module_param(max_user_pages, uint, 0644);
MODULE_PARM_DESC(max_user_pages, "Syscall pages that one user may have in all engines together, 0 = no limit");

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
