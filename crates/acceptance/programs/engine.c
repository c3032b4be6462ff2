/* engine: what goes on around an ioctl(2) on a listed device.
 *
 *   engine exchange LISTED OTHER COMMAND TRIES
 *       Sends a command of several steps that writes 0xee, and meanwhile closes the descriptor and opens OTHER, which is empty and
 *       gets its number. COMMAND: bounced, same, unmap, compare, or, ata. Prints in how many of the TRIES OTHER has changed.
 *   engine window LISTED OTHER SECONDS
 *       One thread lets a descriptor lead to LISTED and to OTHER in turn, another writes by WRITE(10), and by fstat(2) and
 *       pwrite(2) where that says LISTED: how many writes in a million came to OTHER, "command N plain N".
 *   engine handlers LISTED COUNT
 *       ORWRITE in handlers of a signal during ORWRITE of the same thread; how many handlers' were GOOD and BUSY.
 *   engine stack LISTED
 *       A line for each request: the bytes of stack that it took, and its name.
 *   engine small-stack LISTED
 *       A request in a handler with the smallest stack that the kernel takes and 4 KiB.
 *   engine file-size LISTED
 *       WRITE(10) behind RLIMIT_FSIZE, where SIGXFSZ kills: its status and sense.
 *   engine append FILE SECONDS
 *       Appends records of 0xaa to a file; prints how many bytes of it are something else in the end.
 *   engine before
 *       As a library (-shared) that is preloaded before ours: two threads ask the device that DEVICE names from its constructor
 *       on; prints at the end what they got.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/hdreg.h>
#include <pthread.h>
#include <scsi/sg.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(3);
}

static int open_or_die(const char *path, int flags)
{
    int fd = open(path, flags, 0644);
    if (fd < 0)
        die(path);
    return fd;
}

static int send(int fd, struct sg_io_hdr *header, const void *cdb, int length, int direction, void *data, unsigned bytes)
{
    static _Thread_local unsigned char sense[64];
    *header = (struct sg_io_hdr){.interface_id = 'S', .dxfer_direction = direction, .cmd_len = length, .cmdp = (void *)cdb,
                                 .dxferp = data, .dxfer_len = bytes, .sbp = sense, .mx_sb_len = sizeof sense, .timeout = 10000};
    return ioctl(fd, SG_IO, header);
}

/* exchange */

#define MIB (1 << 20)

static int target;
static unsigned char *buffer;

static const struct {
    const char *name;
    int flags;
    unsigned bytes;
    unsigned char cdb[16];
} commands[] = {
    {"bounced", O_DIRECT, 4 * MIB, {0x2a, 0, 0, 0, 0, 0, 0, 0x20, 0}},
    {"same", 0, 512, {0x41, 0, 0, 0, 0, 0, 0, 0xff, 0xff}},
    {"unmap", 0, 8 + 256 * 16, {0x42, 0, 0, 0, 0, 0, 0, 0x10, 0x08}},
    {"compare", 0, 2 * 255 * 512, {0x89, [13] = 255}},
    {"or", 0, 4 * MIB, {0x8b, [12] = 0x20}},
    {"ata", O_DIRECT, 4 * MIB, {0x85, 0x0d, 0x06, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x35, 0}},
};

static void *send_command(void *index)
{
    struct sg_io_hdr header;
    int i = (int)(intptr_t)index, length = commands[i].cdb[0] < 0x80 ? 10 : 16;
    send(target, &header, commands[i].cdb, length, SG_DXFER_TO_DEV, buffer + 1, commands[i].bytes);
    return NULL;
}

static int exchange(const char *listed, const char *other, const char *name, int tries)
{
    int i = 0;
    while (strcmp(commands[i].name, name))
        if (++i == sizeof commands / sizeof *commands)
            die(name);
    buffer = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(buffer, 0xee, 8 * MIB);
    if (!strcmp(name, "unmap")) {
        memset(buffer, 0, 8 + 256 * 16 + 1);
        memcpy(buffer + 1, "\x10\x06\x10\x00", 4);
        for (int j = 0; j < 256; j++)
            memcpy(buffer + 1 + 8 + 16 * j, (unsigned char[16]){[6] = j >> 1, [7] = (j & 1) << 7, [11] = 64}, 16);
    }
    if (!strcmp(name, "compare"))
        memset(buffer + 1, 0, 255 * 512);
    int hits = 0;
    for (int try = 0; try < tries; try++) {
        close(open_or_die(other, O_RDWR | O_CREAT | O_TRUNC));
        if (truncate(other, strcmp(name, "unmap") ? 0 : 64 * 1024))
            die(other);
        struct stat before, after;
        stat(other, &before);
        target = open_or_die(listed, O_RDWR | commands[i].flags);
        pthread_t thread;
        if (pthread_create(&thread, NULL, send_command, (void *)(intptr_t)i))
            die("pthread_create");
        usleep(50 + try * 20);
        close(target);
        int fd = open_or_die(other, O_RDWR);
        pthread_join(thread, NULL);
        stat(other, &after);
        close(fd);
        hits += after.st_size != before.st_size || after.st_mtim.tv_nsec != before.st_mtim.tv_nsec;
    }
    printf("%d\n", hits);
    return 0;
}

