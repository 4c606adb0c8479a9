/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Times what threads do to each other: nanoseconds of a yield, a hand-over, a thread.  With -DSTEPS:
 * does each once between breakpoints, so that a tracer can count the instructions. */
#include "check.h"

static int is_over;

static void *same(void *arg)
{
	return arg;
}

static void *yield(void *arg)
{
	while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED))
		sched_yield();
	return arg;
}

#ifndef STEPS
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int turn;

static void hand_over(int me)
{
	pthread_mutex_lock(&mutex);
	while (turn != me)
		pthread_cond_wait(&cond, &mutex);
	turn = !me;
	pthread_cond_signal(&cond);
	pthread_mutex_unlock(&mutex);
}

static void *other(void *arg)
{
	for (long i = 0; i < (long)arg; i++)
		hand_over(1);
	return NULL;
}
#endif

static void create_and_join(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, same, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}

#ifdef STEPS
int main(void)
{
	pthread_t thread;

	create_and_join();
	CHECK(pthread_create(&thread, NULL, yield, NULL) == 0);
	for (int i = 0; i < 5; i++)
		sched_yield();
	asm volatile("int3");
	/* There and back: two switches. */
	sched_yield();
	asm volatile("int3");
	is_over = 1;
	CHECK(pthread_join(thread, NULL) == 0);
	asm volatile("int3");
	create_and_join();
	asm volatile("int3");
	return 0;
}
#else
static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(void)
{
	const long count = 20000, threads = 2000;
	pthread_t thread;
	cpu_set_t cpus;
	double start;

	/* One processor, for the kernel's threads too. */
	CHECK(sched_getaffinity(0, sizeof(cpus), &cpus) == 0);
	for (int cpu = 0, found = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &cpus) && found++)
			CPU_CLR(cpu, &cpus);
	}
	CHECK(sched_setaffinity(0, sizeof(cpus), &cpus) == 0);
	create_and_join();
	CHECK(pthread_create(&thread, NULL, yield, NULL) == 0);
	start = now();
	for (long i = 0; i < count; i++)
		sched_yield();
	printf("yield %.0f\n", (now() - start) / count / 2);
	is_over = 1;
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(pthread_create(&thread, NULL, other, (void *)count) == 0);
	start = now();
	for (long i = 0; i < count; i++)
		hand_over(0);
	printf("hand-over %.0f\n", (now() - start) / count / 2);
	CHECK(pthread_join(thread, NULL) == 0);
	start = now();
	for (long i = 0; i < threads; i++)
		create_and_join();
	printf("create and join %.0f\n", (now() - start) / threads);
	return 0;
}
#endif
