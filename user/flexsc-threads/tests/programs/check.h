/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For programs whose output with and without the library is compared. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK(cond) ((cond) ? (void)0 : failed(__FILE__, __LINE__, #cond))

static inline void failed(const char *file, int line, const char *cond)
{
	printf("%s:%d: not so: %s (errno %d)\n", file, line, cond, errno);
	exit(1);
}

/*
 * Waits until the thread with this number sleeps in the kernel.  A user-level thread is unknown there:
 * when its turn has come it runs until it waits.
 */
static inline void until_asleep(int tid)
{
	char path[64], text[512];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	for (;;) {
		file = fopen(path, "r");
		if (!file && tid >= 1 << 22) {
			sched_yield();
			return;
		}
		if (file && fgets(text, sizeof(text), file) && strstr(text, ") S ")) {
			fclose(file);
			return;
		}
		if (file)
			fclose(file);
		usleep(1000);
	}
}
