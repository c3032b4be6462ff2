/* bench MODE...: what scripts/bench counts and times, with the library and without.
 *
 *   start                       nothing
 *   ioctl PATH REQUEST COUNT    COUNT requests; prints "answered" or "refused". PATH may be "pipe"
 *   command PATH CDB COUNT      COUNT times by SG_IO the SCSI command CDB (in hexadecimal), which reads at most 4 KiB or,
 *                               WRITE(10), writes as many
 *   close COUNT                 COUNT times a descriptor is duplicated and closed
 *   read PATH BYTES COUNT       COUNT times BYTES at random places; prints the nanoseconds of processor time
 *   write PATH BYTES COUNT      the same
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <err.h>
#include <fcntl.h>
#include <scsi/sg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* In pages that do not depend on where the program is loaded: a header or data in two pages costs more. */
static _Alignas(4096) unsigned char buffer[65536];
static _Alignas(256) struct {
    unsigned char cdb[16], sense[32];
    sg_io_hdr_t header;
} request;

static void ask(const char *path, unsigned long request, long count)
{
    int fds[2], result = -1;
    if (strcmp(path, "pipe") == 0 ? pipe(fds) : (fds[0] = open(path, O_RDONLY)) < 0)
        err(1, "%s", path);
    for (long i = 0; i < count; i++)
        result = ioctl(fds[0], request, buffer);
    puts(result < 0 ? "refused" : "answered");
}

static void command(const char *path, const char *hexadecimal, long count)
{
    unsigned char *cdb = request.cdb;
    size_t length = 0;
    while (length < sizeof request.cdb && sscanf(hexadecimal + 2 * length, "%2hhx", &cdb[length]) == 1)
        length++;
    int writes = cdb[0] == 0x2a, fd = open(path, writes ? O_RDWR : O_RDONLY), result = -1;
    if (fd < 0)
        err(1, "%s", path);
    request.header = (sg_io_hdr_t){ .interface_id = 'S', .dxfer_direction = writes ? SG_DXFER_TO_DEV : SG_DXFER_FROM_DEV, .cmd_len = (unsigned char)length,
        .mx_sb_len = sizeof request.sense, .dxfer_len = 4096, .dxferp = buffer, .cmdp = cdb, .sbp = request.sense, .timeout = 60000 };
    for (long i = 0; i < count; i++)
        result = ioctl(fd, SG_IO, &request.header);
    puts(result < 0 || request.header.info & SG_INFO_CHECK ? "refused" : "answered");
}

static void duplicate(long count)
{
    for (long i = 0; i < count; i++)
        if (close(dup(1)))
            err(1, "close");
}

/* Of this process, in the kernel too. What waits for nothing takes no more, and what else runs does not count. */
static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void move(int writing, const char *path, size_t bytes, long count)
{
    int fd = open(path, O_RDWR);
    if (fd < 0)
        err(1, "%s", path);
    off_t places = lseek(fd, 0, SEEK_END) / (off_t)bytes;
    if (bytes > sizeof buffer || places < 1)
        errx(1, "%s: not one place of %zu bytes", path, bytes);
    /* Every run reads and writes the same places: nothing but the library differs. */
    uint64_t random = 88172645463325252;
    long long before = now();
    for (long i = 0; i < count; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        off_t place = (off_t)(random % (uint64_t)places) * (off_t)bytes;
        if ((writing ? pwrite(fd, buffer, bytes, place) : pread(fd, buffer, bytes, place)) != (ssize_t)bytes)
            err(1, "%s", path);
    }
    printf("%lld\n", now() - before);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (argc == 2 && strcmp(mode, "start") == 0)
        return 0;
    if (argc == 5 && strcmp(mode, "ioctl") == 0)
        ask(argv[2], strtoul(argv[3], NULL, 0), atol(argv[4]));
    else if (argc == 5 && strcmp(mode, "command") == 0)
        command(argv[2], argv[3], atol(argv[4]));
    else if (argc == 3 && strcmp(mode, "close") == 0)
        duplicate(atol(argv[2]));
    else if (argc == 5 && (strcmp(mode, "read") == 0 || strcmp(mode, "write") == 0))
        move(mode[0] == 'w', argv[2], strtoul(argv[3], NULL, 0), atol(argv[4]));
    else
        errx(2, "usage: bench start | ioctl PATH REQUEST COUNT | command PATH CDB COUNT | close COUNT | read|write PATH BYTES COUNT");
    return 0;
}
