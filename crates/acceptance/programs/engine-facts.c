/* engine-facts HOW PATH DIRECTORY: what a disk says of thin provisioning, and what its commands end with, when
 *
 *   usual          nothing is wrong
 *   no-descriptor  the program has no descriptor left
 *   chroot         the root is DIRECTORY, with neither /proc nor /sys
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <scsi/sg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

static unsigned char data[4096];

static int send(int fd, const void *cdb, int length, int direction, unsigned bytes)
{
    unsigned char sense[32];
    struct sg_io_hdr header = {.interface_id = 'S', .dxfer_direction = direction, .cmd_len = length, .cmdp = (void *)cdb,
                               .dxferp = data, .dxfer_len = bytes, .sbp = sense, .mx_sb_len = sizeof sense, .timeout = 5000};
    return ioctl(fd, SG_IO, &header) ? -1 : header.status | header.host_status << 8;
}

int main(int count, char **arguments)
{
    if (count != 4)
        return 2;
    int fd = open(arguments[2], O_RDWR);
    if (!strcmp(arguments[1], "no-descriptor")) {
        struct rlimit limit = {16, 16};
        setrlimit(RLIMIT_NOFILE, &limit);
        while (open("/dev/null", O_RDONLY) >= 0)
            ;
    }
    if (!strcmp(arguments[1], "chroot") && (chroot(arguments[3]) || chdir("/")))
        return 3;
    int capacity = send(fd, (unsigned char[16]){0x9e, 0x10, [13] = 32}, 16, SG_DXFER_FROM_DEV, 32);
    printf("capacity %d thin %d\n", capacity, data[14] >> 7);
    int page = send(fd, (unsigned char[6]){0x12, 1, 0xb2, 0, 64}, 6, SG_DXFER_FROM_DEV, 64);
    printf("page %d %02x%02x\n", page, data[5], data[6]);
    memset(data, 0, sizeof data);
    memcpy(data, (unsigned char[24]){0, 22, 0, 16, [14] = 1, [19] = 8}, 24);
    printf("unmap %d\n", send(fd, (unsigned char[10]){0x42, [8] = 24}, 10, SG_DXFER_TO_DEV, 24));
    memset(data, 0, sizeof data);
    printf("same %d\n", send(fd, (unsigned char[16]){0x93, 8, [8] = 1, [13] = 8}, 16, SG_DXFER_TO_DEV, 512));
    printf("extents %d\n", send(fd, (unsigned char[16]){0x9e, 0x12, [13] = 64}, 16, SG_DXFER_FROM_DEV, 64));
    memset(data, 0, sizeof data);
    printf("compare %d\n", send(fd, (unsigned char[16]){0x89, [8] = 3, [13] = 1}, 16, SG_DXFER_TO_DEV, 1024));
    printf("write %d\n", send(fd, (unsigned char[10]){0x2a, 0, 0, 0, 4, 0, 0, 0, 1}, 10, SG_DXFER_TO_DEV, 512));
    return 0;
}
