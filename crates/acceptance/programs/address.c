/* address PATH: prints 0 where PATH has a SCSI address, else the errno. Any C library will do. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define SCSI_IOCTL_GET_IDLUN 0x5382

int main(int argc, char **argv)
{
    unsigned address[2];
    int fd = argc < 2 ? -1 : open(argv[1], O_RDONLY);
    printf("%d\n", ioctl(fd, SCSI_IOCTL_GET_IDLUN, address) ? errno : 0);
    return 0;
}
