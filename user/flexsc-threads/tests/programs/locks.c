/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Mutexes of all types, condition variables. */
#include "check.h"
#include <sys/mman.h>
#include <sys/wait.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int turn, sum;

static void init(pthread_mutex_t *at, int type, int protocol, int robust, int pshared)
{
	pthread_mutexattr_t attr;

	CHECK(pthread_mutexattr_init(&attr) == 0);
	CHECK(pthread_mutexattr_settype(&attr, type) == 0);
	CHECK(pthread_mutexattr_setprotocol(&attr, protocol) == 0);
	CHECK(pthread_mutexattr_setrobust(&attr, robust) == 0);
	CHECK(pthread_mutexattr_setpshared(&attr, pshared) == 0);
	CHECK(pthread_mutex_init(at, &attr) == 0);
}

static void *add(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(arg);
		sum++;
		pthread_mutex_unlock(arg);
	}
	return NULL;
}

static void contend(const char *name, pthread_mutex_t *at)
{
	pthread_t threads[4];

	sum = 0;
	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, add, at) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	printf("%s: %d\n", name, sum);
}

static void *take_turns(void *arg)
{
	int me = (int)(intptr_t)arg;

	for (int i = 0; i < 2000; i++) {
		pthread_mutex_lock(&mutex);
		while (turn != me)
			pthread_cond_wait(&cond, &mutex);
		turn = !me;
		pthread_cond_signal(&cond);
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

static void *die_with_lock(void *arg)
{
	pthread_mutex_lock(arg);
	return NULL;
}

static void *busy(void *arg)
{
	struct timespec soon;

	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_nsec += 10 * 1000 * 1000;
	if (soon.tv_nsec >= 1000000000) {
		soon.tv_nsec -= 1000000000;
		soon.tv_sec++;
	}
	printf("trylock %d, ", pthread_mutex_trylock(arg));
	printf("timedlock %d\n", pthread_mutex_timedlock(arg, &soon));
	return NULL;
}

int main(void)
{
	pthread_t a, b;
	pthread_mutex_t other, *shared;
	pthread_condattr_t attr;
	struct timespec soon;
	int status;

	contend("default", &mutex);
	init(&other, PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, 0);
	contend("adaptive", &other);
	init(&other, PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, 0);
	CHECK(pthread_mutex_lock(&other) == 0 && pthread_mutex_lock(&other) == 0);
	CHECK(pthread_mutex_unlock(&other) == 0 && pthread_mutex_unlock(&other) == 0);
	contend("recursive", &other);
	init(&other, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, 0);
	CHECK(pthread_mutex_lock(&other) == 0 && pthread_mutex_lock(&other) == EDEADLK);
	CHECK(pthread_create(&a, NULL, busy, &other) == 0 && pthread_join(a, NULL) == 0);
	CHECK(pthread_mutex_unlock(&other) == 0 && pthread_mutex_unlock(&other) == EPERM);
	contend("errorcheck", &other);
	init(&other, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, 0);
	contend("inheriting", &other);

	init(&other, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, 0);
	CHECK(pthread_create(&a, NULL, die_with_lock, &other) == 0 && pthread_join(a, NULL) == 0);
	CHECK(pthread_mutex_lock(&other) == EOWNERDEAD);
	CHECK(pthread_mutex_consistent(&other) == 0 && pthread_mutex_unlock(&other) == 0);
	contend("robust", &other);

	/* Shared with a process that dies while it holds the lock. */
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(shared != MAP_FAILED);
	init(shared, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, 1);
	if (fork() == 0) {
		pthread_mutex_lock(shared);
		kill(getpid(), SIGKILL);
	}
	CHECK(wait(&status) > 0 && WIFSIGNALED(status));
	CHECK(pthread_mutex_lock(shared) == EOWNERDEAD);
	puts("the holder is dead");

	CHECK(pthread_create(&a, NULL, take_turns, NULL) == 0);
	CHECK(pthread_create(&b, NULL, take_turns, (void *)1) == 0);
	CHECK(pthread_join(a, NULL) == 0 && pthread_join(b, NULL) == 0);
	printf("turn %d\n", turn);

	CHECK(pthread_condattr_init(&attr) == 0);
	CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	CHECK(pthread_cond_destroy(&cond) == 0 && pthread_cond_init(&cond, &attr) == 0);
	clock_gettime(CLOCK_MONOTONIC, &soon);
	pthread_mutex_lock(&mutex);
	CHECK(pthread_cond_timedwait(&cond, &mutex, &soon) == ETIMEDOUT);
	pthread_mutex_unlock(&mutex);
	puts("timed out");
	return 0;
}
