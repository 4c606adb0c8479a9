/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * load PORT memcached|redis CONNECTIONS ROUNDS: stores values in a server on the loopback device, reads
 * them back and checks each answer.  Every connection has a request on its way all the time.
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

struct connection {
	int fd, round;
	size_t got, wanted;
	char answer[1024];
};

static int is_redis, number_of_connections, rounds;

static void die(const char *what, const struct connection *connection)
{
	printf("%s: round %d, errno %d, answer %.*s\n", what, connection->round, errno, (int)connection->got,
	       connection->answer);
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

/* Even rounds store, odd ones read what the round before has stored. */
static int request(int number, int round, char *text, char *answer)
{
	char bytes[512];
	int len = value(number, round & ~1, bytes);

	if (round % 2 == 0) {
		strcpy(answer, is_redis ? "+OK\r\n" : "STORED\r\n");
		return is_redis ? sprintf(text, "*3\r\n$3\r\nSET\r\n$6\r\nk%05d\r\n$%d\r\n%s\r\n", number, len, bytes)
				: sprintf(text, "set k%05d 7 0 %d\r\n%s\r\n", number, len, bytes);
	}
	if (is_redis) {
		sprintf(answer, "$%d\r\n%s\r\n", len, bytes);
		return sprintf(text, "*2\r\n$3\r\nGET\r\n$6\r\nk%05d\r\n", number);
	}
	sprintf(answer, "VALUE k%05d 7 %d\r\n%s\r\nEND\r\n", number, len, bytes);
	return sprintf(text, "get k%05d\r\n", number);
}

static void send_request(struct connection *connection, int number)
{
	char text[1024], answer[1024];
	int len = request(number, connection->round, text, answer);

	connection->got = 0;
	connection->wanted = strlen(answer);
	if (send(connection->fd, text, len, MSG_NOSIGNAL) != len)
		die("send", connection);
}

static void receive(struct connection *connection, int number)
{
	char text[1024], answer[1024];
	ssize_t got = recv(connection->fd, connection->answer + connection->got,
			   sizeof(connection->answer) - connection->got, 0);

	if (got <= 0)
		die("recv", connection);
	connection->got += got;
	if (connection->got < connection->wanted)
		return;
	request(number, connection->round, text, answer);
	if (connection->got != connection->wanted || memcmp(connection->answer, answer, connection->wanted))
		die("wrong answer", connection);
	if (++connection->round < rounds)
		send_request(connection, number);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct connection *connections;
	struct timespec start, end;
	struct pollfd *fds;
	long left;

	if (argc != 5)
		return 2;
	address.sin_port = htons(atoi(argv[1]));
	is_redis = strcmp(argv[2], "redis") == 0;
	number_of_connections = atoi(argv[3]);
	rounds = atoi(argv[4]);
	connections = calloc(number_of_connections, sizeof(*connections));
	fds = calloc(number_of_connections, sizeof(*fds));
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < number_of_connections; i++) {
		/* The server may still be starting: the time limit of who calls us ends this. */
		do {
			connections[i].fd = socket(AF_INET, SOCK_STREAM, 0);
			if (connect(connections[i].fd, (void *)&address, sizeof(address)) == 0)
				break;
			close(connections[i].fd);
			poll(NULL, 0, 10);
		} while (errno == ECONNREFUSED);
		fds[i].fd = connections[i].fd;
		fds[i].events = POLLIN;
		send_request(&connections[i], i);
	}
	left = (long)number_of_connections * rounds;
	while (left > 0) {
		if (poll(fds, number_of_connections, -1) < 0)
			return 1;
		for (int i = 0; i < number_of_connections; i++) {
			int before = connections[i].round;

			if (fds[i].revents)
				receive(&connections[i], i);
			left -= connections[i].round - before;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%ld answers right, %.0f a second\n", (long)number_of_connections * rounds,
	       number_of_connections * rounds /
		       (end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9));
	return 0;
}
