/* bypass HOW PATH: asks PATH for its SCSI address and prints 0 or the name of the errno.
 *
 * HOW: ioctl    calls ioctl(2) as programs do
 *      syscall  calls syscall(2)
 *      deepbind PLUGIN  has PLUGIN do it, loaded with RTLD_DEEPBIND
 *      dlmopen PLUGIN   has PLUGIN do it, loaded into a name space of its own
 * Built as a shared object with -DPLUGIN it is that plug-in; with -static it is a program that no preload library reaches.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SCSI_IOCTL_GET_IDLUN 0x5382

/* The errno, or 0. */
int ask(int fd)
{
    unsigned address[2];
    return ioctl(fd, SCSI_IOCTL_GET_IDLUN, address) ? errno : 0;
}

#ifndef PLUGIN
#ifndef STATIC
static int through(void *plugin, int fd)
{
    int (*function)(int) = plugin ? (int (*)(int))dlsym(plugin, "ask") : NULL;
    return function ? function(fd) : ENOSYS;
}
#endif

int main(int argc, char **argv)
{
    unsigned address[2];
    int fd = open(argv[argc - 1], O_RDONLY), result;

    if (argc < 3 || fd < 0)
        return 2;
    if (!strcmp(argv[1], "syscall"))
        result = syscall(SYS_ioctl, fd, SCSI_IOCTL_GET_IDLUN, address) ? errno : 0;
#ifndef STATIC
    else if (!strcmp(argv[1], "deepbind"))
        result = through(dlopen(argv[2], RTLD_NOW | RTLD_DEEPBIND), fd);
    else if (!strcmp(argv[1], "dlmopen"))
        result = through(dlmopen(LM_ID_NEWLM, argv[2], RTLD_NOW), fd);
#endif
    else
        result = ask(fd);
    puts(result ? strerrorname_np(result) : "0");
    return 0;
}
#endif
