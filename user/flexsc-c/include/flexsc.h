/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exception-less system calls: flexsc(7). Generated from user/flexsc-c: see its tests/header.rs.
 */

#ifndef FLEXSC_H
#define FLEXSC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
struct open_how;
struct statx;

// The call is executed by a syscall thread, never by the waiting one.
#define FLEXSC_CALL_ASYNC 1

// The next call starts when this one has succeeded.
#define FLEXSC_CALL_LINK 2

// In a chain: the call is made even if an earlier one has failed.
#define FLEXSC_CALL_ALWAYS 4

// Make plain calls even if there is an engine.
#define FLEXSC_QUEUE_PLAIN 1

// Fail if there is no engine.
#define FLEXSC_QUEUE_ENGINE 2

// A queue of calls. It belongs to the thread that created it.
struct flexsc_queue;

// A call to be submitted. flexsc_prep_read() and similar functions fill it.
struct flexsc_call {
  // The number of the system call, SYS_...
  int32_t nr;
  // FLEXSC_CALL_...
  uint32_t flags;
  // The pool that executes the call.
  uint8_t pool;
  // The number of arguments that results replace: see flexsc_call_take().
  uint8_t takes;
  // Which arguments.
  uint8_t take_arg[2];
  // The calls whose results are used, counted backwards.
  uint8_t take_back[2];
  uint8_t reserved[2];
  // The arguments, sign-extended.
  uint64_t args[6];
  // Returned with the result.
  uint64_t user_data;
};