/* window */

static atomic_int stopped;
static int ends[2];

static void *turn(void *unused)
{
    for (unsigned i = 0; !atomic_load(&stopped); i++)
        syscall(SYS_dup3, ends[i & 1], target, 0);
    return unused;
}

static long hits(int other)
{
    struct stat status;
    fstat(other, &status);
    long count = status.st_size ? 1 : 0;
    if (count && ftruncate(other, 0))
        die("ftruncate");
    return count;
}

static int window(const char *listed, const char *other, int seconds)
{
    ends[0] = open_or_die(other, O_RDWR | O_CREAT | O_TRUNC);
    ends[1] = open_or_die(listed, O_RDWR);
    target = dup(ends[1]);
    struct stat right;
    fstat(ends[1], &right);
    unsigned char data[512], write10[10] = {0x2a, [8] = 1};
    memset(data, 0xee, sizeof data);
    pthread_t thread;
    pthread_create(&thread, NULL, turn, NULL);
    long calls[2] = {0, 0}, wrong[2] = {0, 0};
    for (time_t end = time(NULL) + seconds; time(NULL) < end;) {
        for (int i = 0; i < 500; i++) {
            struct sg_io_hdr header;
            calls[0] += !send(target, &header, write10, 10, SG_DXFER_TO_DEV, data, sizeof data);
            wrong[0] += hits(ends[0]);
        }
        for (int i = 0; i < 500; i++) {
            struct stat now;
            if (fstat(target, &now) || now.st_rdev != right.st_rdev || now.st_ino != right.st_ino)
                continue;
            calls[1] += pwrite(target, data, sizeof data, 0) == sizeof data;
            wrong[1] += hits(ends[0]);
        }
    }
    atomic_store(&stopped, 1);
    pthread_join(thread, NULL);
    printf("command %ld plain %ld\n", wrong[0] * 1000000 / (calls[0] + 1), wrong[1] * 1000000 / (calls[1] + 1));
    return 0;
}

/* handlers */

static volatile sig_atomic_t good, busy, others;

static int or_write(unsigned blocks)
{
    static unsigned char zeros[512 * 1024];
    unsigned char cdb[16] = {0x8b, [12] = blocks >> 8, [13] = blocks};
    struct sg_io_hdr header;
    if (send(target, &header, cdb, 16, SG_DXFER_TO_DEV, zeros, blocks * 512))
        return -1;
    return header.host_status ? 256 : header.status;
}

static void handle(int signal)
{
    (void)signal;
    int status = or_write(1);
    if (status == 0)
        good++;
    else if (status == 8)
        busy++;
    else
        others++;
}

static int handlers(const char *listed, int count)
{
    target = open_or_die(listed, O_RDWR);
    signal(SIGALRM, handle);
    struct itimerval often = {{0, 700}, {0, 700}};
    setitimer(ITIMER_REAL, &often, NULL);
    int failed = 0;
    for (int i = 0; i < count; i++)
        failed += or_write(1000) != 0;
    signal(SIGALRM, SIG_IGN);
    printf("failed %d others %d %s\n", failed, others, good + busy > 0 ? "handled" : "no handler ran");
    return 0;
}

/* stack */

static ucontext_t here, there;
static unsigned char stack[65536] __attribute__((aligned(64)));
static struct {
    unsigned long request;
    int direction, length;
    unsigned char cdb[16];
} asked;

static void ask(void)
{
    static struct sg_io_hdr header;
    if (asked.request == SG_IO)
        send(target, &header, asked.cdb, 16, asked.direction, buffer, asked.length);
    else
        ioctl(target, asked.request, buffer);
}

