// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Tests of libflexsc. With the argument "engine", an engine must execute the calls; otherwise
 * plain calls must give the same results.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/openat2.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <flexsc.h>

#define CHECK(is)                                                                  \
	do {                                                                       \
		if (!(is)) {                                                       \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #is); \
			exit(1);                                                   \
		}                                                                  \
	} while (0)

static int engine;

static struct flexsc_queue *queue_of(unsigned int calls)
{
	struct flexsc_queue *queue;

	CHECK(flexsc_queue_init(calls, &queue, engine ? FLEXSC_QUEUE_ENGINE : 0) == 0);
	CHECK(flexsc_queue_is_plain(queue) == !engine);
	return queue;
}

static struct flexsc_call *get(struct flexsc_queue *queue, uint64_t data)
{
	struct flexsc_call *call = flexsc_get_call(queue);

	CHECK(call);
	flexsc_call_set_data64(call, data);
	return call;
}

/* Takes the next result, which must have this data. */
static int64_t result_of(struct flexsc_queue *queue, uint64_t data)
{
	struct flexsc_result *result;
	int64_t value;

	CHECK(flexsc_wait_result(queue, &result) == 0);
	CHECK(result->user_data == data);
	value = result->result;
	flexsc_seen(queue, result);
	return value;
}

static void set_up(void)
{
	struct flexsc_queue *queue = NULL;

	CHECK(flexsc_queue_init(0, &queue, 0) == -EINVAL);
	CHECK(flexsc_queue_init(4097, &queue, 0) == -EINVAL);
	CHECK(flexsc_queue_init(1, &queue, 0x80) == -EINVAL);
	CHECK(!queue);
	flexsc_queue_exit(NULL);
	CHECK(flexsc_queue_init(65, &queue, FLEXSC_QUEUE_PLAIN) == 0);
	CHECK(flexsc_queue_is_plain(queue));
	CHECK(flexsc_queue_space(queue) == 128);
	flexsc_queue_exit(queue);
	if (!engine)
		CHECK(flexsc_queue_init(1, &queue, FLEXSC_QUEUE_ENGINE) < 0);
	CHECK(strstr(flexsc_strreason(7), "chain"));
	CHECK(flexsc_strreason(~0u));
}

/* A full queue: each result comes once, in any order. */
static void batch(void)
{
	struct flexsc_queue *queue = queue_of(64);
	struct flexsc_result *result;
	char seen[64] = { 0 };
	int round, i;

	for (round = 0; round < 3; round++) {
		memset(seen, 0, sizeof(seen));
		for (i = 0; i < 64; i++)
			flexsc_prep_syscall(get(queue, i), SYS_getppid, NULL, 0);
		CHECK(!flexsc_get_call(queue) && !flexsc_queue_space(queue));
		CHECK(flexsc_peek(queue, &result) == -EAGAIN && !result);
		CHECK(flexsc_submit(queue) == 64);
		CHECK(flexsc_submit(queue) == 0);
		CHECK(flexsc_submit_and_wait(queue, 64) == 64);
		/* Results need room until they are seen. */
		CHECK(!flexsc_get_call(queue));
		for (i = 0; i < 64; i++) {
			CHECK(flexsc_peek(queue, &result) == 0);
			CHECK(result->result == getppid() && result->user_data < 64);
			CHECK(!result->reason && !seen[result->user_data]++);
			flexsc_seen(queue, result);
		}
		CHECK(flexsc_queue_space(queue) == 64);
	}
	CHECK((flexsc_plain_calls(queue) != 0) == !engine);
	flexsc_queue_exit(queue);
}

static void files(void)
{
	char path[] = "/tmp/flexsc-c-XXXXXX", buf[16] = { 0 };
	struct flexsc_queue *queue = queue_of(1);
	struct statx stat;
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	flexsc_prep_pwrite(get(queue, 1), fd, "hello", 5, 3);
	CHECK(result_of(queue, 1) == 5);
	flexsc_prep_pread(get(queue, 2), fd, buf, sizeof(buf), 3);
	CHECK(result_of(queue, 2) == 5 && !strcmp(buf, "hello"));
	flexsc_prep_statx(get(queue, 3), AT_FDCWD, path, 0, STATX_SIZE, &stat);
	CHECK(result_of(queue, 3) == 0 && stat.stx_size == 8);
	flexsc_prep_fsync(get(queue, 4), fd);
	CHECK(result_of(queue, 4) == 0);
	flexsc_prep_unlinkat(get(queue, 5), AT_FDCWD, path, 0);
	CHECK(result_of(queue, 5) == 0);
	flexsc_prep_openat(get(queue, 6), AT_FDCWD, path, O_RDONLY, 0);
	CHECK(result_of(queue, 6) == -ENOENT);
	flexsc_prep_close(get(queue, 7), fd);
	CHECK(result_of(queue, 7) == 0);
	flexsc_queue_exit(queue);
}

