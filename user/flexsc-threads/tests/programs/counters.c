/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * counters NAME: adds up, over all threads of all processes with this name, the time that they have run, how often
 * they have been switched away from, the traps that a histogram has counted, if there is one, and the calls that have
 * come from syscall pages.  Prints "threads N ns N switches N traps N posted N".
 */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a kprobe on x64_sys_call(), which also the engine calls: by thread and by caller. */
#define HISTOGRAM "/sys/kernel/tracing/events/kprobes/trap/hist"
#define CALLER "] do_syscall_64 "
#define MOST 4096

static long tids[MOST], threads;
static unsigned long ns, switches, traps, posted;

static FILE *open_in(const char *directory, const char *name)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return fopen(path, "r");
}

static void add_thread(const char *directory, long tid)
{
	unsigned long value;
	char line[256];
	FILE *file = open_in(directory, "schedstat");

	if (!file)
		return;
	if (threads < MOST)
		tids[threads++] = tid;
	if (fscanf(file, "%lu", &value) == 1)
		ns += value;
	fclose(file);
	file = open_in(directory, "status");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "voluntary_ctxt_switches: %lu", &value) == 1 ||
		    sscanf(line, "nonvoluntary_ctxt_switches: %lu", &value) == 1)
			switches += value;
	if (file)
		fclose(file);
}

/* Calls WORK for each directory whose name is a number. */
static void each(const char *directory, void (*work)(const char *, long))
{
	char path[512];
	DIR *dir = opendir(directory);

	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		if (!isdigit(entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "%s/%.200s", directory, entry->d_name);
		work(path, atol(entry->d_name));
	}
	if (dir)
		closedir(dir);
}

static void add_engine(const char *directory, long fd)
{
	unsigned long value;
	char line[256];
	FILE *file = fopen(directory, "r");

	(void)fd;
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "flexsc-inline_done: %lu", &value) == 1 || sscanf(line, "flexsc-thread_done: %lu", &value) == 1)
			posted += value;
	if (file)
		fclose(file);
}

static const char *wanted;

static void add_process(const char *directory, long pid)
{
	char name[64] = "", path[512];
	FILE *file = open_in(directory, "comm");

	(void)pid;
	if (file && fscanf(file, "%63s", name) != 1)
		name[0] = 0;
	if (file)
		fclose(file);
	if (strcmp(name, wanted) != 0)
		return;
	snprintf(path, sizeof(path), "%s/task", directory);
	each(path, add_thread);
	snprintf(path, sizeof(path), "%s/fdinfo", directory);
	each(path, add_engine);
}

static void add_traps(void)
{
	unsigned long count;
	char line[256];
	long tid;
	FILE *file = fopen(HISTOGRAM, "r");

	while (file && fgets(line, sizeof(line), file)) {
		const char *number = strstr(line, "hitcount:");

		if (sscanf(line, "{ common_pid: %ld", &tid) != 1 || !number || !strstr(line, CALLER))
			continue;
		count = strtoul(number + 9, NULL, 10);
		for (long i = 0; i < threads; i++)
			if (tids[i] == tid)
				traps += count;
	}
	if (file)
		fclose(file);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	wanted = argv[1];
	each("/proc", add_process);
	add_traps();
	printf("threads %ld ns %lu switches %lu traps %lu posted %lu\n", threads, ns, switches, traps, posted);
	return threads == 0;
}
