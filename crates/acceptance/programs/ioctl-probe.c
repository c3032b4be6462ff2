/* ioctl-probe DEVICE [r|w][n]: asks a device all that a client that looks for a physical disk may ask.
 *
 * One line a request: name, return value, name of the errno, output in hexadecimal, separated by tabs.
 * The tables of golden/ioctl were printed by this program on real disks, those of golden/ioctl/i386 by the same as an i386 program. 0xee is the poison that output buffers
 * are filled with, so that a table also shows how many bytes a request writes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/pr.h>
#include <scsi/sg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, uint64_t)
#endif

static int fd;
static unsigned char buffer[4096];

static void hex(const void *bytes, int length)
{
    for (int i = 0; i < length; i++)
        printf("%02x", ((const unsigned char *)bytes)[i]);
}

static const char *errname(int result)
{
    return result < 0 ? strerrorname_np(errno) : "-";
}

static void row(const char *name, int result, const void *output, int length)
{
    printf("%s\t%d\t%s\t", name, result, errname(result));
    hex(output, length);
    printf("\n");
}

static int request(unsigned long number, unsigned long argument)
{
    errno = 0;
    return ioctl(fd, number, argument);
}

/* How a request gets its argument, and what of it is printed when it succeeds. */
enum how {
    GET,    /* a poisoned buffer; `number` bytes of it */
    ZEROED, /* a buffer of zeros; `number` bytes of it */
    VALUE,  /* `number` itself; nothing */
    INT,    /* the address of an int with the value `number`; the int */
};

struct simple {
    const char *name;
    enum how how;
    unsigned long request, number;
};

static void simple(const struct simple *rows, size_t count)
{
    for (const struct simple *r = rows; r < rows + count; r++) {
        int value = r->number, result;
        switch (r->how) {
        case GET:
        case ZEROED:
            memset(buffer, r->how == GET ? 0xee : 0, sizeof buffer);
            result = request(r->request, (unsigned long)buffer);
            row(r->name, result, buffer, result >= 0 ? r->number : 0);
            break;
        case VALUE:
            row(r->name, request(r->request, r->number), buffer, 0);
            break;
        case INT:
            result = request(r->request, (unsigned long)&value);
            row(r->name, result, &value, result >= 0 ? sizeof value : 0);
            break;
        }
    }
}

#define SIMPLE(rows) simple(rows, sizeof rows / sizeof *rows)

static const struct simple scsi_address[] = {
    {"SCSI_IOCTL_GET_IDLUN", GET, 0x5382, 8},
    {"SCSI_IOCTL_GET_BUS_NUMBER", GET, 0x5386, 4},
};

static const struct simple scsi_pci[] = {
    {"SCSI_IOCTL_GET_PCI", GET, 0x5387, 20},
};

