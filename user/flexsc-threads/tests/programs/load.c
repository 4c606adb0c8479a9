/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * load PORT memcached|redis|dns-udp|dns-tcp|http CONNECTIONS ROUNDS [SIGNALLED]: asks a server on the loopback
 * device and checks each answer.  Every connection has a request on its way all the time.  Prints how many
 * answers were right and a sum over all of them, and on stderr how many there were in a second.  SIGNALLED is
 * run when the last connection has got its first answer, and again before the first one closes.
 * load zone: prints the zone that a name server must have.
 * load files DIRECTORY: makes the files that a web server must have.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NAMES 256

struct connection {
	int fd, number, round;
	size_t got;
	unsigned char answer[4096];
};

struct kind {
	const char *name;
	int type;
	/* Writes a request and returns its length. */
	size_t (*request)(const struct connection *connection, char *text);
	/* Returns how many bytes at the beginning of the answer differ each time, -1 if the answer is not whole, or
	 * -2 if it is wrong. */
	int (*check)(const struct connection *connection);
};

static int number_of_connections, rounds;
static const struct kind *kind;
static unsigned long sum;

static void die(const char *what, const struct connection *connection)
{
	printf("%s: connection %d, round %d, errno %d, %zu bytes: %.*s\n", what, connection->number, connection->round,
	       errno, connection->got, (int)connection->got, connection->answer);
	exit(1);
}

/* The value of a key: its length and its bytes depend on the round. */
static int value(int number, int round, char *text)
{
	int len = 20 + (number * 31 + round * 7) % 400;

	for (int i = 0; i < len; i++)
		text[i] = 'a' + (number + round + i) % 26;
	text[len] = 0;
	return len;
}

/* Compares with what the answer must be, which tells also how long it is. */
static int compare(const struct connection *connection, const char *wanted)
{
	size_t len = strlen(wanted);

	if (memcmp(connection->answer, wanted, connection->got < len ? connection->got : len) != 0)
		return -2;
	return connection->got < len ? -1 : connection->got == len ? 0 : -2;
}

/* Even rounds store, odd ones read what the round before has stored. */
static size_t request_memcached(const struct connection *connection, char *text)
{
	char bytes[512];
	int len = value(connection->number, connection->round & ~1, bytes);

	if (connection->round % 2 == 0)
		return sprintf(text, "set k%05d 7 0 %d\r\n%s\r\n", connection->number, len, bytes);
	return sprintf(text, "get k%05d\r\n", connection->number);
}

static int check_memcached(const struct connection *connection)
{
	char bytes[512], answer[1024];
	int len = value(connection->number, connection->round & ~1, bytes);

	if (connection->round % 2 == 0)
		return compare(connection, "STORED\r\n");
	sprintf(answer, "VALUE k%05d 7 %d\r\n%s\r\nEND\r\n", connection->number, len, bytes);
	return compare(connection, answer);
}

static size_t request_redis(const struct connection *connection, char *text)
{
	char bytes[512];
	int len = value(connection->number, connection->round & ~1, bytes);

	if (connection->round % 2 == 0)
		return sprintf(text, "*3\r\n$3\r\nSET\r\n$6\r\nk%05d\r\n$%d\r\n%s\r\n", connection->number, len, bytes);
	return sprintf(text, "*2\r\n$3\r\nGET\r\n$6\r\nk%05d\r\n", connection->number);
}

static int check_redis(const struct connection *connection)
{
	char bytes[512], answer[1024];
	int len = value(connection->number, connection->round & ~1, bytes);

	if (connection->round % 2 == 0)
		return compare(connection, "+OK\r\n");
	sprintf(answer, "$%d\r\n%s\r\n", len, bytes);
	return compare(connection, answer);
}

static void print_zone(void)
{
	char text[512];

	printf("$TTL 300\n@ IN SOA ns.test. root.test. 1 3600 600 86400 300\n@ IN NS ns.test.\nns IN A 127.0.0.1\n");
	for (int i = 0; i < NAMES; i++) {
		text[value(i, 0, text) % 200] = 0;
		printf("h%05d IN A 10.1.2.%d\nh%05d IN TXT \"t%s\"\n", i, i, i, text);
	}
}

enum { A = 1, TXT = 16 };

/* What is asked in a round: the name's number, or -1 for a name that does not exist; and the type. */
static int question(const struct connection *connection, int *type)
{
	*type = connection->round % 4 == 1 ? TXT : A;
	return connection->round % 4 == 3 ? -1 : (connection->number + connection->round) % NAMES;
}

