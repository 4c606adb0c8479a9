/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads: join, detach, attributes, names, thread-local data, keys, once, barriers, locks, semaphores. */
#include "check.h"
#include <sched.h>
#include <semaphore.h>
#include <sys/syscall.h>

static __thread int own = 5;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static sem_t sem;
static int destroyed, made, shared, spun, serial, errnos;

static void destroy(void *value)
{
	__atomic_add_fetch(&destroyed, *(int *)value, __ATOMIC_SEQ_CST);
}

static void make(void)
{
	made++;
}

static void *work(void *arg)
{
	long number = (long)arg;

	own += number;
	CHECK(pthread_setspecific(key, &own) == 0);
	CHECK(pthread_once(&once, make) == 0);
	if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
		__atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 1000; i++) {
		pthread_rwlock_wrlock(&rwlock);
		shared++;
		pthread_rwlock_unlock(&rwlock);
		pthread_spin_lock(&spin);
		spun++;
		pthread_spin_unlock(&spin);
		if (i % 100 == 0)
			sched_yield();
	}
	/* A failing call sets only this thread's errno. */
	errno = 0;
	if (number % 2 && close(-1) == -1 && errno == EBADF)
		__atomic_add_fetch(&errnos, 1, __ATOMIC_SEQ_CST);
	else if (errno == 0)
		__atomic_add_fetch(&errnos, 1, __ATOMIC_SEQ_CST);
	CHECK(syscall(SYS_gettid) != getpid());
	CHECK(sem_post(&sem) == 0);
	return (void *)(number * number);
}

static void *small_stack(void *arg)
{
	char name[16], block[8192];
	pthread_attr_t attr;
	size_t size;

	memset(block, 1, sizeof(block));
	CHECK(pthread_getattr_np(pthread_self(), &attr) == 0);
	CHECK(pthread_attr_getstacksize(&attr, &size) == 0);
	pthread_attr_destroy(&attr);
	CHECK(pthread_setname_np(pthread_self(), "named") == 0);
	CHECK(pthread_getname_np(pthread_self(), name, sizeof(name)) == 0);
	printf("stack %zu, name %s, block %d\n", size, name, block[77]);
	return arg;
}

int main(void)
{
	pthread_t threads[8];
	pthread_attr_t attr;
	void *result;

	CHECK(pthread_key_create(&key, destroy) == 0);
	CHECK(pthread_barrier_init(&barrier, NULL, 8) == 0);
	CHECK(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE) == 0);
	CHECK(sem_init(&sem, 0, 0) == 0);
	for (long i = 0; i < 8; i++)
		CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
	for (int i = 0; i < 8; i++)
		CHECK(sem_wait(&sem) == 0);
	CHECK(sem_trywait(&sem) == -1 && errno == EAGAIN);
	for (int i = 0; i < 8; i++) {
		CHECK(pthread_join(threads[i], &result) == 0);
		printf("thread %d returned %ld\n", i, (long)result);
	}
	printf("made %d, destroyed %d, serial %d, shared %d, spun %d, errnos %d\n", made, destroyed,
	       serial, shared, spun, errnos);

	CHECK(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_setstacksize(&attr, 65536) == 0);
	CHECK(pthread_create(&threads[0], &attr, small_stack, NULL) == 0);
	CHECK(pthread_join(threads[0], NULL) == 0);
	CHECK(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
	CHECK(pthread_barrier_destroy(&barrier) == 0);
	CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
	CHECK(pthread_create(&threads[0], &attr, work, (void *)8L) == 0);
	pthread_barrier_wait(&barrier);
	CHECK(sem_wait(&sem) == 0);
	puts("detached");

	/* The process lives on without its first thread. */
	CHECK(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_JOINABLE) == 0);
	CHECK(pthread_create(&threads[0], &attr, small_stack, NULL) == 0);
	pthread_exit(NULL);
}
