/* stacked: a preload library beside ours, which answers one request, and writes a line for each open and close. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A number that no disk driver knows, and one of ours on a device that is not listed. */
#define PRIVATE 0x7d01
#define SCSI_IOCTL_GET_IDLUN 0x5382

int ioctl(int fd, unsigned long request, ...)
{
    static int (*next)(int, unsigned long, ...);
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PRIVATE || request == SCSI_IOCTL_GET_IDLUN)
        return 77;
    if (!next)
        next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    return next(fd, request, argument);
}

int close(int fd)
{
    static int (*next)(int);
    if (!next)
        next = (int (*)(int))dlsym(RTLD_NEXT, "close");
    dprintf(1, "stacked close\n");
    return next(fd);
}

FILE *fopen(const char *path, const char *mode)
{
    static FILE *(*next)(const char *, const char *);
    if (!next)
        next = (FILE * (*)(const char *, const char *))dlsym(RTLD_NEXT, "fopen");
    dprintf(1, "stacked fopen\n");
    return next(path, mode);
}
