/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Many threads: create and join, hand-offs, barriers, read-write locks, semaphores, storage, sleeps. */
#include "check.h"
#include <semaphore.h>
#include <sys/wait.h>

#define MANY 1000
#define ROUNDS 2000
#define TEAM 8

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static sem_t sems[2];
static int turn, sum, ran_once, destroyed, slept;
static __thread int own = 7;

static void *same(void *arg)
{
	return arg;
}

static void join_many(void)
{
	static pthread_t threads[MANY];
	void *result;
	long all = 0;

	for (long i = 0; i < MANY; i++)
		CHECK(pthread_create(&threads[i], NULL, same, (void *)i) == 0);
	for (long i = 0; i < MANY; i++) {
		CHECK(pthread_join(threads[i], &result) == 0);
		all += (long)result;
	}
	printf("joined %d threads: %ld\n", MANY, all);
	/* One after the other: places and stacks are used again. */
	all = 0;
	for (long i = 0; i < MANY; i++) {
		CHECK(pthread_create(&threads[0], NULL, same, (void *)i) == 0);
		CHECK(pthread_join(threads[0], &result) == 0);
		all += (long)result;
	}
	printf("joined %d more: %ld\n", MANY, all);
}

static void *ping(void *arg)
{
	long me = (long)arg;

	for (int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&mutex);
		while (turn != me)
			pthread_cond_wait(&cond, &mutex);
		turn = !me;
		sum += me;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

static void *post(void *arg)
{
	long me = (long)arg;

	for (int i = 0; i < ROUNDS; i++) {
		CHECK(sem_wait(&sems[me]) == 0);
		sum++;
		CHECK(sem_post(&sems[!me]) == 0);
	}
	return NULL;
}

static void *meet(void *arg)
{
	int serial = 0;

	for (int i = 0; i < 100; i++)
		serial += pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD;
	pthread_mutex_lock(&mutex);
	sum += serial;
	pthread_mutex_unlock(&mutex);
	return arg;
}

static void *read_or_write(void *arg)
{
	for (int i = 0; i < 200; i++) {
		if ((long)arg % 4) {
			CHECK(pthread_rwlock_rdlock(&rwlock) == 0);
			CHECK(sum % 2 == 0);
		} else {
			CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
			sum++;
			sched_yield();
			sum++;
		}
		CHECK(pthread_rwlock_unlock(&rwlock) == 0);
	}
	return NULL;
}

static void destroy(void *value)
{
	__atomic_add_fetch(&destroyed, (int)(long)value, __ATOMIC_SEQ_CST);
}

static void run_once(void)
{
	ran_once++;
	sched_yield();
}

static void *storage(void *arg)
{
	int number = (long)arg;

	pthread_once(&once, run_once);
	CHECK(ran_once == 1);
	CHECK(own == 7);
	own = number;
	CHECK(pthread_setspecific(key, arg) == 0);
	errno = number;
	pthread_barrier_wait(&barrier);
	CHECK(own == number && errno == number && pthread_getspecific(key) == arg);
	errno = 0;
	CHECK(close(-1) == -1 && errno == EBADF);
	pthread_barrier_wait(&barrier);
	CHECK(errno == EBADF);
	return NULL;
}

static void *sleeper(void *arg)
{
	struct timespec time = { .tv_nsec = 5000000 * (TEAM - (long)arg) }, start, end;

	pthread_barrier_wait(&barrier);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &start) == 0);
	CHECK(nanosleep(&time, NULL) == 0);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &end) == 0);
	CHECK((end.tv_sec - start.tv_sec) * 1000000000 + end.tv_nsec - start.tv_nsec >= time.tv_nsec);
	__atomic_add_fetch(&slept, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void *late(void *arg)
{
	struct timespec until;

	CHECK(clock_gettime((long)arg, &until) == 0);
	until.tv_nsec += 30000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&mutex);
	/* Nobody signals. */
	CHECK(pthread_cond_clockwait(&cond, &mutex, (long)arg, &until) == ETIMEDOUT);
	pthread_mutex_unlock(&mutex);
	return NULL;
}

static void team(void *(*work)(void *), int count)
{
	pthread_t threads[TEAM];

	CHECK(pthread_barrier_init(&barrier, NULL, count) == 0);
	for (long i = 0; i < count; i++)
		CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
	for (long i = 0; i < count; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

/* Wakes the first thread, and computes until that has run. */
static void *compute(void *arg)
{
	CHECK(sem_post(&sems[0]) == 0);
	while (!__atomic_load_n(&turn, __ATOMIC_RELAXED))
		;
	return arg;
}

static void wait_for_computing(void)
{
	pthread_t thread;

	turn = 0;
	CHECK(sem_init(&sems[0], 0, 0) == 0);
	CHECK(pthread_create(&thread, NULL, compute, NULL) == 0);
	CHECK(sem_wait(&sems[0]) == 0);
	__atomic_store_n(&turn, 1, __ATOMIC_RELAXED);
	CHECK(pthread_join(thread, NULL) == 0);
	puts("ran beside one that computes");
}

/* Ends while the first thread is gone, from a thread that nobody joins. */
static void *last(void *arg)
{
	pthread_join((pthread_t)arg, NULL);
	puts("the last thread ends the program");
	return NULL;
}

int main(void)
{
	pthread_attr_t attr;
	pthread_t thread;

	join_many();
	team(ping, 2);
	printf("handed over %d times\n", sum);
	CHECK(sem_init(&sems[0], 0, 1) == 0 && sem_init(&sems[1], 0, 0) == 0);
	sum = 0;
	team(post, 2);
	printf("posted %d times\n", sum);
	sum = 0;
	team(meet, TEAM);
	printf("met %d times\n", sum);
	sum = 0;
	team(read_or_write, TEAM);
	printf("wrote %d times\n", sum);
	CHECK(pthread_key_create(&key, destroy) == 0);
	team(storage, TEAM);
	printf("destroyed %d\n", destroyed);
	team(sleeper, TEAM);
	printf("slept %d\n", slept);
	CHECK(pthread_create(&thread, NULL, late, (void *)CLOCK_REALTIME) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(pthread_create(&thread, NULL, late, (void *)CLOCK_MONOTONIC) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	puts("timed out");
	wait_for_computing();
	CHECK(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
	CHECK(pthread_create(&thread, &attr, last, (void *)pthread_self()) == 0);
	pthread_exit(NULL);
}
