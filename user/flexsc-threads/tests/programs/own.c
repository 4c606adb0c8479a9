/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Has a `syscall` instruction of its own, which stays plain because the program is too far from the stubs. */
#include "check.h"

static void *idle(void *arg)
{
	return arg;
}

int main(void)
{
	pthread_t thread;
	long result;

	CHECK(pthread_create(&thread, NULL, idle, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	asm volatile("syscall" : "=a"(result) : "a"(110) : "rcx", "r11", "memory");
	printf("own %d\n", result == getppid());
	return 0;
}
