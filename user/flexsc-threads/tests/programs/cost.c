/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Makes calls between breakpoints, so that a tracer can count their instructions. */
#include "check.h"
#include <sys/syscall.h>

static void *idle(void *arg)
{
	return arg;
}

int main(void)
{
	pthread_t thread;
	char byte;
	int fd[2];

	CHECK(pipe(fd) == 0);
#ifndef ONE_THREAD
	CHECK(pthread_create(&thread, NULL, idle, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
#else
	(void)thread;
	(void)idle;
#endif
#ifdef START_ONLY
	return 0;
#endif
	/* Once before: the dynamic linker binds the names. */
	for (int i = 0; i < 2; i++) {
		asm volatile("int3");
		getppid();
		asm volatile("int3");
		write(fd[1], "x", 1);
		asm volatile("int3");
		read(fd[0], &byte, 1);
		asm volatile("int3");
		syscall(SYS_futex, &fd, 1, 1);
		asm volatile("int3");
		syscall(1000);
		asm volatile("int3");
	}
	return 0;
}
