/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads that read and write: pipes, sockets, poll, select, epoll, FIFOs, files, children, exit. */
#include "check.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define CLIENTS 50
#define ROUNDS 40
#define LARGE (1 << 20)

static int ends[2], listener, counter;
static char path[64];

static void *start(pthread_t *thread, void *(*work)(void *), long arg)
{
	CHECK(pthread_create(thread, NULL, work, (void *)arg) == 0);
	return NULL;
}

/* Sends back what comes, until the end. */
static void *echo(void *arg)
{
	char bytes[256];
	ssize_t got;

	while ((got = read((long)arg, bytes, sizeof(bytes))) > 0)
		CHECK(write((long)arg, bytes, got) == got);
	CHECK(got == 0);
	CHECK(close((long)arg) == 0);
	return NULL;
}

static void *server(void *arg)
{
	pthread_t threads[CLIENTS];
	int fd;

	for (int i = 0; i < CLIENTS; i++) {
		fd = accept(listener, NULL, NULL);
		CHECK(fd >= 0);
		start(&threads[i], echo, fd);
	}
	for (int i = 0; i < CLIENTS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	return arg;
}

static void *client(void *arg)
{
	struct sockaddr_in *address = arg;
	char bytes[64], back[64];
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(connect(fd, (struct sockaddr *)address, sizeof(*address)) == 0);
	for (int i = 0; i < ROUNDS; i++) {
		snprintf(bytes, sizeof(bytes), "%d of %d", i, fd);
		CHECK(send(fd, bytes, sizeof(bytes), 0) == sizeof(bytes));
		CHECK(recv(fd, back, sizeof(back), MSG_WAITALL) == sizeof(back));
		CHECK(strcmp(bytes, back) == 0);
		__atomic_add_fetch(&counter, 1, __ATOMIC_SEQ_CST);
	}
	CHECK(close(fd) == 0);
	return NULL;
}

static void test_server(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	pthread_t thread, clients[CLIENTS];

	listener = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, CLIENTS) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
	start(&thread, server, 0);
	for (int i = 0; i < CLIENTS; i++)
		CHECK(pthread_create(&clients[i], NULL, client, &address) == 0);
	for (int i = 0; i < CLIENTS; i++)
		CHECK(pthread_join(clients[i], NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	printf("echoed %d times\n", counter);
}

static void *drain(void *arg)
{
	char *bytes = malloc(LARGE);
	struct iovec pieces[2] = { { bytes, 1000 }, { bytes + 1000, LARGE - 1000 } };
	unsigned long sum = 0;
	ssize_t got;

	while ((got = readv((long)arg, pieces, 2)) > 0)
		for (ssize_t i = 0; i < got; i++)
			sum += (unsigned char)bytes[i];
	CHECK(got == 0);
	free(bytes);
	return (void *)sum;
}

/* More than fits at once: a call that sends must send all of it. */
static void send_large(const char *name, int in, int out)
{
	char *bytes = malloc(LARGE);
	struct iovec pieces[2] = { { bytes, LARGE / 2 }, { bytes + LARGE / 2, LARGE / 2 } };
	pthread_t thread;
	void *sum;

	for (int i = 0; i < LARGE; i++)
		bytes[i] = i * 7;
	start(&thread, drain, in);
	CHECK(write(out, bytes, LARGE) == LARGE);
	CHECK(writev(out, pieces, 2) == LARGE);
	CHECK(close(out) == 0);
	CHECK(pthread_join(thread, &sum) == 0);
	printf("%s: %lu\n", name, (unsigned long)sum);
	free(bytes);
}

static void *wait_poll(void *arg)
{
	struct pollfd fd = { .fd = (long)arg, .events = POLLIN };
	fd_set set;
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(0);

	CHECK(poll(&fd, 1, -1) == 1 && fd.revents == POLLIN);
	FD_ZERO(&set);
	FD_SET(fd.fd, &set);
	CHECK(select(fd.fd + 1, &set, NULL, NULL, NULL) == 1 && FD_ISSET(fd.fd, &set));
	CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd.fd, &event) == 0);
	CHECK(epoll_wait(epoll, &event, 1, -1) == 1);
	CHECK(close(epoll) == 0);
	CHECK(poll(NULL, 0, 5) == 0);
	return NULL;
}

