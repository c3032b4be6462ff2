/* What a 32-bit program gets: compiled for i386 without a C library.
 *
 *   i386 PATH    prints what some requests return, and the bytes that they fill
 */
typedef unsigned char byte;
typedef unsigned int word;

static int call(int number, int first, int second, int third)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third) : "memory");
    return result;
}

static void text(const char *text)
{
    int length = 0;
    while (text[length])
        length++;
    call(4, 1, (int)text, length);
}

static void number(int value)
{
    char digits[12], *at = digits + 11;
    word rest = value < 0 ? -(word)value : (word)value;
    *at = 0;
    do
        *--at = '0' + rest % 10;
    while (rest /= 10);
    if (value < 0)
        *--at = '-';
    text(at);
}

static void bytes(const byte *from, int count)
{
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < count; i++) {
        char two[4] = { ' ', hex[from[i] >> 4], hex[from[i] & 15], 0 };
        text(two);
    }
}

/* sg_io_hdr and iovec as i386 has them. */
struct header {
    int interface_id, direction;
    byte cmd_len, mx_sb_len;
    unsigned short iovec_count;
    word dxfer_len, dxferp, cmdp, sbp, timeout, flags;
    int pack_id;
    word usr_ptr;
    byte status, masked_status, msg_status, sb_len_wr;
    unsigned short host_status, driver_status;
    int resid;
    word duration, info;
    byte behind[4];
};

struct piece {
    word base, length;
};

static void ask(int fd, const char *name, word request, int count)
{
    byte memory[32];
    for (int i = 0; i < 32; i++)
        memory[i] = 0xee;
    int result = call(54, fd, (int)request, (int)memory);
    text(name);
    text(" ");
    number(result);
    bytes(memory, count);
    text("\n");
}

static void sg_io(int fd)
{
    static byte inquiry[36], cdb[6] = { 0x12, 0, 0, 0, 36, 0 }, sense[32];
    static struct piece pieces[2];
    static struct header header;
    pieces[0].base = (word)inquiry;
    pieces[0].length = 8;
    pieces[1].base = (word)(inquiry + 8);
    pieces[1].length = 28;
    header.interface_id = 'S';
    header.direction = -3;
    header.cmd_len = 6;
    header.mx_sb_len = 32;
    header.iovec_count = 2;
    header.dxfer_len = 36;
    header.dxferp = (word)pieces;
    header.cmdp = (word)cdb;
    header.sbp = (word)sense;
    header.behind[0] = 0xee;
    int result = call(54, fd, 0x2285, (int)&header);
    text("SG_IO ");
    number(result);
    bytes(inquiry, 8);
    text(" resid ");
    number(header.resid);
    text(" status ");
    number(header.status);
    bytes(header.behind, 4);
    text("\n");
}

__attribute__((used)) static void run(char **stack)
{
    int fd = call(5, (int)stack[2], 2, 0);
    ask(fd, "SCSI_IOCTL_GET_IDLUN", 0x5382, 12);
    ask(fd, "HDIO_GETGEO", 0x0301, 12);
    ask(fd, "BLKGETSIZE", 0x1260, 8);
    ask(fd, "BLKGETSIZE64", 0x80041272, 12);
    ask(fd, "BLKGETSIZE64 of 64 bits", 0x80081272, 4);
    ask(fd, "BLKBSZGET", 0x80041270, 8);
    ask(fd, "BLKSSZGET", 0x1268, 8);
    sg_io(fd);
    call(1, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov %esp, %eax\npush %eax\ncall run\n");