static void measure(const char *name)
{
    size_t most = 0;
    /* Once for the dynamic linker. */
    for (volatile int i = 0; i < 2; i++) {
        memset(stack, 0x5c, sizeof stack);
        getcontext(&there);
        there.uc_stack.ss_sp = stack;
        there.uc_stack.ss_size = sizeof stack;
        there.uc_link = &here;
        makecontext(&there, ask, 0);
        swapcontext(&here, &there);
        most = 0;
        while (stack[most] == 0x5c)
            most++;
        most = sizeof stack - most;
    }
    printf("%zu %s\n", most, name);
}

static int stacks(const char *listed)
{
    target = open_or_die(listed, O_RDWR);
    buffer = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const struct {
        const char *name;
        int direction, length;
        unsigned char cdb[16];
    } list[] = {
        {"INQUIRY", -3, 96, {0x12, 0, 0, 0, 96}},
        {"INQUIRY 83h", -3, 255, {0x12, 1, 0x83, 0, 255}},
        {"INQUIRY B0h", -3, 96, {0x12, 1, 0xb0, 0, 96}},
        {"INQUIRY 89h", -3, 572, {0x12, 1, 0x89, 2, 0x3c}},
        {"REQUEST SENSE", -3, 252, {0x03, 0, 0, 0, 252}},
        {"READ CAPACITY(16)", -3, 32, {0x9e, 0x10, [13] = 32}},
        {"READ(10)", -3, 4096, {0x28, [8] = 8}},
        {"WRITE(10)", -2, 4096, {0x2a, [8] = 8}},
        {"VERIFY(10)", -2, 4096, {0x2f, 2, [8] = 8}},
        {"WRITE AND VERIFY(10)", -2, 4096, {0x2e, 2, [8] = 8}},
        {"WRITE SAME(10)", -2, 512, {0x41, [8] = 8}},
        {"UNMAP", -2, 24, {0x42, [8] = 24}},
        {"COMPARE AND WRITE", -2, 1024, {0x89, [13] = 1}},
        {"ORWRITE(16)", -2, 512, {0x8b, [13] = 1}},
        {"GET LBA STATUS", -3, 4096, {0x9e, 0x12, [12] = 16}},
        {"MODE SENSE(6)", -3, 255, {0x1a, 0, 0x3f, 0, 255}},
        {"MODE SELECT(6)", -2, 4, {0x15, 0x10, 0, 0, 4}},
        {"LOG SENSE", -3, 255, {0x4d, 0, 0x40, [8] = 255}},
        {"REPORT SUPPORTED OPERATION CODES", -3, 4096, {0xa3, 0x0c, 0x80, [8] = 16}},
        {"REPORT LUNS", -3, 256, {0xa0, [8] = 1}},
        {"SYNCHRONIZE CACHE(10)", -1, 0, {0x35}},
        {"ATA IDENTIFY DEVICE", -3, 512, {0x85, 8, 0x0e, [6] = 1, [14] = 0xec}},
        {"ATA READ LOG EXT", -3, 512, {0x85, 9, 0x0e, [6] = 1, [8] = 0x30, [10] = 1, [14] = 0x2f}},
        {"ATA READ DMA EXT", -3, 4096, {0x85, 0x0d, 0x0e, [6] = 8, [13] = 0x40, [14] = 0x25}},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        asked.request = SG_IO;
        asked.direction = list[i].direction;
        asked.length = list[i].length;
        memcpy(asked.cdb, list[i].cdb, 16);
        memset(buffer, 0, MIB);
        measure(list[i].name);
    }
    static const struct {
        const char *name;
        unsigned long request;
        unsigned char argument[16];
    } requests[] = {
        {"BLKGETSIZE64", 0x80081272, {0}},
        {"HDIO_GETGEO", HDIO_GETGEO, {0}},
        {"HDIO_GET_IDENTITY", HDIO_GET_IDENTITY, {0}},
        {"HDIO_DRIVE_CMD IDENTIFY", HDIO_DRIVE_CMD, {0xec, 0, 0, 1}},
        {"HDIO_DRIVE_TASK", HDIO_DRIVE_TASK, {0xe5}},
        {"HDIO_DRIVE_TASKFILE", HDIO_DRIVE_TASKFILE, {0}},
        {"SCSI_IOCTL_GET_IDLUN", 0x5382, {0}},
        {"SCSI_IOCTL_SEND_COMMAND", 1, {[4] = 96, [8] = 0x12, [12] = 96}},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        asked.request = requests[i].request;
        memset(buffer, 0, MIB);
        memcpy(buffer, requests[i].argument, 16);
        measure(requests[i].name);
    }
    return 0;
}

