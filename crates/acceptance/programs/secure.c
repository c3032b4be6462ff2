/* secure [-c COMMAND] PATH...: asks what VMware asks about each PATH, as a set-user-ID program.
 *
 * First the environment that the program sees, then a line a PATH:
 *     PATH kind=block bytes=N geometry=C/H/S@START identity=MODEL/SERIAL idlun=ID
 * where what fails shows its errno instead. COMMAND, carried out before the questions:
 *     fork    asks in a child
 *     exec    executes itself in a child, in the environment as it is
 *     preload executes itself in a child, with the library in LD_PRELOAD again
 *     root    makes root its real user in a child
 *     groups  takes group 6 as its only supplementary one in a child
 *     stderr  has the first PATH open as its standard error, which it asks nothing, in a child
 *     close   asks in a child, makes each PATH root's alone, and asks again
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* scsi/scsi_ioctl.h of the C library has it not. */
#define SCSI_IOCTL_GET_IDLUN 0x5382

static const char *set(const char *name)
{
    return getenv(name) ? "set" : "unset";
}

static void environment(void)
{
    printf("uid=%d euid=%d secure=%lu LD_PRELOAD=%s VMWARE_BDWRAPPER_DEVICES=%s\n", (int)getuid(), (int)geteuid(),
           getauxval(AT_SECURE), set("LD_PRELOAD"), set("VMWARE_BDWRAPPER_DEVICES"));
}

/* Prints bytes without the blanks at both ends. */
static void trimmed(const unsigned char *text, int length)
{
    while (length && *text == ' ')
        text++, length--;
    while (length && text[length - 1] == ' ')
        length--;
    printf("%.*s", length, (const char *)text);
}

static void ask(const char *path)
{
    struct stat64 status;
    unsigned long long bytes;
    struct hd_geometry geometry;
    struct hd_driveid identity;
    unsigned int idlun[2];

    printf("%s", path);
    if (stat64(path, &status))
        printf(" kind=%s", strerrorname_np(errno));
    else
        printf(" kind=%s", S_ISBLK(status.st_mode) ? "block" : S_ISREG(status.st_mode) ? "file" : "other");
    int file = open64(path, O_RDWR | O_DIRECT);
    if (file < 0)
        file = open64(path, O_RDWR);
    if (file < 0) {
        printf(" open=%s\n", strerrorname_np(errno));
        return;
    }
    if (ioctl(file, BLKGETSIZE64, &bytes))
        printf(" bytes=%s", strerrorname_np(errno));
    else
        printf(" bytes=%llu", bytes);
    if (ioctl(file, HDIO_GETGEO, &geometry))
        printf(" geometry=%s", strerrorname_np(errno));
    else
        printf(" geometry=%u/%u/%u@%lu", geometry.cylinders, geometry.heads, geometry.sectors, geometry.start);
    if (ioctl(file, HDIO_GET_IDENTITY, &identity)) {
        printf(" identity=%s", strerrorname_np(errno));
    } else {
        printf(" identity=");
        trimmed(identity.model, sizeof identity.model);
        printf("/");
        trimmed(identity.serial_no, sizeof identity.serial_no);
    }
    if (ioctl(file, SCSI_IOCTL_GET_IDLUN, idlun))
        printf(" idlun=%s\n", strerrorname_np(errno));
    else
        printf(" idlun=%#x\n", idlun[0]);
    close(file);
}

int main(int count, char **arguments)
{
    const char *command = "";
    int first = 1;

    if (count > 2 && !strcmp(arguments[1], "-c")) {
        command = arguments[2];
        first = 3;
    }
    if (*command) {
        pid_t child = fork();
        int status;

        if (child < 0)
            return 2;
        if (child) {
            if (waitpid(child, &status, 0) != child)
                return 2;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
        }
        if (!strcmp(command, "root")) {
            if (setreuid(0, 0))
                return 4;
        } else if (!strcmp(command, "groups")) {
            gid_t group = 6;
            if (setgroups(1, &group))
                return 4;
        } else if (!strcmp(command, "stderr")) {
            close(2);
            if (open64(arguments[first++], O_RDWR) != 2)
                return 4;
        } else if (!strcmp(command, "close")) {
            for (int i = first; i < count; i++) {
                ask(arguments[i]);
                if (chmod(arguments[i], 0600) || chown(arguments[i], 0, 0))
                    return 4;
            }
        } else if (strcmp(command, "fork")) {
            if (!strcmp(command, "preload"))
                setenv("LD_PRELOAD", "libvmware-bdwrapper.so.0", 1);
            arguments[first - 1] = arguments[0];
            execv("/proc/self/exe", arguments + first - 1);
            return 4;
        }
    }
    environment();
    for (int i = first; i < count; i++)
        ask(arguments[i]);
    return fflush(stdout) ? 5 : 0;
}