static const struct simple scsi_sg_and_others[] = {
    {"SCSI_IOCTL_TEST_UNIT_READY", VALUE, 2, 0},
    {"SCSI_IOCTL_BENCHMARK", VALUE, 3, 0},
    {"SCSI_IOCTL_SYNC", VALUE, 4, 0},
    {"SCSI_IOCTL_START_UNIT", VALUE, 5, 0},
    {"SCSI_IOCTL_DOORLOCK", VALUE, 0x5380, 0},
    {"SCSI_IOCTL_DOORUNLOCK", VALUE, 0x5381, 0},
    {"SG_GET_VERSION_NUM", GET, 0x2282, 4},
    {"SG_GET_TIMEOUT", GET, 0x2202, 0},
    {"SG_SET_TIMEOUT", INT, 0x2201, 6000},
    {"SG_GET_TIMEOUT(after set)", GET, 0x2202, 0},
    {"SG_EMULATED_HOST", GET, 0x2203, 4},
    {"SG_GET_TRANSFORM", GET, 0x2205, 4},
    {"SG_SET_TRANSFORM", INT, 0x2204, 0},
    {"SG_GET_RESERVED_SIZE", GET, 0x2272, 4},
    {"SG_SET_RESERVED_SIZE(64k)", INT, 0x2275, 65536},
    {"SG_GET_RESERVED_SIZE(after)", GET, 0x2272, 4},
    {"SG_SET_RESERVED_SIZE(-1)", INT, 0x2275, -1},
    {"SG_SET_RESERVED_SIZE(0x7fffffff)", INT, 0x2275, 0x7fffffff},
    {"SG_GET_RESERVED_SIZE(after2)", GET, 0x2272, 4},
    {"SG_GET_SCSI_ID", GET, 0x2276, 32},
    {"SG_GET_COMMAND_Q", GET, 0x2270, 4},
    {"SG_SET_COMMAND_Q", INT, 0x2271, 1},
    {"SG_GET_SG_TABLESIZE", GET, 0x227f, 4},
    {"SG_GET_LOW_DMA", GET, 0x227a, 4},
    {"SG_SET_FORCE_LOW_DMA", INT, 0x2279, 0},
    {"SG_GET_PACK_ID", GET, 0x227c, 4},
    {"SG_SET_FORCE_PACK_ID", INT, 0x227b, 0},
    {"SG_GET_NUM_WAITING", GET, 0x227d, 4},
    {"SG_SET_DEBUG", INT, 0x227e, 0},
    {"SG_GET_REQUEST_TABLE", GET, 0x2286, 64},
    {"SG_SET_KEEP_ORPHAN", INT, 0x2287, 0},
    {"SG_GET_KEEP_ORPHAN", GET, 0x2288, 4},
    {"SG_GET_ACCESS_COUNT", GET, 0x2289, 4},
    {"SG_NEXT_CMD_LEN", INT, 0x2283, 0},
    {"SG_SCSI_RESET(NOTHING)", INT, 0x2284, 0},
    {"SG_SCSI_RESET(DEVICE|NOESC)", INT, 0x2284, 0x101},
    {"CDROM_GET_CAPABILITY", VALUE, 0x5331, 0},
    {"CDROM_SEND_PACKET", ZEROED, 0x5393, 0},
    {"CDROM_DRIVE_STATUS", VALUE, 0x5326, 0},
    {"CDROMEJECT", VALUE, 0x5309, 0},
    {"FDGETPRM", GET, 0x80200204, 8},
    {"MTIOCGET", GET, 0x80306d02, 8},
};

static const struct simple hdio[] = {
    {"HDIO_GETGEO", GET, 0x301, 16},
    {"HDIO_GETGEO_BIG(0x330)", GET, 0x330, 16},
    {"HDIO_GET_UNMASKINTR", GET, 0x302, 8},
    {"HDIO_GET_MULTCOUNT", GET, 0x304, 8},
    {"HDIO_GET_QDMA", GET, 0x305, 8},
    {"HDIO_GET_KEEPSETTINGS", GET, 0x308, 8},
    {"HDIO_GET_32BIT", GET, 0x309, 8},
    {"HDIO_GET_NOWERR", GET, 0x30a, 8},
    {"HDIO_GET_DMA", GET, 0x30b, 8},
    {"HDIO_GET_NICE", GET, 0x30c, 8},
    {"HDIO_GET_WCACHE", GET, 0x30e, 8},
    {"HDIO_GET_ACOUSTIC", GET, 0x30f, 8},
    {"HDIO_GET_ADDRESS", GET, 0x310, 8},
    {"HDIO_GET_BUSSTATE", GET, 0x31a, 8},
    {"HDIO_SET_32BIT(0)", VALUE, 0x324, 0},
    {"HDIO_SET_32BIT(1)", VALUE, 0x324, 1},
    {"HDIO_SET_MULTCOUNT(0)", VALUE, 0x321, 0},
    {"HDIO_SET_DMA(1)", VALUE, 0x326, 1},
    {"HDIO_SET_UNMASKINTR(1)", VALUE, 0x322, 1},
    {"HDIO_SET_KEEPSETTINGS(1)", VALUE, 0x323, 1},
    {"HDIO_DRIVE_RESET", VALUE, 0x31c, 0},
    {"HDIO_GET_IDENTITY", GET, 0x30d, 512},
    {"HDIO_OBSOLETE_IDENTITY", GET, 0x307, 142},
};