static size_t put_question(const struct connection *connection, unsigned char *at)
{
	char name[8] = "nosuch";
	int type, number = question(connection, &type);

	if (number >= 0)
		snprintf(name, sizeof(name), "h%05d", number);
	at[0] = 6;
	memcpy(at + 1, name, 6);
	memcpy(at + 7, "\4test\0\0", 7);
	at[13] = 0;
	at[14] = type;
	at[15] = 0;
	at[16] = 1;
	return 17;
}

static size_t request_dns(const struct connection *connection, char *text)
{
	unsigned char *at = (unsigned char *)text + (kind->type == SOCK_STREAM ? 2 : 0);
	/* Number, no flags, one question. */
	unsigned char head[12] = { connection->number, connection->round, 0, 0, 0, 1 };
	size_t len = sizeof(head);

	memcpy(at, head, len);
	len += put_question(connection, at + len);
	if (kind->type != SOCK_STREAM)
		return len;
	text[0] = len >> 8;
	text[1] = len;
	return len + 2;
}

static int check_dns(const struct connection *connection)
{
	const unsigned char *at = connection->answer;
	unsigned char wanted[64], data[512];
	char text[512];
	size_t got = connection->got, len, data_len;
	int type, number = question(connection, &type);

	if (kind->type == SOCK_STREAM) {
		if (got < 2 || got < 2u + at[0] * 256 + at[1])
			return -1;
		if (got != 2u + at[0] * 256 + at[1])
			return -2;
		at += 2;
		got -= 2;
	}
	len = put_question(connection, wanted);
	if (got < 12 + len || at[0] != (unsigned char)connection->number || at[1] != (unsigned char)connection->round ||
	    memcmp(at + 12, wanted, len) != 0)
		return -2;
	/* An answer, with authority; no such name, or one record. */
	if (at[2] != 0x84 || (at[3] & 15) != (number < 0 ? 3 : 0) || at[7] != (number < 0 ? 0 : 1))
		return -2;
	if (number < 0)
		return 0;
	if (type == A) {
		unsigned char address[] = { 0, 4, 10, 1, 2, number };

		memcpy(data, address, data_len = sizeof(address));
	} else {
		int text_len = value(number, 0, text) % 200 + 1;

		data[0] = 0;
		data[1] = text_len + 1;
		data[2] = text_len;
		data[3] = 't';
		memcpy(data + 4, text, text_len - 1);
		data_len = 3 + text_len;
	}
	/* The record begins with a pointer to the name, type, class and time. */
	at += 12 + len;
	if (got < 12 + len + 10 + data_len || at[0] != 0xc0 || at[3] != type || memcmp(at + 10, data, data_len) != 0)
		return -2;
	return 0;
}

static int make_files(const char *directory)
{
	char path[256], text[512];

	for (int i = 0; i < NAMES; i++) {
		FILE *file;

		snprintf(path, sizeof(path), "%s/h%05d", directory, i);
		file = fopen(path, "w");
		value(i, 0, text);
		if (!file || fputs(text, file) < 0 || fclose(file) != 0) {
			perror(path);
			return 1;
		}
	}
	return 0;
}

static int file_of(const struct connection *connection)
{
	return (connection->number + connection->round) % NAMES;
}

static size_t request_http(const struct connection *connection, char *text)
{
	return sprintf(text, "GET /h%05d HTTP/1.1\r\nHost: test\r\n\r\n", file_of(connection));
}

static int check_http(const struct connection *connection)
{
	char bytes[512], length[64], text[sizeof(connection->answer) + 1], *end;
	size_t len = value(file_of(connection), 0, bytes), head;

	memcpy(text, connection->answer, connection->got);
	text[connection->got] = 0;
	end = strstr(text, "\r\n\r\n");
	if (!end)
		return -1;
	head = end + 4 - text;
	sprintf(length, "\r\nContent-Length: %zu\r\n", len);
	if (strncmp(text, "HTTP/1.1 200 OK\r\n", 17) != 0 || !strstr(text, length))
		return -2;
	if (connection->got < head + len)
		return -1;
	return connection->got == head + len && memcmp(text + head, bytes, len) == 0 ? (int)head : -2;
}

