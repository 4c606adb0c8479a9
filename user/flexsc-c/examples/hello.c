// SPDX-License-Identifier: MIT OR Apache-2.0
/* Prints the total size of the files in a directory, asking for as many at a time as the queue has room for. */

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <flexsc.h>

struct file {
	char name[256];
	struct statx stat;
};

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "/proc/self";
	unsigned long long total = 0;
	struct flexsc_result *result;
	struct flexsc_queue *queue;
	unsigned int files = 0;
	struct dirent *entry;
	int error, more = 1;
	DIR *dir;

	error = flexsc_queue_init(64, &queue, 0);
	if (error) {
		fprintf(stderr, "flexsc_queue_init: %s\n", strerror(-error));
		return 1;
	}
	dir = opendir(path);
	if (!dir) {
		perror(path);
		return 1;
	}
	while (more) {
		unsigned int in_flight = 0;

		while (flexsc_queue_space(queue) && (more = (entry = readdir(dir)) != NULL)) {
			struct flexsc_call *call = flexsc_get_call(queue);
			struct file *file = malloc(sizeof(*file));

			if (!file)
				abort();
			snprintf(file->name, sizeof(file->name), "%s", entry->d_name);
			flexsc_prep_statx(call, dirfd(dir), file->name, AT_SYMLINK_NOFOLLOW, STATX_SIZE, &file->stat);
			flexsc_call_set_data(call, file);
			in_flight++;
		}
		for (; in_flight; in_flight--) {
			struct file *file;

			error = flexsc_wait_result(queue, &result);
			if (error) {
				/* The kernel may still use the memory: keep it. */
				fprintf(stderr, "flexsc_wait_result: %s\n", strerror(-error));
				return 1;
			}
			file = flexsc_result_get_data(result);
			if (result->result < 0) {
				fprintf(stderr, "%s: %s\n", file->name, strerror((int)-result->result));
			} else {
				total += file->stat.stx_size;
				files++;
			}
			flexsc_seen(queue, result);
			free(file);
		}
	}
	printf("%u files, %llu bytes%s\n", files, total, flexsc_queue_is_plain(queue) ? ", by plain calls" : "");
	closedir(dir);
	flexsc_queue_exit(queue);
	return 0;
}
