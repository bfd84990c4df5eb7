/* Tests only, never installed on a camera: plays those parts of a Pi that a container on a PC lacks.
 *
 * Loaded into every program of the test machine (/etc/ld.so.preload).
 *   /dev/dma_heap/linux,cma     buffers for the camera, kept in memory files
 *   /proc/device-tree/model     read from /srv/standins/model
 *   adjtimex                    says that a time server sets the clock, unless /srv/standins/clock-is-free exists:
 *                               a container can't set its clock, and its host need not have a time server
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/timex.h>
#include <sys/types.h>
#include <unistd.h>

#define HEAP "/dev/dma_heap/linux,cma"
#define MODEL "/proc/device-tree/model"
#define MODEL_HERE "/srv/standins/model"
#define CLOCK_IS_FREE "/srv/standins/clock-is-free"
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is(const char *path, const char *wanted)
{
	return path != NULL && strcmp(path, wanted) == 0;
}

static const char *moved(const char *path)
{
	return is(path, MODEL) ? MODEL_HERE : path;
}

static int memory_file(const char *name)
{
	return memfd_create(name, MFD_CLOEXEC);
}

static mode_t mode_of(int flags, va_list rest)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPENS(name)                                                     \
	int name(const char *path, int flags, ...)                      \
	{                                                               \
		va_list rest;                                           \
		va_start(rest, flags);                                  \
		mode_t mode = mode_of(flags, rest);                     \
		va_end(rest);                                           \
		if (is(path, HEAP))                                     \
			return memory_file("heap");                     \
		return NEXT(name)(moved(path), flags, mode);            \
	}

#define OPENS_AT(name)                                                  \
	int name(int folder, const char *path, int flags, ...)          \
	{                                                               \
		va_list rest;                                           \
		va_start(rest, flags);                                  \
		mode_t mode = mode_of(flags, rest);                     \
		va_end(rest);                                           \
		if (is(path, HEAP))                                     \
			return memory_file("heap");                     \
		return NEXT(name)(folder, moved(path), flags, mode);    \
	}

OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

static int give_buffer(struct dma_heap_allocation_data *asked)
{
	int buffer = memory_file("buffer");
	if (buffer < 0)
		return -1;
	if (ftruncate(buffer, (off_t)asked->len) < 0) {
		int why = errno;
		close(buffer);
		errno = why;
		return -1;
	}
	asked->fd = (uint32_t)buffer;
	return 0;
}

int ioctl(int file, unsigned long request, ...)
{
	va_list rest;
	va_start(rest, request);
	void *argument = va_arg(rest, void *);
	va_end(rest);
	switch ((uint32_t)request) {
	case (uint32_t)DMA_HEAP_IOCTL_ALLOC:
		return give_buffer(argument);
	case (uint32_t)DMA_BUF_IOCTL_SYNC:
	case (uint32_t)DMA_BUF_SET_NAME_A:
	case (uint32_t)DMA_BUF_SET_NAME_B:
		return 0;
	default:
		return NEXT(ioctl)(file, request, argument);
	}
}

int adjtimex(struct timex *clock)
{
	if (clock->modes != 0 || access(CLOCK_IS_FREE, F_OK) == 0)
		return NEXT(adjtimex)(clock);
	memset(clock, 0, sizeof *clock);
	clock->maxerror = 1000;
	return TIME_OK;
}
