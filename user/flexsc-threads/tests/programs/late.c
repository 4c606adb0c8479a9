/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Objects that are loaded when there are threads already, with sites of all shapes. */
#include "check.h"
#include <dlfcn.h>

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

int main(int argc, char **argv)
{
	pthread_t thread;

	CHECK(argc == 2);
	CHECK(pthread_create(&thread, NULL, idle, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	for (int i = 0; i < 5; i++)
		use(argv[1]);
	return 0;
}
