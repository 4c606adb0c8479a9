/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads that wait for each other without a call, as those of redis do, and one that blocks in open. */
#include "check.h"
#include <fcntl.h>
#include <sys/stat.h>

#define ROUNDS 100
#define SPINNERS 3

static int ends[2];
static volatile int turn;

static void *read_byte(void *arg)
{
	char byte;

	CHECK(read(ends[0], &byte, 1) == 1);
	turn = 1;
	return arg;
}

/* The byte is there; the call may be on its way when the other thread begins to spin. */
static void test_reader(void)
{
	pthread_t thread;

	CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
	CHECK(pthread_create(&thread, NULL, read_byte, NULL) == 0);
	CHECK(sched_yield() == 0);
	while (!turn)
		;
	CHECK(pthread_join(thread, NULL) == 0);
	puts("read");
}

static volatile int work[SPINNERS];

static void *spin(void *arg)
{
	volatile int *own = arg;
	char byte;

	for (int i = 0; i < ROUNDS; i++) {
		while (!*own)
			;
		CHECK(write(ends[1], "y", 1) == 1 && read(ends[0], &byte, 1) == 1);
		*own = 0;
	}
	return NULL;
}

/* Each round needs every thread once. */
static void test_spinners(void)
{
	pthread_t threads[SPINNERS];

	for (int i = 0; i < SPINNERS; i++)
		CHECK(pthread_create(&threads[i], NULL, spin, (void *)&work[i]) == 0);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < SPINNERS; i++)
			work[i] = 1;
		for (int i = 0; i < SPINNERS; i++)
			while (work[i])
				;
	}
	for (int i = 0; i < SPINNERS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	puts("spun");
}

static char path[64];

static void *open_late(void *arg)
{
	/* The other one blocks meanwhile. */
	usleep(20000);
	CHECK(open(path, O_WRONLY) >= 0);
	return arg;
}

static void test_open(void)
{
	pthread_t thread;

	snprintf(path, sizeof(path), "/tmp/flexsc-spin-%d", getpid());
	CHECK(mkfifo(path, 0600) == 0);
	CHECK(pthread_create(&thread, NULL, open_late, NULL) == 0);
	CHECK(open(path, O_RDONLY) >= 0);
	CHECK(pthread_join(thread, NULL) == 0 && unlink(path) == 0);
	puts("opened");
}

int main(void)
{
	test_reader();
	test_spinners();
	test_open();
	return 0;
}
