/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Says how many threads of the kernel there are while many threads wait. */
#include "check.h"
#include <dirent.h>
#include <semaphore.h>

#define CROWD 100
#define READERS 10

static sem_t sem, here;
static int ends[2];

static void *wait_for_word(void *arg)
{
	CHECK(sem_post(&here) == 0 && sem_wait(&sem) == 0);
	return arg;
}

static void *wait_in_read(void *arg)
{
	char byte;

	CHECK(sem_post(&here) == 0 && read(ends[0], &byte, 1) == 1);
	return arg;
}

static void count(const char *what)
{
	DIR *dir = opendir("/proc/self/task");
	int count = 0;

	CHECK(dir);
	for (struct dirent *entry; (entry = readdir(dir));)
		count += entry->d_name[0] != '.';
	closedir(dir);
	printf("%s: %d\n", what, count);
}

extern char **environ;

int main(void)
{
	pthread_t threads[CROWD + READERS];
	int i;

	/* As servers do that set their title. */
	for (char **text = environ; *text; text++)
		memset(*text, 'x', strlen(*text));

	CHECK(pipe(ends) == 0 && sem_init(&sem, 0, 0) == 0 && sem_init(&here, 0, 0) == 0);
	for (i = 0; i < CROWD; i++)
		CHECK(pthread_create(&threads[i], NULL, wait_for_word, NULL) == 0);
	for (i = 0; i < CROWD; i++)
		CHECK(sem_wait(&here) == 0);
	count("waiting for a word");
	for (i = CROWD; i < CROWD + READERS; i++)
		CHECK(pthread_create(&threads[i], NULL, wait_in_read, NULL) == 0);
	for (i = 0; i < READERS; i++)
		CHECK(sem_wait(&here) == 0);
	/* Where each thread has a number of the kernel, it is there already; here they have to go on. */
	sched_yield();
	count("waiting in read");
#ifdef FOR_EVER
	pause();
#endif
	for (i = 0; i < CROWD; i++)
		CHECK(sem_post(&sem) == 0);
	for (i = 0; i < READERS; i++)
		CHECK(write(ends[1], "x", 1) == 1);
	for (i = 0; i < CROWD + READERS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	return 0;
}
