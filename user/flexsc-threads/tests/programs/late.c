/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Objects that are loaded when there are already threads, with sites of all shapes. */
#include "check.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

static void *idle(void *arg)
{
	return arg;
}

static void use(const char *path)
{
	void *object = dlopen(path, RTLD_NOW);
	int (*test)(void);

	CHECK(object);
	test = dlsym(object, "test_sites");
	CHECK(test);
	printf("sites: %d\n", test());
	CHECK(dlclose(object) == 0);
}

/* Code that belongs to no object stays as it is: a shared mapping is the file, an anonymous one is empty. */
static void keep_out(const char *path)
{
	int fd = open(path, O_RDWR);
	char *before, *mapped, zeros[4096] = { 0 };
	struct stat stat;

	CHECK(fd >= 0 && fstat(fd, &stat) == 0);
	before = malloc(stat.st_size);
	CHECK(pread(fd, before, stat.st_size, 0) == stat.st_size);
	for (off_t at = 0; at < stat.st_size; at += 4096) {
		mapped = mmap(NULL, stat.st_size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, at);
		CHECK(mapped != MAP_FAILED);
		CHECK(memcmp(mapped, before + at, stat.st_size - at) == 0);
		CHECK(munmap(mapped, stat.st_size) == 0);
		mapped = mmap(NULL, stat.st_size, PROT_READ | PROT_EXEC,
			      MAP_PRIVATE | MAP_ANONYMOUS, fd, at);
		CHECK(mapped != MAP_FAILED);
		for (off_t page = 0; page + 4096 <= stat.st_size; page += 4096)
			CHECK(memcmp(mapped + page, zeros, 4096) == 0);
		CHECK(munmap(mapped, stat.st_size) == 0);
	}
	free(before);
	close(fd);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	CHECK(argc == 2);
	CHECK(pthread_create(&thread, NULL, idle, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	/* Repeats more often than there are pages of stubs. */
	for (int i = 0; i < 300; i++)
		use(argv[1]);
	keep_out(argv[1]);
	return 0;
}