static void inquire(int signal)
{
    (void)signal;
    static struct sg_io_hdr header;
    static unsigned char data[96];
    unsigned char cdb[6] = {0x12, [4] = 96};
    if (send(target, &header, cdb, 6, SG_DXFER_FROM_DEV, data, sizeof data) || header.status)
        _exit(4);
}

static int small_stack(const char *listed)
{
    target = open_or_die(listed, O_RDWR);
    inquire(0);
    size_t frame = getauxval(51 /* AT_MINSIGSTKSZ */), size = ((frame ? frame : 2048) + 4096 + 512 + 4095) & ~4095ul;
    char *memory = mmap(NULL, size + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mprotect(memory + 4096, size, PROT_READ | PROT_WRITE))
        die("mprotect");
    stack_t alternate = {.ss_sp = memory + 4096, .ss_size = size};
    struct sigaction action = {.sa_handler = inquire, .sa_flags = SA_ONSTACK};
    if (sigaltstack(&alternate, NULL) || sigaction(SIGUSR1, &action, NULL))
        die("sigaltstack");
    raise(SIGUSR1);
    printf("fits\n");
    return 0;
}

static int file_size(const char *listed)
{
    target = open_or_die(listed, O_RDWR);
    struct rlimit limit = {65536, 65536};
    setrlimit(RLIMIT_FSIZE, &limit);
    static unsigned char data[1024];
    /* Within, across and behind the limit. */
    for (unsigned first = 126; first < 130; first += 1) {
        unsigned char cdb[10] = {0x2a, [5] = first, [8] = 2};
        struct sg_io_hdr header;
        if (send(target, &header, cdb, 10, SG_DXFER_TO_DEV, data, sizeof data))
            die("SG_IO");
        printf("%x/%02x%02x ", header.status ? header.sbp[2] & 15 : 0, header.status ? header.sbp[12] : 0,
               header.status ? header.sbp[13] : 0);
    }
    printf("\n");
    return 0;
}

static int append(const char *path, int seconds)
{
    int fd = open_or_die(path, O_WRONLY | O_APPEND);
    unsigned char record[1733], byte;
    memset(record, 0xaa, sizeof record);
    for (time_t end = time(NULL) + seconds; time(NULL) < end;)
        if (write(fd, record, sizeof record) != sizeof record)
            die("write");
    FILE *file = fopen(path, "r");
    long wrong = 0;
    while (fread(&byte, 1, 1, file) == 1)
        wrong += byte != 0xaa;
    printf("%ld\n", wrong);
    return 0;
}

/* before */

static atomic_int begin, answered, forwarded;
static pthread_t threads[2];

static void *ask_early(void *unused)
{
    while (!atomic_load(&begin))
        ;
    while (!atomic_load(&stopped)) {
        unsigned char data[96], cdb[6] = {0x12, [4] = 96};
        struct sg_io_hdr header;
        if (send(target, &header, cdb, 6, SG_DXFER_FROM_DEV, data, sizeof data))
            atomic_fetch_add(&forwarded, 1);
        else
            atomic_fetch_add(&answered, 1);
    }
    return unused;
}

__attribute__((constructor)) static void start(void)
{
    const char *device = getenv("ENGINE_BEFORE");
    if (!device)
        return;
    target = open_or_die(device, O_RDWR);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, ask_early, NULL);
    usleep(1000);
    atomic_store(&begin, 1);
    usleep(3000);
}

__attribute__((destructor)) static void end(void)
{
    if (!threads[0])
        return;
    atomic_store(&stopped, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    fprintf(stderr, "%s, forwarded %d\n", atomic_load(&answered) ? "answered" : "not answered", atomic_load(&forwarded));
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *mode = count > 1 ? arguments[1] : "";
    if (count == 6 && !strcmp(mode, "exchange"))
        return exchange(arguments[2], arguments[3], arguments[4], atoi(arguments[5]));
    if (count == 5 && !strcmp(mode, "window"))
        return window(arguments[2], arguments[3], atoi(arguments[4]));
    if (count == 4 && !strcmp(mode, "handlers"))
        return handlers(arguments[2], atoi(arguments[3]));
    if (count == 3 && !strcmp(mode, "stack"))
        return stacks(arguments[2]);
    if (count == 3 && !strcmp(mode, "small-stack"))
        return small_stack(arguments[2]);
    if (count == 3 && !strcmp(mode, "file-size"))
        return file_size(arguments[2]);
    if (count == 4 && !strcmp(mode, "append"))
        return append(arguments[2], atoi(arguments[3]));
    fprintf(stderr, "engine: see the comment at the top of engine.c\n");
    return 2;
}
