/* early: a shared object whose constructor asks a device before other libraries' constructors have run.
 *
 * What it found is left in the environment variable EARLY: the return value of GET_IDLUN.
 */
#include <fcntl.h>
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