// The result of a call.
struct flexsc_result {
  // The user data of the call.
  uint64_t user_data;
  // The return value of the call, -errno on failure.
  int64_t result;
  // Why the kernel did not execute the call as it was posted, or 0: see flexsc_strreason().
  uint32_t reason;
  uint32_t reserved;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Sets the number that is returned with the result of the call.
void flexsc_call_set_data64(struct flexsc_call *call, uint64_t data);

// Like flexsc_call_set_data64(), for a pointer.
void flexsc_call_set_data(struct flexsc_call *call, void *data);

// Adds FLEXSC_CALL_... flags.
void flexsc_call_set_flags(struct flexsc_call *call, uint32_t flags);

// Has the call executed by this pool.
void flexsc_call_set_pool(struct flexsc_call *call, uint8_t pool);

// In a chain: replaces argument arg (0 to 5) by the result of the call back (1 to 32) positions
// before this one. Returns 0, or -EINVAL if there is no such argument or position, or two
// arguments are replaced already.
int flexsc_call_take(struct flexsc_call *call, unsigned int arg, unsigned int back);

// Prepares any system call: its number, SYS_..., and its arguments. Missing arguments are zero.
void flexsc_prep_syscall(struct flexsc_call *call,
                         long nr,
                         const uint64_t *args,
                         unsigned int count);

// Prepares read(2).
void flexsc_prep_read(struct flexsc_call *call, int fd, void *buf, size_t len);

// Prepares write(2).
void flexsc_prep_write(struct flexsc_call *call, int fd, const void *buf, size_t len);

// Prepares pread(2).
void flexsc_prep_pread(struct flexsc_call *call, int fd, void *buf, size_t len, int64_t offset);

// Prepares pwrite(2).
void flexsc_prep_pwrite(struct flexsc_call *call,
                        int fd,
                        const void *buf,
                        size_t len,
                        int64_t offset);

// Prepares readv(2).
void flexsc_prep_readv(struct flexsc_call *call, int fd, const struct iovec *iov, int count);

// Prepares writev(2).
void flexsc_prep_writev(struct flexsc_call *call, int fd, const struct iovec *iov, int count);

// Prepares lseek(2).
void flexsc_prep_lseek(struct flexsc_call *call, int fd, int64_t offset, int whence);

// Prepares openat(2).
void flexsc_prep_openat(struct flexsc_call *call,
                        int dir,
                        const char *path,
                        int flags,
                        unsigned int mode);

// Prepares close(2).
void flexsc_prep_close(struct flexsc_call *call, int fd);

// Prepares fsync(2).
void flexsc_prep_fsync(struct flexsc_call *call, int fd);

// Prepares fdatasync(2).
void flexsc_prep_fdatasync(struct flexsc_call *call, int fd);

// Prepares ftruncate(2).
void flexsc_prep_ftruncate(struct flexsc_call *call, int fd, int64_t len);

// Prepares fallocate(2).
void flexsc_prep_fallocate(struct flexsc_call *call, int fd, int mode, int64_t offset, int64_t len);

// Prepares copy_file_range(2).
void flexsc_prep_copy_file_range(struct flexsc_call *call,
                                 int from,
                                 int64_t *from_offset,
                                 int to,
                                 int64_t *to_offset,
                                 size_t len,
                                 unsigned int flags);

// Prepares splice(2).
void flexsc_prep_splice(struct flexsc_call *call,
                        int from,
                        int64_t *from_offset,
                        int to,
                        int64_t *to_offset,
                        size_t len,
                        unsigned int flags);

// Prepares statx(2).
void flexsc_prep_statx(struct flexsc_call *call,
                       int dir,
                       const char *path,
                       int flags,
                       unsigned int mask,
                       struct statx *to);

// Prepares getdents64(2).
void flexsc_prep_getdents64(struct flexsc_call *call, int fd, void *buf, size_t len);

// Prepares preadv(2).
void flexsc_prep_preadv(struct flexsc_call *call,
                        int fd,
                        const struct iovec *iov,
                        int count,
                        int64_t offset);

// Prepares pwritev(2).
void flexsc_prep_pwritev(struct flexsc_call *call,
                         int fd,
                         const struct iovec *iov,
                         int count,
                         int64_t offset);

// Prepares pwritev2(2).
void flexsc_prep_pwritev2(struct flexsc_call *call,
                          int fd,
                          const struct iovec *iov,
                          int count,
                          int64_t offset,
                          int flags);

// Prepares openat2(2).
void flexsc_prep_openat2(struct flexsc_call *call,
                         int dir,
                         const char *path,
                         const struct open_how *how,
                         size_t size);

// Prepares fstat(2).
void flexsc_prep_fstat(struct flexsc_call *call, int fd, struct stat *to);

// Prepares sendfile(2).
void flexsc_prep_sendfile(struct flexsc_call *call, int to, int from, int64_t *offset, size_t len);

// Prepares mkdirat(2).
void flexsc_prep_mkdirat(struct flexsc_call *call, int dir, const char *path, unsigned int mode);

// Prepares unlinkat(2).
void flexsc_prep_unlinkat(struct flexsc_call *call, int dir, const char *path, int flags);

// Prepares renameat2(2).
void flexsc_prep_renameat2(struct flexsc_call *call,
                           int from,
                           const char *old,
                           int to,
                           const char *path,
                           unsigned int flags);

// Prepares linkat(2).
void flexsc_prep_linkat(struct flexsc_call *call,
                        int from,
                        const char *old,
                        int to,
                        const char *path,
                        int flags);

// Prepares symlinkat(2).
void flexsc_prep_symlinkat(struct flexsc_call *call, const char *target, int dir, const char *path);

// Prepares readlinkat(2).
void flexsc_prep_readlinkat(struct flexsc_call *call,
                            int dir,
                            const char *path,
                            char *buf,
                            size_t len);

// Prepares fgetxattr(2).
void flexsc_prep_fgetxattr(struct flexsc_call *call,
                           int fd,
                           const char *name,
                           void *value,
                           size_t len);

// Prepares fsetxattr(2).
void flexsc_prep_fsetxattr(struct flexsc_call *call,
                           int fd,
                           const char *name,
                           const void *value,
                           size_t len,
                           int flags);

// Prepares flistxattr(2).
void flexsc_prep_flistxattr(struct flexsc_call *call, int fd, char *list, size_t len);

// Prepares fremovexattr(2).
void flexsc_prep_fremovexattr(struct flexsc_call *call, int fd, const char *name);

// Prepares socket(2).
void flexsc_prep_socket(struct flexsc_call *call, int domain, int kind, int protocol);

// Prepares bind(2).
void flexsc_prep_bind(struct flexsc_call *call,
                      int fd,
                      const struct sockaddr *address,
                      socklen_t len);

// Prepares listen(2).
void flexsc_prep_listen(struct flexsc_call *call, int fd, int backlog);

// Prepares accept4(2).
void flexsc_prep_accept4(struct flexsc_call *call,
                         int fd,
                         struct sockaddr *address,
                         socklen_t *len,
                         int flags);

// Prepares connect(2).
void flexsc_prep_connect(struct flexsc_call *call,
                         int fd,
                         const struct sockaddr *address,
                         socklen_t len);

// Prepares shutdown(2).
void flexsc_prep_shutdown(struct flexsc_call *call, int fd, int how);

// Prepares sendto(2).
void flexsc_prep_sendto(struct flexsc_call *call,
                        int fd,
                        const void *buf,
                        size_t len,
                        int flags,
                        const struct sockaddr *address,
                        socklen_t address_len);

// Prepares recvfrom(2).
void flexsc_prep_recvfrom(struct flexsc_call *call,
                          int fd,
                          void *buf,
                          size_t len,
                          int flags,
                          struct sockaddr *address,
                          socklen_t *address_len);

// Prepares sendmsg(2).
void flexsc_prep_sendmsg(struct flexsc_call *call, int fd, const struct msghdr *message, int flags);

// Prepares recvmsg(2).
void flexsc_prep_recvmsg(struct flexsc_call *call, int fd, struct msghdr *message, int flags);

// Prepares setsockopt(2).
void flexsc_prep_setsockopt(struct flexsc_call *call,
                            int fd,
                            int level,
                            int option,
                            const void *value,
                            socklen_t len);

// Prepares getsockopt(2).
void flexsc_prep_getsockopt(struct flexsc_call *call,
                            int fd,
                            int level,
                            int option,
                            void *value,
                            socklen_t *len);

// Prepares send(2).
void flexsc_prep_send(struct flexsc_call *call, int fd, const void *buf, size_t len, int flags);

// Prepares recv(2).
void flexsc_prep_recv(struct flexsc_call *call, int fd, void *buf, size_t len, int flags);

// Prepares epoll_ctl(2).
void flexsc_prep_epoll_ctl(struct flexsc_call *call,
                           int epoll,
                           int op,
                           int fd,
                           struct epoll_event *event);

// Prepares epoll_wait(2).
void flexsc_prep_epoll_wait(struct flexsc_call *call,
                            int epoll,
                            struct epoll_event *events,
                            int most,
                            int timeout_ms);

// Prepares poll(2).
void flexsc_prep_poll(struct flexsc_call *call, struct pollfd *fds, uint64_t count, int timeout_ms);

// Prepares clock_nanosleep(2).
void flexsc_prep_clock_nanosleep(struct flexsc_call *call,
                                 int clock,
                                 int flags,
                                 const struct timespec *time,
                                 struct timespec *rest);

// Prepares eventfd(2).
void flexsc_prep_eventfd(struct flexsc_call *call, unsigned int counter, int flags);

// Prepares timerfd_create(2).
void flexsc_prep_timerfd_create(struct flexsc_call *call, int clock, int flags);

// Prepares timerfd_settime(2).
void flexsc_prep_timerfd_settime(struct flexsc_call *call,
                                 int fd,
                                 int flags,
                                 const struct itimerspec *time,
                                 struct itimerspec *old);

// Prepares madvise(2).
void flexsc_prep_madvise(struct flexsc_call *call, void *start, size_t len, int advice);

// Prepares msync(2).
void flexsc_prep_msync(struct flexsc_call *call, void *start, size_t len, int flags);

// Sets the CPUs of a pool (0 to 15) from a set of this many bytes, and creates the pool.
// Returns 0 or -errno; -ENODEV if the queue has no engine.
int flexsc_pool_set_cpus(struct flexsc_queue *queue,
                         uint8_t pool,
                         const cpu_set_t *cpus,
                         size_t size);

// Sets how many threads of a pool may run at once; 0 for one on each of its CPUs.
// Otherwise like flexsc_pool_set_cpus().
int flexsc_pool_set_concurrency(struct flexsc_queue *queue, uint8_t pool, uint64_t limit);

// Sets the nice value of a pool's threads. Otherwise like flexsc_pool_set_cpus().
int flexsc_pool_set_nice(struct flexsc_queue *queue, uint8_t pool, int nice);

// Creates a queue with room for this many calls, up to 4096. Stores it, and returns 0 or
// -errno. Without an engine the queue makes plain calls, unless flags contain
// FLEXSC_QUEUE_ENGINE.
int flexsc_queue_init(unsigned int calls, struct flexsc_queue **queue, uint32_t flags);

// Ends a queue. Cancels the calls in flight and waits for them, two seconds at most. Does
// nothing if the queue is NULL.
void flexsc_queue_exit(struct flexsc_queue *queue);

// Returns a descriptor that is readable while there are results, for poll(2).
int flexsc_queue_fd(const struct flexsc_queue *queue);

// Returns true if the queue makes plain calls: there is no engine, or it refuses calls.
bool flexsc_queue_is_plain(const struct flexsc_queue *queue);

// Returns the number of plain calls that were made.
uint64_t flexsc_plain_calls(const struct flexsc_queue *queue);

// Returns the number of calls that flexsc_get_call() can return now.
unsigned int flexsc_queue_space(const struct flexsc_queue *queue);

// Returns a call to prepare, which is submitted with the next flexsc_submit() or wait; NULL if
// there is no room. It is valid until then.
struct flexsc_call *flexsc_get_call(struct flexsc_queue *queue);

// Submits the calls that the program has got. Returns their number. With an engine this makes
// no trap.
int flexsc_submit(struct flexsc_queue *queue);

// Submits the calls that the program has got, executes them, and waits until there are min
// results. Returns the number of results, or -errno.
int flexsc_submit_and_wait(struct flexsc_queue *queue, unsigned int min);

// Like flexsc_submit_and_wait(), but returns -ETIME after this time.
int flexsc_submit_and_wait_timeout(struct flexsc_queue *queue,
                                   unsigned int min,
                                   const struct timespec *timeout);

// Stores a pointer to the next result, and returns 0; -EAGAIN if there is none. The result is
// not taken until flexsc_seen().
int flexsc_peek(struct flexsc_queue *queue, struct flexsc_result **result);

// Submits the calls that the program has got, waits for a result, and stores a pointer to it, as
// flexsc_peek() does. Returns 0 or -errno.
int flexsc_wait_result(struct flexsc_queue *queue, struct flexsc_result **result);

// Takes the result that flexsc_peek() or flexsc_wait_result() has stored, and frees its
// memory and its place in the queue.
void flexsc_seen(struct flexsc_queue *queue, struct flexsc_result *result);

// Returns the user data of a result as a pointer.
void *flexsc_result_get_data(const struct flexsc_result *result);

// Cancels all calls that were submitted with this user data; for a chain, the user data of its
// first call counts. Returns 1 if an unfinished call was found, 0 if none, or -errno.
int flexsc_cancel(struct flexsc_queue *queue, uint64_t user_data);

// Returns a sentence about a reason.
const char *flexsc_strreason(uint32_t reason);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FLEXSC_H */