/* Commands by HDIO_DRIVE_CMD (0x31f) and HDIO_DRIVE_TASK (0x31e): what goes in, how much comes out. */
static const struct {
    const char *name;
    unsigned long request;
    unsigned char input[7];
    int success, failure;
} ata[] = {
    {"HDIO_DRIVE_CMD(IDENTIFY)", 0x31f, {0xec, 0, 0, 1}, 516, 4},
    {"HDIO_DRIVE_CMD(PIDENTIFY)", 0x31f, {0xa1, 0, 0, 1}, 516, 4},
    {"HDIO_DRIVE_CMD(CHECKPOWER)", 0x31f, {0xe5}, 4, 4},
    {"HDIO_DRIVE_CMD(FLUSH)", 0x31f, {0xe7}, 4, 4},
    {"HDIO_DRIVE_CMD(SMART READ)", 0x31f, {0xb0, 1, 0xd0, 1}, 516, 4},
    {"HDIO_DRIVE_TASK(SMART STATUS)", 0x31e, {0xb0, 0xda, 0, 0, 0x4f, 0xc2}, 7, 7},
    {"HDIO_DRIVE_CMD(0xff)", 0x31f, {0xff}, 4, 4},
};

static const struct simple hdio_task[] = {
    {"HDIO_DRIVE_CMD(NULL)", VALUE, 0x31f, 0},
    {"HDIO_DRIVE_TASK(NULL)", VALUE, 0x31e, 0},
    {"HDIO_DRIVE_TASKFILE", ZEROED, 0x31d, 16},
};

static const struct simple block[] = {
    {"BLKROGET", GET, BLKROGET, 4},
    {"BLKGETSIZE", GET, BLKGETSIZE, 8},
    {"BLKGETSIZE64", GET, BLKGETSIZE64, 8},
    {"BLKSSZGET", GET, BLKSSZGET, 4},
    {"BLKBSZGET", GET, BLKBSZGET, 4},
    {"BLKPBSZGET", GET, BLKPBSZGET, 4},
    {"BLKIOMIN", GET, BLKIOMIN, 4},
    {"BLKIOOPT", GET, BLKIOOPT, 4},
    {"BLKALIGNOFF", GET, BLKALIGNOFF, 4},
    {"BLKDISCARDZEROES", GET, BLKDISCARDZEROES, 4},
    {"BLKROTATIONAL", GET, BLKROTATIONAL, 2},
    {"BLKSECTGET", GET, BLKSECTGET, 4},
    {"BLKRAGET", GET, BLKRAGET, 8},
    {"BLKFRAGET", GET, BLKFRAGET, 8},
    {"BLKRAGET(NULL)", VALUE, BLKRAGET, 0},
    {"BLKGETZONESZ", GET, 0x80041284, 4},
    {"BLKGETNRZONES", GET, 0x80041285, 4},
    {"BLKGETDISKSEQ", GET, BLKGETDISKSEQ, 8},
    {"BLKFLSBUF", VALUE, BLKFLSBUF, 0},
    {"BLKRRPART", VALUE, BLKRRPART, 0},
    {"BLKTRACESTOP", ZEROED, _IO(0x12, 117), 0},
    {"BLKELVGET(0x126a)", GET, 0x126a, 4},
};

#ifdef __i386__
/* Numbers that only 64-bit programs know. */
static const struct simple foreign[] = {
    {"BLKBSZGET(64-bit)", GET, 0x80081270, 8},
    {"BLKGETSIZE64(64-bit)", GET, 0x80081272, 8},
};
#endif

static const struct simple others[] = {
    {"TCGETS(0x5401)", VALUE, 0x5401, (unsigned long)buffer},
    {"unknown(0xdeadbeef)", GET, 0xdeadbeef, 0},
    {"LOOP_GET_STATUS64(0x4c05)", VALUE, 0x4c05, (unsigned long)buffer},
    {"NVME_IOCTL_ID(0x4e40)", VALUE, 0x4e40, 0},
};