static const struct kind kinds[] = {
	{ "memcached", SOCK_STREAM, request_memcached, check_memcached },
	{ "redis", SOCK_STREAM, request_redis, check_redis },
	{ "dns-udp", SOCK_DGRAM, request_dns, check_dns },
	{ "dns-tcp", SOCK_STREAM, request_dns, check_dns },
	{ "http", SOCK_STREAM, request_http, check_http },
	{ NULL, 0, NULL, NULL },
};

static void send_request(struct connection *connection)
{
	char text[1024];
	size_t len = kind->request(connection, text);

	connection->got = 0;
	if (send(connection->fd, text, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("send", connection);
}

/* Answers come in any order, so their sum does not depend on it. */
static void add_to_sum(const struct connection *connection, size_t from)
{
	unsigned long hash = 14695981039346656037UL + connection->number * 65599UL + connection->round;

	for (size_t i = from; i < connection->got; i++)
		hash = (hash ^ connection->answer[i]) * 1099511628211UL;
	sum += hash;
}

/* Returns 1 if an answer is complete. */
static int receive(struct connection *connection)
{
	ssize_t got = recv(connection->fd, connection->answer + connection->got,
			   sizeof(connection->answer) - connection->got, 0);
	int from;

	/* Nobody listens yet: a stream waits for that in start_connection. */
	if (got < 0 && errno == ECONNREFUSED && kind->type == SOCK_DGRAM && connection->round == 0) {
		poll(NULL, 0, 10);
		send_request(connection);
		return 0;
	}
	if (got <= 0)
		die("recv", connection);
	connection->got += got;
	from = kind->check(connection);
	if (from == -1 && connection->got < sizeof(connection->answer))
		return 0;
	if (from < 0)
		die("wrong answer", connection);
	add_to_sum(connection, from);
	connection->round++;
	return 1;
}

static void start_connection(struct connection *connection, const struct sockaddr_in *address)
{
	/* The server may still be starting: the time limit of who calls us ends this. */
	for (;;) {
		connection->fd = socket(AF_INET, kind->type, 0);
		if (connection->fd < 0)
			die("socket", connection);
		if (connect(connection->fd, (void *)address, sizeof(*address)) == 0)
			return;
		if (errno != ECONNREFUSED)
			die("connect", connection);
		close(connection->fd);
		poll(NULL, 0, 10);
	}
}

/* Every connection gets `until` answers. */
static void run(struct connection *connections, struct pollfd *fds, int until)
{
	long left = 0;

	for (int i = 0; i < number_of_connections; i++) {
		if (connections[i].round < until)
			send_request(&connections[i]);
		left += until - connections[i].round;
	}
	while (left > 0) {
		if (poll(fds, number_of_connections, 30000) <= 0)
			die("no answer in thirty seconds", connections);
		for (int i = 0; i < number_of_connections; i++) {
			if (!fds[i].revents || !receive(&connections[i]))
				continue;
			left--;
			if (connections[i].round < until)
				send_request(&connections[i]);
		}
	}
}

static void signal_it(const char *command)
{
	if (command && system(command) != 0) {
		printf("%s fails\n", command);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct connection *connections;
	struct timespec start, end;
	struct pollfd *fds;

	if (argc == 2 && strcmp(argv[1], "zone") == 0) {
		print_zone();
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "files") == 0)
		return make_files(argv[2]);
	if (argc != 5 && argc != 6)
		return 2;
	address.sin_port = htons(atoi(argv[1]));
	for (kind = kinds; kind->name && strcmp(kind->name, argv[2]) != 0; kind++)
		;
	if (!kind->name)
		return 2;
	number_of_connections = atoi(argv[3]);
	rounds = atoi(argv[4]);
	connections = calloc(number_of_connections, sizeof(*connections));
	fds = calloc(number_of_connections, sizeof(*fds));
	for (int i = 0; i < number_of_connections; i++) {
		connections[i].number = i;
		start_connection(&connections[i], &address);
		fds[i].fd = connections[i].fd;
		fds[i].events = POLLIN;
	}
	run(connections, fds, rounds < 4 ? rounds : 4);
	signal_it(argv[5]);
	clock_gettime(CLOCK_MONOTONIC, &start);
	run(connections, fds, rounds);
	clock_gettime(CLOCK_MONOTONIC, &end);
	signal_it(argv[5]);
	printf("%ld answers right, sum %016lx\n", (long)number_of_connections * rounds, sum);
	fprintf(stderr, "%.0f a second\n",
		number_of_connections * (rounds - 4.0) /
			(end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9));
	return 0;
}