static void test_waits(void)
{
	pthread_t threads[3];
	int fd = eventfd(0, 0);
	uint64_t value = 3;

	for (int i = 0; i < 3; i++)
		start(&threads[i], wait_poll, fd);
	usleep(10000);
	CHECK(write(fd, &value, sizeof(value)) == sizeof(value));
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	CHECK(read(fd, &value, sizeof(value)) == sizeof(value));
	printf("polled, %d\n", (int)value);
	/* A descriptor that does not block says so. */
	CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	CHECK(read(fd, &value, sizeof(value)) == -1 && errno == EAGAIN);
	CHECK(write(fd, &value, sizeof(value)) == sizeof(value));
	CHECK(read(fd, &value, sizeof(value)) == sizeof(value) && value == 3);
	CHECK(close(fd) == 0);
}

static void *open_fifo(void *arg)
{
	int fd = open(path, O_WRONLY);

	CHECK(fd >= 0 && write(fd, "fifo", 4) == 4);
	close(fd);
	return arg;
}

static void test_files(void)
{
	char bytes[8192], *volatile nowhere = (char *)8;
	pthread_t thread;
	int fd;

	snprintf(path, sizeof(path), "/tmp/flexsc-traffic-%d", getpid());
	CHECK(mkfifo(path, 0600) == 0);
	start(&thread, open_fifo, 0);
	fd = open(path, O_RDONLY);
	CHECK(fd >= 0 && read(fd, bytes, sizeof(bytes)) == 4);
	CHECK(read(fd, bytes, sizeof(bytes)) == 0);
	CHECK(pthread_join(thread, NULL) == 0 && close(fd) == 0 && unlink(path) == 0);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	memset(bytes, 1, sizeof(bytes));
	CHECK(write(fd, bytes, sizeof(bytes)) == sizeof(bytes));
	CHECK(lseek(fd, 100, SEEK_SET) == 100);
	CHECK(read(fd, bytes, sizeof(bytes)) == sizeof(bytes) - 100);
	CHECK(read(fd, bytes, sizeof(bytes)) == 0);
	CHECK(close(fd) == 0 && unlink(path) == 0);
	CHECK(read(fd, bytes, 1) == -1 && errno == EBADF);
	CHECK(read(ends[0], nowhere, 1) == -1 && errno == EFAULT);
	puts("files");
}

static void *wait_child(void *arg)
{
	int status;

	CHECK(waitpid((long)arg, &status, 0) == (long)arg);
	return (void *)(long)WEXITSTATUS(status);
}

static void *in_child(void *arg)
{
	CHECK(write(ends[1], "c", 1) == 1);
	return arg;
}

/* A child has one thread, and can make more. */
static void test_child(void)
{
	pthread_t thread;
	char byte;
	void *result;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		start(&thread, in_child, 0);
		CHECK(pthread_join(thread, NULL) == 0);
		usleep(1000);
		_exit(3);
	}
	start(&thread, wait_child, pid);
	CHECK(read(ends[0], &byte, 1) == 1 && byte == 'c');
	CHECK(pthread_join(thread, &result) == 0);
	printf("child %ld\n", (long)result);
	fflush(stdout);
	printf("system %d\n", system("echo from a shell; exit 2") >> 8);
}

static void *leave(void *arg)
{
	usleep(1000);
	puts("leaving");
	exit((long)arg);
}

int main(void)
{
	int pair[2];
	pthread_t thread;

	signal(SIGPIPE, SIG_IGN);
	CHECK(pipe(ends) == 0);
	CHECK(write(ends[1], "x", 1) == 1);
	test_server();
	CHECK(pipe(pair) == 0);
	send_large("pipe", pair[0], pair[1]);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	send_large("socket", pair[0], pair[1]);
	CHECK(close(pair[0]) == 0);
	test_waits();
	test_files();
	CHECK(read(ends[0], pair, 1) == 1);
	test_child();
	start(&thread, leave, 0);
	/* Nobody writes: another thread ends the program. */
	read(ends[0], pair, 1);
	puts("not reached");
	return 1;
}
