/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Unwinds from every single instruction of a call to the function that makes it. */
#include "check.h"
#include <execinfo.h>
#include <sys/syscall.h>

static volatile int steps, lost;
static char *begin, *end;

static void step(int sig)
{
	void *frames[32];
	int depth = backtrace(frames, 32), is_found = 0;

	(void)sig;
	for (int i = 0; i < depth; i++)
		is_found |= (char *)frames[i] > begin && (char *)frames[i] < end;
	steps++;
	lost += !is_found;
}

/* Bit 8 of the flags makes the processor trap after each instruction. */
#define STEP(on)                                                                    \
	asm volatile("pushf\n\tandl $~0x100, (%%rsp)\n\torl %0, (%%rsp)\n\tpopf" ::"r"((on) << 8) \
		     : "memory", "cc")

static __attribute__((noinline)) void *make_calls(void *arg)
{
	char byte;
	int *fd = arg;

	STEP(1);
	getppid();
	syscall(SYS_gettid);
	CHECK(write(fd[1], "x", 1) == 1);
	CHECK(read(fd[0], &byte, 1) == 1);
	STEP(0);
	return NULL;
}

static __attribute__((noinline)) void *behind_make_calls(void *arg)
{
	return arg;
}

int main(void)
{
	struct sigaction action = { .sa_handler = step };
	void *frames[2];
	pthread_t thread;
	int fd[2];

	/* The first back trace loads a library. */
	backtrace(frames, 2);
	begin = (char *)make_calls;
	end = (char *)make_calls + 400;
	CHECK(pipe(fd) == 0);
	CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
	for (int i = 0; i < 2; i++) {
		CHECK(pthread_create(&thread, NULL, i ? make_calls : behind_make_calls, fd) == 0);
		CHECK(pthread_join(thread, NULL) == 0);
	}
	printf("enough steps %d, lost %d\n", steps > 60, lost);
	return 0;
}
