/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Cancellation: deferred in calls that block, asynchronous in calls and in a loop, switched off; back traces. */
#include "check.h"
#include <execinfo.h>
#include <semaphore.h>
#include <sys/syscall.h>

static int ends[2], tid;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t sem;
static volatile int spinning;

static void cleanup(void *arg)
{
	printf("cleanup %s\n", (char *)arg);
}

static void in_read(void)
{
	char byte;

	CHECK(read(ends[0], &byte, 1) == 1);
}

static void in_sleep(void)
{
	struct timespec long_time = { 1000, 0 };

	nanosleep(&long_time, NULL);
}

static void unlock(void *arg)
{
	pthread_mutex_unlock(arg);
}

static void in_cond(void)
{
	pthread_mutex_lock(&mutex);
	pthread_cleanup_push(unlock, &mutex);
	pthread_cond_wait(&cond, &mutex);
	pthread_cleanup_pop(1);
}

static void in_pause(void)
{
	pause();
}

static void in_sem(void)
{
	sem_wait(&sem);
}

static void async_read(void)
{
	char byte;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	/* Uses syscall(), which is not a cancellation point: only the signal's handler can cancel it. */
	syscall(SYS_read, ends[0], &byte, 1);
}

static void async_loop(void)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	spinning = 1;
	for (;;)
		getppid();
}

static void disabled(void)
{
	struct timespec short_time = { 0, 20000000 };

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	spinning = 1;
	nanosleep(&short_time, NULL);
	puts("slept");
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	pthread_testcancel();
	puts("not reached");
}

static void *run(void *arg)
{
	pthread_cleanup_push(cleanup, "outer");
	tid = syscall(SYS_gettid);
	pthread_cleanup_push(cleanup, "inner");
	((void (*)(void))arg)();
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
	return "came back";
}

static void cancel(const char *name, void (*where)(void), int is_spinning)
{
	pthread_t thread;
	void *result;

	tid = spinning = 0;
	CHECK(pthread_create(&thread, NULL, run, where) == 0);
	while (is_spinning ? !spinning : !__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
		usleep(100);
	if (!is_spinning)
		until_asleep(tid);
	CHECK(pthread_cancel(thread) == 0);
	CHECK(pthread_join(thread, &result) == 0);
	printf("%s: %s\n", name, result == PTHREAD_CANCELED ? "cancelled" : (char *)result);
}

/* Unwinds from a signal handler through a call that blocks, to the functions that made it. */
static volatile int depth, is_found;
static void *begin, *end;

static void trace(int sig)
{
	void *frames[64];

	(void)sig;
	depth = backtrace(frames, 64);
	for (int i = 0; i < depth; i++)
		is_found |= frames[i] > begin && frames[i] < end;
}

static __attribute__((noinline)) void *traced(void *arg)
{
	char byte;
	int got;

	begin = &traced;
	tid = syscall(SYS_gettid);
	got = read(ends[0], &byte, 1);
	printf("traced: read %d, found %d, deep enough %d\n", got, is_found, depth >= 5);
	return arg;
}

static __attribute__((noinline)) void behind_traced(void)
{
	asm volatile("");
}

static void test_trace(void)
{
	struct sigaction action = { .sa_handler = trace };
	pthread_t thread;
	void *frames[4];

	/* The first back trace loads a library. */
	backtrace(frames, 4);
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	tid = 0;
	end = (char *)traced + 512;
	CHECK(pthread_create(&thread, NULL, traced, NULL) == 0);
	while (!__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
		usleep(100);
	until_asleep(tid);
	CHECK(pthread_kill(thread, SIGUSR1) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	behind_traced();
}

int main(void)
{
	CHECK(pipe(ends) == 0);
	CHECK(sem_init(&sem, 0, 0) == 0);
	cancel("read", in_read, 0);
	cancel("sleep", in_sleep, 0);
	cancel("cond", in_cond, 0);
	cancel("pause", in_pause, 0);
	cancel("sem", in_sem, 0);
	cancel("asynchronous read", async_read, 0);
	for (int i = 0; i < 20; i++)
		cancel("asynchronous loop", async_loop, 1);
	cancel("disabled", disabled, 1);
	test_trace();
	return 0;
}
