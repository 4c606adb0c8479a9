/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Signals of threads and processes: masks, waits, interruption, restart, alternate stacks, jumps, timers. */
#include "check.h"
#include <setjmp.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

static volatile sig_atomic_t taken, on_alternate;
static int ends[2], tid, timers;
static char alternate[65536];
static sigjmp_buf back;
static pthread_barrier_t barrier;

static void take(int sig)
{
	taken = sig;
}

static void take_on_alternate(int sig, siginfo_t *info, void *context)
{
	char here;

	(void)context;
	taken = sig;
	on_alternate = &here >= alternate && &here < alternate + sizeof(alternate) &&
		       info->si_code == SI_TKILL;
}

static void jump(int sig)
{
	siglongjmp(back, sig);
}

static void install(int sig, int flags, void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };

	CHECK(sigaction(sig, &action, NULL) == 0);
}

static void tick(union sigval value)
{
	__atomic_add_fetch(&timers, value.sival_int, __ATOMIC_SEQ_CST);
}

/* Reads a byte from the pipe, and prints the outcome. */
static void *reader(void *arg)
{
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof(alternate) };
	sigset_t set;
	char byte = 0;
	ssize_t got;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	CHECK(sigaltstack(&stack, NULL) == 0);
	tid = syscall(SYS_gettid);
	pthread_barrier_wait(&barrier);
	if (sigsetjmp(back, 1)) {
		puts("jumped out of the read");
	} else {
		got = read(ends[0], &byte, 1);
		printf("%s: read %zd, byte %d, errno %d, signal %d, alternate %d\n", (char *)arg,
		       got, byte, got < 0 ? errno : 0, (int)taken, (int)on_alternate);
	}
	sigpending(&set);
	printf("pending %d\n", sigismember(&set, SIGWINCH));
	stack.ss_flags = SS_DISABLE;
	sigaltstack(&stack, NULL);
	return NULL;
}

static void interrupt(const char *name, int sig, int byte)
{
	pthread_t thread;

	taken = on_alternate = 0;
	CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
	CHECK(pthread_create(&thread, NULL, reader, (void *)name) == 0);
	pthread_barrier_wait(&barrier);
	until_asleep(tid);
	CHECK(pthread_kill(thread, SIGWINCH) == 0);
	CHECK(pthread_kill(thread, sig) == 0);
	if (byte) {
		while (!taken)
			usleep(1000);
		CHECK(write(ends[1], "x", 1) == 1);
	}
	CHECK(pthread_join(thread, NULL) == 0);
}

static void *waiter(void *arg)
{
	siginfo_t info;
	int sig;

	/* Both are pending: the thread's own comes first. */
	pthread_barrier_wait(&barrier);
	CHECK(sigwait(arg, &sig) == 0);
	printf("sigwait %d\n", sig);
	CHECK(sigwaitinfo(arg, &info) > 0);
	printf("sigwaitinfo %d, value %d\n", info.si_signo, info.si_value.sival_int);
	return NULL;
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = take_on_alternate,
				    .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = tick };
	struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
	struct timespec now = { 0, 0 };
	union sigval value = { .sival_int = 7 };
	struct signalfd_siginfo seen;
	pthread_t thread;
	timer_t timer;
	sigset_t set;
	int fd;

	CHECK(pipe(ends) == 0);
	install(SIGUSR1, 0, take);
	interrupt("interrupted", SIGUSR1, 0);
	install(SIGUSR1, SA_RESTART, take);
	interrupt("restarted", SIGUSR1, 1);
	CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
	interrupt("alternate", SIGUSR2, 0);
	install(SIGHUP, 0, jump);
	interrupt("jump", SIGHUP, 0);

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGRTMIN + 1);
	CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	CHECK(sigtimedwait(&set, NULL, &now) == -1 && errno == EAGAIN);
	CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
	CHECK(pthread_create(&thread, NULL, waiter, &set) == 0);
	CHECK(kill(getpid(), SIGTERM) == 0);
	CHECK(pthread_sigqueue(thread, SIGRTMIN + 1, value) == 0);
	pthread_barrier_wait(&barrier);
	CHECK(pthread_join(thread, NULL) == 0);
	fd = signalfd(-1, &set, 0);
	CHECK(raise(SIGTERM) == 0 && read(fd, &seen, sizeof(seen)) == sizeof(seen));
	printf("signalfd %d\n", seen.ssi_signo);

	event.sigev_value.sival_int = 3;
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
	while (!__atomic_load_n(&timers, __ATOMIC_SEQ_CST))
		usleep(1000);
	CHECK(timer_delete(timer) == 0);
	printf("timer %d\n", timers);

	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = SIGTERM;
	event._sigev_un._tid = gettid();
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
	CHECK(sigwaitinfo(&set, NULL) == SIGTERM);
	puts("timer of a thread");

	/* Calls with a mask of their own. */
	install(SIGUSR1, 0, take);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	taken = 0;
	raise(SIGUSR1);
	CHECK(!taken);
	sigemptyset(&set);
	CHECK(sigsuspend(&set) == -1 && errno == EINTR && taken == SIGUSR1);
	puts("suspended");
	return 0;
}
