/* requests DEVICE: makes eight requests, one of them by the number that a 64-bit program has for it. */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <scsi/sg.h>
#include <sys/ioctl.h>

#define IDLUN 0x5382

int main(int count, char **arguments)
{
    unsigned char buffer[64], cdb[6] = { 0x12, 0, 0, 0, 36 }, sense[32];
    sg_io_hdr_t header = { .interface_id = 'S', .dxfer_direction = SG_DXFER_FROM_DEV, .cmd_len = sizeof cdb,
        .mx_sb_len = sizeof sense, .dxfer_len = 36, .dxferp = buffer, .cmdp = cdb, .sbp = sense };
    int fd = open(arguments[count - 1], O_RDONLY);

    ioctl(fd, IDLUN, buffer);
    ioctl(fd, HDIO_GETGEO, buffer);
    ioctl(fd, BLKGETSIZE, buffer);
    ioctl(fd, BLKGETSIZE64, buffer);
    ioctl(fd, 0x80081272, buffer);
    ioctl(fd, BLKBSZGET, buffer);
    ioctl(fd, BLKSSZGET, buffer);
    ioctl(fd, SG_IO, &header);
    return 0;
}