/* Calls on several buffers, names of attributes, sockets, events and timers. */
static void more_calls(void)
{
	const struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
	struct open_how how = { .flags = O_RDWR | O_CLOEXEC };
	char path[] = "/tmp/flexsc-c-XXXXXX", one[2], two[8];
	const struct iovec to[] = { { "he", 2 }, { "llo", 3 } };
	const struct iovec from[] = { { one, 2 }, { two, 8 } };
	struct flexsc_queue *queue = queue_of(1);
	int fd = mkstemp(path), other, pair[2];
	struct stat stat;
	int64_t offset = 0;
	uint64_t count;

	CHECK(fd >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	flexsc_prep_openat2(get(queue, 1), AT_FDCWD, path, &how, sizeof(how));
	other = result_of(queue, 1);
	CHECK(other >= 0);
	flexsc_prep_pwritev(get(queue, 2), other, to, 2, 1);
	CHECK(result_of(queue, 2) == 5);
	flexsc_prep_pwritev2(get(queue, 3), other, to, 1, 0, RWF_DSYNC);
	CHECK(result_of(queue, 3) == 2);
	flexsc_prep_preadv(get(queue, 4), fd, from, 2, 0);
	CHECK(result_of(queue, 4) == 6 && !memcmp(one, "he", 2) && !memcmp(two, "ello", 4));
	flexsc_prep_fstat(get(queue, 5), fd, &stat);
	CHECK(result_of(queue, 5) == 0 && stat.st_size == 6);
	flexsc_prep_sendfile(get(queue, 6), pair[0], fd, &offset, 6);
	CHECK(result_of(queue, 6) == 6 && offset == 6);
	flexsc_prep_recv(get(queue, 7), pair[1], two, sizeof(two), 0);
	CHECK(result_of(queue, 7) == 6 && !memcmp(two, "heello", 6));
	flexsc_prep_send(get(queue, 8), pair[1], "x", 1, MSG_NOSIGNAL);
	CHECK(result_of(queue, 8) == 1);
	flexsc_prep_fsetxattr(get(queue, 9), -1, "user.a", "b", 1, 0);
	CHECK(result_of(queue, 9) == -EBADF);
	flexsc_prep_fgetxattr(get(queue, 10), -1, "user.a", two, sizeof(two));
	CHECK(result_of(queue, 10) == -EBADF);
	flexsc_prep_flistxattr(get(queue, 11), -1, two, sizeof(two));
	CHECK(result_of(queue, 11) == -EBADF);
	flexsc_prep_fremovexattr(get(queue, 12), -1, "user.a");
	CHECK(result_of(queue, 12) == -EBADF);
	close(other);
	flexsc_prep_eventfd(get(queue, 13), 7, EFD_CLOEXEC);
	other = result_of(queue, 13);
	CHECK(read(other, &count, sizeof(count)) == sizeof(count) && count == 7);
	close(other);
	flexsc_prep_timerfd_create(get(queue, 14), CLOCK_MONOTONIC, TFD_CLOEXEC);
	other = result_of(queue, 14);
	flexsc_prep_timerfd_settime(get(queue, 15), other, 0, &soon, NULL);
	CHECK(result_of(queue, 15) == 0);
	CHECK(read(other, &count, sizeof(count)) == sizeof(count) && count == 1);
	close(other);
	unlink(path);
	close(fd);
	close(pair[0]);
	close(pair[1]);
	flexsc_queue_exit(queue);
}

/* open -> read -> close, of a file that exists and of one that does not. */
static void chains(void)
{
	static const char *const paths[] = { "/proc/self/comm", "/proc/self/nonexistent" };
	struct flexsc_queue *queue = queue_of(64);
	struct flexsc_call *call;
	char buf[64];
	int i;

	for (i = 0; i < 2; i++) {
		int64_t opened, done;

		call = get(queue, 10);
		flexsc_prep_openat(call, AT_FDCWD, paths[i], O_RDONLY | O_CLOEXEC, 0);
		flexsc_call_set_flags(call, FLEXSC_CALL_LINK);
		call = get(queue, 11);
		flexsc_prep_read(call, -1, buf, sizeof(buf));
		CHECK(flexsc_call_take(call, 0, 1) == 0);
		flexsc_call_set_flags(call, FLEXSC_CALL_LINK);
		call = get(queue, 12);
		flexsc_prep_close(call, -1);
		CHECK(flexsc_call_take(call, 0, 2) == 0);
		CHECK(flexsc_submit_and_wait(queue, 3) == 3);
		opened = result_of(queue, 10);
		done = result_of(queue, 11);
		CHECK(i ? opened == -ENOENT && done == -ECANCELED : opened >= 0 && done > 0);
		CHECK(result_of(queue, 12) == (i ? -ECANCELED : 0));
	}
	/* Malformed chains. */
	call = get(queue, 20);
	CHECK(flexsc_call_take(call, 6, 1) == -EINVAL && flexsc_call_take(call, 0, 33) == -EINVAL);
	CHECK(result_of(queue, 20) == -EINVAL);
	call = get(queue, 21);
	flexsc_prep_close(call, -1);
	CHECK(flexsc_call_take(call, 0, 1) == 0);
	CHECK(result_of(queue, 21) == -EINVAL);
	call = get(queue, 22);
	flexsc_prep_close(call, -1);
	flexsc_call_set_flags(call, 1u << 31);
	CHECK(result_of(queue, 22) == -EINVAL);
	flexsc_prep_syscall(get(queue, 23), 1 << 20, NULL, 0);
	CHECK(result_of(queue, 23) == -EINVAL);
	flexsc_queue_exit(queue);
}

/* Calls that wait: time-outs, files that others make ready, and cancellation. */
static void waiting(void)
{
	const struct timespec moment = { .tv_nsec = 2000000 };
	struct flexsc_queue *queue = queue_of(64);
	struct flexsc_result *result;
	char first[8], second[8];
	int pair[2], fd;
	int64_t end;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	flexsc_prep_recvfrom(get(queue, 1), pair[0], first, sizeof(first), 0, NULL, NULL);
	CHECK(flexsc_submit_and_wait_timeout(queue, 1, &moment) == -ETIME);
	CHECK(flexsc_peek(queue, &result) == -EAGAIN);
	flexsc_prep_write(get(queue, 2), pair[1], "ping", 4);
	CHECK(flexsc_submit_and_wait(queue, 2) == 2);
	while (flexsc_peek(queue, &result) == 0) {
		CHECK(result->result == 4);
		flexsc_seen(queue, result);
	}
	CHECK(!memcmp(first, "ping", 4));
	flexsc_prep_read(get(queue, 3), pair[0], second, sizeof(second));
	CHECK(flexsc_submit_and_wait(queue, 0) == 0);
	CHECK(flexsc_cancel(queue, 4) == 0);
	CHECK(flexsc_cancel(queue, 3) == 1);
	end = result_of(queue, 3);
	CHECK(end == -EINTR || end == -ECANCELED);
	fd = flexsc_queue_fd(queue);
	CHECK(fcntl(fd, F_GETFD) >= 0);
	/* Exit cancels the calls in flight. */
	flexsc_prep_read(get(queue, 5), pair[0], second, sizeof(second));
	CHECK(flexsc_submit_and_wait(queue, 0) == 0);
	flexsc_queue_exit(queue);
	close(pair[0]);
	close(pair[1]);
}

static void pools(void)
{
	struct flexsc_queue *queue = queue_of(64);
	struct flexsc_call *call;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	if (!engine) {
		CHECK(flexsc_pool_set_cpus(queue, 1, &cpus, sizeof(cpus)) == -ENODEV);
	} else {
		CHECK(flexsc_pool_set_cpus(queue, 1, &cpus, sizeof(cpus)) == 0);
		CHECK(flexsc_pool_set_concurrency(queue, 1, 2) == 0);
		CHECK(flexsc_pool_set_nice(queue, 1, 5) == 0);
		CHECK(flexsc_pool_set_nice(queue, 99, 5) == -EINVAL);
		call = get(queue, 1);
		flexsc_prep_syscall(call, SYS_getppid, NULL, 0);
		flexsc_call_set_pool(call, 1);
		flexsc_call_set_flags(call, FLEXSC_CALL_ASYNC);
		CHECK(result_of(queue, 1) == getppid());
	}
	flexsc_queue_exit(queue);
}

int main(int argc, char **argv)
{
	engine = argc > 1 && !strcmp(argv[1], "engine");
	set_up();
	batch();
	files();
	more_calls();
	chains();
	waiting();
	pools();
	printf("all is as it should be%s\n", engine ? ", with an engine" : "");
	return 0;
}
