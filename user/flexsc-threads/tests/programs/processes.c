/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* fork, vfork, posix_spawn, system, popen and exec of a program with threads. */
#include "check.h"
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile int is_over;

static void *busy(void *arg)
{
	while (!is_over) {
		pthread_mutex_lock(&mutex);
		free(malloc(100));
		pthread_mutex_unlock(&mutex);
	}
	return arg;
}

static void *in_child(void *arg)
{
	pthread_mutex_lock(&mutex);
	pthread_mutex_unlock(&mutex);
	return arg;
}

static void prepare(void)
{
	pthread_mutex_lock(&mutex);
}

static void release(void)
{
	pthread_mutex_unlock(&mutex);
}

static int code_of(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void fork_once(int number)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		pthread_t thread;
		void *result;

		CHECK(pthread_create(&thread, NULL, in_child, (void *)(long)number) == 0);
		CHECK(pthread_join(thread, &result) == 0);
		_exit((int)(long)result);
	}
	printf("child %d: %d\n", number, code_of(pid));
}

static void run(void)
{
	char *argv[] = { "sh", "-c", "exit 5", NULL }, line[64] = "";
	posix_spawn_file_actions_t actions;
	pid_t pid;
	FILE *pipe;

	pid = vfork();
	if (pid == 0) {
		execve("/bin/sh", argv, environ);
		_exit(99);
	}
	printf("vfork: %d\n", code_of(pid));
	CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) == 0);
	printf("posix_spawn: %d\n", code_of(pid));
	CHECK(posix_spawn_file_actions_init(&actions) == 0);
	CHECK(posix_spawn_file_actions_addclose(&actions, 0) == 0);
	CHECK(posix_spawnp(&pid, "sh", &actions, NULL, argv, environ) == 0);
	printf("posix_spawnp: %d\n", code_of(pid));
	CHECK(posix_spawn(&pid, "/does/not/exist", NULL, NULL, argv, environ) == ENOENT);
	printf("system: %d\n", WEXITSTATUS(system("exit 6")));
	pipe = popen("echo $((6 * 7))", "r");
	CHECK(pipe && fgets(line, sizeof(line), pipe));
	printf("popen: %s", line);
	CHECK(pclose(pipe) == 0);
}

int main(int argc, char **argv)
{
	pthread_t threads[2];
	int status;

	if (argc > 1) {
		printf("executed: %s\n", argv[1]);
		return 0;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* First without threads: only the sites of clones are patched. */
	run();
	CHECK(pthread_atfork(prepare, release, release) == 0);
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&threads[i], NULL, busy, NULL) == 0);
	for (int i = 1; i <= 20; i++)
		fork_once(i);
	run();
	if (fork() == 0) {
		kill(getpid(), SIGSEGV);
		pause();
	}
	CHECK(wait(&status) > 0 && WIFSIGNALED(status));
	printf("signal %d\n", WTERMSIG(status));
	is_over = 1;
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	execl("/proc/self/exe", argv[0], "again", NULL);
	return 1;
}
