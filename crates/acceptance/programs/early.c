/* early: a shared object whose constructor asks a device before other libraries' constructors have run.
 *
 * What it found is left in the environment variable EARLY: the return value of GET_IDLUN. It also calls ioctl(2) amid
 * the search for the C library's functions, as a signal handler may.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

__attribute__((constructor)) static void early(void)
{
    const char *path = getenv("EARLY_DEVICE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    unsigned address[2];
    char found[32];
    snprintf(found, sizeof found, "%d", ioctl(fd, 0x5382, address));
    setenv("EARLY", found, 1);
    close(fd);
}

int dl_iterate_phdr(int (*visit)(struct dl_phdr_info *, size_t, void *), void *data)
{
    int (*real)(int (*)(struct dl_phdr_info *, size_t, void *), void *) = dlsym(RTLD_NEXT, "dl_iterate_phdr");
    int result = real(visit, data), bytes;
    /* Ends the program if the call does not return. */
    alarm(20);
    ioctl(-1, FIONREAD, &bytes);
    alarm(0);
    return result;
}