/* SCSI commands by SG_IO: the CDB, the length of the data buffer, how much of the data is printed. */
static const struct command {
    const char *name;
    unsigned char cdb[16];
    int cdb_length, direction, length, shown;
} commands[] = {
    {"INQUIRY", {0x12, 0, 0, 0, 0x60, 0}, 6, SG_DXFER_FROM_DEV, 96, 96},
    {"INQUIRY VPD00", {0x12, 0x01, 0, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"INQUIRY VPD80", {0x12, 0x01, 0x80, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"INQUIRY VPD83", {0x12, 0x01, 0x83, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"INQUIRY VPD89", {0x12, 0x01, 0x89, 0x02, 0x3c, 0}, 6, SG_DXFER_FROM_DEV, 572, 572},
    {"INQUIRY VPDb0", {0x12, 0x01, 0xb0, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"INQUIRY VPDb1", {0x12, 0x01, 0xb1, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"INQUIRY VPDb2", {0x12, 0x01, 0xb2, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"INQUIRY short(5)", {0x12, 0, 0, 0, 0x05, 0}, 6, SG_DXFER_FROM_DEV, 5, 5},
    {"INQUIRY alloc>len", {0x12, 0, 0, 0, 0x60, 0}, 6, SG_DXFER_FROM_DEV, 36, 96},
    {"INQUIRY len>alloc", {0x12, 0, 0, 0, 0x24, 0}, 6, SG_DXFER_FROM_DEV, 512, 512},
    {"INQUIRY bad page", {0x12, 0x01, 0xfe, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"INQUIRY evpd0 page1", {0x12, 0, 0x80, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"TUR", {0, 0, 0, 0, 0, 0}, 6, SG_DXFER_NONE, 0, 0},
    {"TUR dir=0", {0, 0, 0, 0, 0, 0}, 6, 0, 0, 0},
    {"REQUEST SENSE", {0x03, 0, 0, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"REQUEST SENSE desc", {0x03, 0x01, 0, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"READ CAPACITY10", {0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 10, SG_DXFER_FROM_DEV, 8, 8},
    {"READ CAPACITY16", {0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0}, 16, SG_DXFER_FROM_DEV, 32, 32},
    {"REPORT LUNS", {0xa0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0, 0}, 12, SG_DXFER_FROM_DEV, 256, 256},
    {"MODE SENSE6 3f", {0x1a, 0, 0x3f, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"MODE SENSE6 3f/ff", {0x1a, 0, 0x3f, 0xff, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"MODE SENSE10 3f", {0x5a, 0, 0x3f, 0, 0, 0, 0, 0x04, 0, 0}, 10, SG_DXFER_FROM_DEV, 1024, 1024},
    {"MODE SENSE10 08 changeable", {0x5a, 0, 0x48, 0, 0, 0, 0, 0x04, 0, 0}, 10, SG_DXFER_FROM_DEV, 1024, 1024},
    {"MODE SENSE10 3f default", {0x5a, 0, 0xbf, 0, 0, 0, 0, 0x04, 0, 0}, 10, SG_DXFER_FROM_DEV, 1024, 1024},
    {"MODE SENSE10 3f saved", {0x5a, 0, 0xff, 0, 0, 0, 0, 0x04, 0, 0}, 10, SG_DXFER_FROM_DEV, 1024, 1024},
    {"MODE SENSE6 bad", {0x1a, 0, 0x2e, 0, 0xfc, 0}, 6, SG_DXFER_FROM_DEV, 252, 252},
    {"LOG SENSE 0", {0x4d, 0, 0x40, 0, 0, 0, 0, 0x01, 0, 0}, 10, SG_DXFER_FROM_DEV, 256, 256},
    {"REPORT SUPPORTED OPCODES", {0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0}, 12, SG_DXFER_FROM_DEV, 8192, 8192},
    {"REPORT SUPPORTED TMF", {0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0}, 12, SG_DXFER_FROM_DEV, 16, 16},
    {"READ6 lba0 x1", {0x08, 0, 0, 0, 0x01, 0}, 6, SG_DXFER_FROM_DEV, 512, 16},
    {"READ10 lba0 x1", {0x28, 0, 0, 0, 0, 0, 0, 0, 0x01, 0}, 10, SG_DXFER_FROM_DEV, 512, 16},
    {"READ10 short buffer", {0x28, 0, 0, 0, 0, 0, 0, 0, 0x08, 0}, 10, SG_DXFER_FROM_DEV, 512, 16},
    {"READ10 long buffer", {0x28, 0, 0, 0, 0, 0, 0, 0, 0x01, 0}, 10, SG_DXFER_FROM_DEV, 4096, 16},
    {"READ10 lba ffffffff", {0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0}, 10, SG_DXFER_FROM_DEV, 512, 16},
    {"READ16 lba big", {0x88, 0, 0, 0, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0}, 16, SG_DXFER_FROM_DEV, 512, 16},
    {"READ16 lba0 x1", {0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0}, 16, SG_DXFER_FROM_DEV, 512, 16},
    {"READ12 lba0 x1", {0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0}, 12, SG_DXFER_FROM_DEV, 512, 16},
    {"WRITE10 lba65536 x1", {0x2a, 0, 0, 0x01, 0, 0, 0, 0, 0x01, 0}, 10, SG_DXFER_TO_DEV, 512, 0},
    {"SYNC CACHE10", {0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 10, SG_DXFER_NONE, 0, 0},
    {"SYNC CACHE16", {0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 16, SG_DXFER_NONE, 0, 0},
    {"VERIFY10", {0x2f, 0, 0, 0, 0, 0, 0, 0, 0x01, 0}, 10, SG_DXFER_NONE, 0, 0},
    {"START STOP start", {0x1b, 0, 0, 0, 0x01, 0}, 6, SG_DXFER_NONE, 0, 0},
    {"PREVENT ALLOW", {0x1e, 0, 0, 0, 0, 0}, 6, SG_DXFER_NONE, 0, 0},
    {"RESERVE6", {0x16, 0, 0, 0, 0, 0}, 6, SG_DXFER_NONE, 0, 0},
    {"RELEASE6", {0x17, 0, 0, 0, 0, 0}, 6, SG_DXFER_NONE, 0, 0},
    {"PR IN read keys", {0x5e, 0, 0, 0, 0, 0, 0, 0x01, 0, 0}, 10, SG_DXFER_FROM_DEV, 256, 256},
    {"PR IN caps", {0x5e, 0x02, 0, 0, 0, 0, 0, 0x01, 0, 0}, 10, SG_DXFER_FROM_DEV, 256, 256},
    {"UNMAP", {0x42, 0, 0, 0, 0, 0, 0, 0, 0x18, 0}, 10, SG_DXFER_TO_DEV, 24, 0},
    {"WRITE SAME16 unmap", {0x93, 0x08, 0, 0, 0, 0, 0, 0x01, 0, 0, 0, 0, 0, 0x08, 0, 0}, 16, SG_DXFER_TO_DEV, 512, 0},
    {"GET LBA STATUS", {0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0}, 16, SG_DXFER_FROM_DEV, 64, 64},
    {"ATA PT16 IDENTIFY", {0x85, 0x08, 0x0e, 0, 0, 0, 0x01, 0, 0, 0, 0, 0, 0, 0x40, 0xec, 0}, 16, SG_DXFER_FROM_DEV, 512, 512},
    {"ATA PT12 IDENTIFY", {0xa1, 0x08, 0x0e, 0, 0x01, 0, 0, 0, 0x40, 0xec, 0, 0}, 12, SG_DXFER_FROM_DEV, 512, 512},
    {"ATA PT16 CHECKPOWER ck_cond", {0x85, 0x06, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0xe5, 0}, 16, SG_DXFER_NONE, 0, 0},
    {"ATA PT16 SMART STATUS ck_cond", {0x85, 0x06, 0x20, 0, 0xda, 0, 0, 0, 0, 0, 0x4f, 0, 0xc2, 0x40, 0xb0, 0}, 16, SG_DXFER_NONE, 0, 0},
    {"ATA PT16 bad cmd", {0x85, 0x06, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0xff, 0}, 16, SG_DXFER_NONE, 0, 0},
    {"READ BUFFER desc", {0x3c, 0x03, 0, 0, 0, 0, 0, 0, 0x04, 0}, 10, SG_DXFER_FROM_DEV, 4, 4},
    {"READ DEFECT10", {0x37, 0, 0x18, 0, 0, 0, 0, 0, 0x04, 0}, 10, SG_DXFER_FROM_DEV, 4, 4},
    {"RECV DIAG", {0x1c, 0x01, 0, 0x01, 0, 0}, 6, SG_DXFER_FROM_DEV, 256, 64},
    {"SEND DIAG self", {0x1d, 0x04, 0, 0, 0, 0}, 6, SG_DXFER_NONE, 0, 0},
    {"FORMAT UNIT?bad opcode c0", {0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 10, SG_DXFER_NONE, 0, 0},
    {"opcode ff", {0xff, 0, 0, 0, 0, 0}, 6, SG_DXFER_NONE, 0, 0},
    {"XDWRITEREAD(53)", {0x53, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 10, SG_DXFER_NONE, 0, 0},
};

static void command(const struct command *c)
{
    static unsigned char data[65536], sense[64];
    struct sg_io_hdr h = {
        .interface_id = 'S',
        .cmd_len = c->cdb_length,
        .cmdp = (unsigned char *)c->cdb,
        .dxfer_direction = c->direction,
        .dxfer_len = c->length,
        .dxferp = c->length ? data : NULL,
        .sbp = sense,
        .mx_sb_len = 32,
        .timeout = 20000,
    };
    memset(data, 0, sizeof data);
    memset(sense, 0, sizeof sense);
    int result = request(SG_IO, (unsigned long)&h);
    printf("SG_IO:%s\t%d\t%s\tstatus=%02x masked=%02x msg=%02x host=%02x driver=%02x sb_len_wr=%d resid=%d info=%x sense=",
           c->name, result, errname(result), h.status, h.masked_status, h.msg_status, h.host_status, h.driver_status,
           h.sb_len_wr, h.resid, h.info);
    hex(sense, h.sb_len_wr);
    printf(" data=");
    int arrived = c->length - h.resid;
    if (result >= 0 && c->direction == SG_DXFER_FROM_DEV)
        hex(data, arrived < c->shown ? arrived : c->shown);
    printf("\n");
}

/* SG_IO with headers that no sane client sends. */
static void sg_io_headers(void)
{
    static unsigned char inquiry[] = {0x12, 0, 0, 0, 36, 0}, bad_page[] = {0x12, 1, 0xfe, 0, 36, 0};
    const struct sg_io_hdr good = {
        .interface_id = 'S',
        .cmd_len = 6,
        .cmdp = inquiry,
        .dxfer_len = 36,
        .dxferp = buffer,
        .dxfer_direction = SG_DXFER_FROM_DEV,
    };
    struct sg_io_hdr h = {.interface_id = 'Q'};
    row("SG_IO iface Q", request(SG_IO, (unsigned long)&h), buffer, 0);
    h = (struct sg_io_hdr){.interface_id = 'S'};
    row("SG_IO cmd_len 0 cmdp NULL", request(SG_IO, (unsigned long)&h), buffer, 0);
    h = (struct sg_io_hdr){.interface_id = 'S', .cmd_len = 6};
    row("SG_IO cmdp NULL", request(SG_IO, (unsigned long)&h), buffer, 0);
    h = good;
    h.dxferp = NULL;
    row("SG_IO dxferp NULL", request(SG_IO, (unsigned long)&h), buffer, 0);
    h = good;
    h.dxferp = (void *)8;
    row("SG_IO dxferp bad", request(SG_IO, (unsigned long)&h), buffer, 0);
    h = good;
    h.dxfer_direction = 0;
    row("SG_IO dir 0 with len", request(SG_IO, (unsigned long)&h), buffer, 0);
    h = good;
    h.dxfer_direction = SG_DXFER_TO_FROM_DEV;
    row("SG_IO dir TO_FROM", request(SG_IO, (unsigned long)&h), buffer, 36);
    h = good;
    h.dxfer_len = 1 << 30;
    row("SG_IO dxfer_len 1G", request(SG_IO, (unsigned long)&h), buffer, 0);
    h = (struct sg_io_hdr){.interface_id = 'S', .cmd_len = 200, .cmdp = buffer};
    row("SG_IO cmd_len 200", request(SG_IO, (unsigned long)&h), buffer, 0);

    h = good;
    h.cmdp = bad_page;
    int result = request(SG_IO, (unsigned long)&h);
    printf("SG_IO no sense buffer\t%d\t%s\tstatus=%02x driver=%02x sb_len_wr=%d info=%x\n", result, errname(result),
           h.status, h.driver_status, h.sb_len_wr, h.info);
    unsigned char sense[8];
    memset(sense, 0xee, sizeof sense);
    h = good;
    h.cmdp = bad_page;
    h.sbp = sense;
    h.mx_sb_len = 4;
    result = request(SG_IO, (unsigned long)&h);
    printf("SG_IO sense buffer 4\t%d\t%s\tstatus=%02x driver=%02x sb_len_wr=%d sense=", result, errname(result), h.status,
           h.driver_status, h.sb_len_wr);
    hex(sense, sizeof sense);
    printf("\n");

    sg_iovec_t pieces[] = {{buffer, 20}, {buffer + 100, 16}};
    memset(buffer, 0xee, 200);
    h = good;
    h.dxferp = pieces;
    h.iovec_count = 2;
    row("SG_IO iovec 2", request(SG_IO, (unsigned long)&h), buffer, 120);
    memset(buffer, 0xee, 64);
    h = good;
    h.flags = SG_FLAG_NO_DXFER;
    row("SG_IO flag NO_DXFER", request(SG_IO, (unsigned long)&h), buffer, 36);
    h = good;
    h.flags = SG_FLAG_DIRECT_IO;
    result = request(SG_IO, (unsigned long)&h);
    printf("SG_IO flag DIRECT_IO\t%d\t%s\tinfo=%x\n", result, errname(result), h.info);
    row("SG_IO(NULL)", request(SG_IO, 0), buffer, 0);

    /* struct sg_io_v4 of linux/bsg.h, whose header clashes with scsi/sg.h. */
    struct {
        int32_t guard;
        uint32_t protocol, subprotocol, request_len;
        uint64_t request, request_tag;
        uint32_t request_attr, request_priority, request_extra, max_response_len;
        uint64_t response;
        uint32_t dout_iovec_count, dout_xfer_len, din_iovec_count, din_xfer_len;
        uint64_t dout_xferp, din_xferp;
        uint32_t timeout, flags;
        uint64_t usr_ptr;
        uint32_t spare_in[18];
    } v4 = {
        .guard = 'Q',
        .request_len = 6,
        .request = (uintptr_t)inquiry,
        .din_xfer_len = 36,
        .din_xferp = (uintptr_t)buffer,
    };
    result = request(SG_IO, (unsigned long)&v4);
    row("SG_IO v4(bsg) INQUIRY", result, buffer, result >= 0 ? 36 : 0);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[2] : "w";
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: ioctl-probe DEVICE [r|w][n]\n");
        return 2;
    }
    fd = open(argv[1], (mode[0] == 'r' ? O_RDONLY : O_RDWR) | (strchr(mode, 'n') ? O_NONBLOCK : 0));
    if (fd < 0) {
        printf("open\t-1\t%s\t\n", strerrorname_np(errno));
        return 1;
    }
    printf("open\t0\t-\t%s\n", argv[1]);

    SIMPLE(scsi_address);
    memset(buffer, 0, sizeof buffer);
    *(int *)buffer = 64;
    int result = request(0x5385, (unsigned long)buffer);
    row("SCSI_IOCTL_PROBE_HOST(64)", result, buffer, result >= 0 ? 64 : 0);
    SIMPLE(scsi_pci);
    /* struct scsi_ioctl_command: lengths of input and output, then the CDB, where the data comes back. */
    memset(buffer, 0, sizeof buffer);
    ((unsigned *)buffer)[1] = 36;
    memcpy(buffer + 8, "\x12\0\0\0\x24", 6);
    result = request(1, (unsigned long)buffer);
    row("SCSI_IOCTL_SEND_COMMAND(INQUIRY)", result, buffer + 8, result == 0 ? 36 : 18);
    SIMPLE(scsi_sg_and_others);

    SIMPLE(hdio);
    for (size_t i = 0; i < sizeof ata / sizeof *ata; i++) {
        memset(buffer, 0, sizeof buffer);
        memcpy(buffer, ata[i].input, sizeof ata[i].input);
        result = request(ata[i].request, (unsigned long)buffer);
        row(ata[i].name, result, buffer, result >= 0 ? ata[i].success : ata[i].failure);
    }
    SIMPLE(hdio_task);

    SIMPLE(block);
#ifdef __i386__
    SIMPLE(foreign);
#endif
    uint64_t range[] = {32 << 20, 4096};
    row("BLKDISCARD(0,4096)", request(BLKDISCARD, (unsigned long)range), buffer, 0);
    row("BLKSECDISCARD", request(BLKSECDISCARD, (unsigned long)range), buffer, 0);
    row("BLKZEROOUT", request(BLKZEROOUT, (unsigned long)range), buffer, 0);
    memset(buffer, 0, sizeof buffer);
    row("BLKPG(0)", request(BLKPG, (unsigned long)buffer), buffer, 0);

    struct pr_registration one = {.new_key = 0x1234}, none = {.old_key = 0x1234};
    row("IOC_PR_REGISTER", request(IOC_PR_REGISTER, (unsigned long)&one), buffer, 0);
    row("IOC_PR_REGISTER(un)", request(IOC_PR_REGISTER, (unsigned long)&none), buffer, 0);
    struct pr_clear clear = {.key = 0x1234};
    row("IOC_PR_CLEAR", request(IOC_PR_CLEAR, (unsigned long)&clear), buffer, 0);
    SIMPLE(others);

    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        command(&commands[i]);
    sg_io_headers();
    /* The one setting that a real disk would remember. */
    int timeout = 0;
    request(0x2201, (unsigned long)&timeout);
    return 0;
}
