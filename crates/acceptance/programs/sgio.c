/* sgio: sends SCSI commands by SG_IO.
 *
 * Without arguments it does what a line of its standard input says, answers with one line, and so on to the end. ANSWER is
 * the errno's name, or the outcome of the command ("good", sense data as KEY/ASC/ASCQ, "status-NN", "host-NN"), the residual
 * count, and the data that was read. Data is hexadecimal. PATTERN is a byte that is repeated.
 *
 *   open FLAGS PATH           FLAGS: r w (both: rw), a (append), d (O_DIRECT); the descriptor, or the errno's name
 *   swap FD FLAGS PATH        opens a file in the place of another by system calls, not by the C library; FLAGS as above, or p:
 *                             O_PATH. The descriptor
 *   none FD CDB               ANSWER
 *   in FD CDB BYTES           ANSWER
 *   out FD CDB BYTES PATTERN  ANSWER
 *   list FD CDB BYTES PATTERN ANSWER; out from a list of pieces of odd lengths
 *   give FD CDB DATA          ANSWER
 *   read FD OFFSET BYTES      data by pread(2), or the errno's name
 *   write FD OFFSET BYTES PATTERN  the result of pwrite(2), or the errno's name
 *   lock FD HOW TYPE START LENGTH  locks bytes; HOW: posix, ofd, flock (all of the file); TYPE: read, write; "good" or the errno's name
 *   held PATH HOW             the lock that another process would meet: TYPE START LENGTH, or "none"
 *   ioctl FD REQUEST          the result of a request whose argument is a zeroed buffer
 *   pass FD REQUEST DATA      the number that a request returns whose argument is this data, or the errno's name
 *   timeout MILLISECONDS      what SG_IO is given from now on; the value
 *   later LINE                does the line in a thread; its number
 *   done NUMBER               whether the thread is done: yes or no
 *   join NUMBER               the thread's answer
 *
 *   sgio increment BLOCK TIMES THREADS [forks] PATH...
 *       Each thread adds 1 to a number of 64 bits in a block, by READ(10) and COMPARE AND WRITE, and again after a
 *       miscompare. Threads take the paths in turn; with "forks", children are born meanwhile and live to the end.
 *   sgio number FIRST COUNT [WAY PATH]...
 *       A thread for each pair writes numbered blocks: the number n fills the bytes from 4096 * n on. The threads take
 *       FIRST and the COUNT - 1 numbers behind it in turn. A line says "acknowledged N" when the WAY promises that
 *       the number is on the medium, "failed N ANSWER" when it could not be written, which ends the thread, and
 *       "end" that all have ended. Logical blocks of 512 bytes. WAY: `ways`, below.
 *   sgio hostile SEED PATH
 *       Bad pointers, odd lengths and random requests.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <scsi/sg.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static void die(const char *what)
{
    perror(what);
    exit(3);
}

static void *map(size_t length)
{
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    return memory;
}

static size_t from_hex(const char *text, unsigned char *bytes, size_t most)
{
    size_t count = 0;
    for (; count < most && text[2 * count]; count++)
        sscanf(text + 2 * count, "%2hhx", &bytes[count]);
    return count;
}

/* Where the thread's answers go. */
static _Thread_local FILE *out;

static void print_hex(const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%02x", bytes[i]);
}

/* `timeout` */
static atomic_uint timeout = 10000;

/* Sends a command. */
static int command(int fd, struct sg_io_hdr *header, int direction, void *data, unsigned length)
{
    header->interface_id = 'S';
    header->dxfer_direction = direction;
    header->dxferp = data;
    header->dxfer_len = length;
    header->timeout = timeout;
    return ioctl(fd, SG_IO, header);
}

static void print_outcome(int result, const struct sg_io_hdr *header)
{
    const unsigned char *sense = header->sbp;
    if (result < 0) {
        fprintf(out, "%s", strerrorname_np(errno));
        return;
    }
    if (header->host_status)
        fprintf(out, "host-%02x", header->host_status);
    else if (header->status == 2 && (sense[0] & 0x7f) < 0x72)
        fprintf(out, "%x/%02x/%02x", sense[2] & 15, sense[12], sense[13]);
    else if (header->status == 2)
        fprintf(out, "descriptor:%x/%02x/%02x", sense[1] & 15, sense[2], sense[3]);
    else if (header->status)
        fprintf(out, "status-%02x", header->status);
    else
        fprintf(out, "good");
    fprintf(out, " %d", header->resid);
}

/* Pieces of 0, 1, 2... bytes, and the rest. */
static unsigned pieces_of(char *data, size_t length, struct iovec *pieces, unsigned most)
{
    unsigned count = 0;
    for (; length > 0; count++) {
        size_t piece = count + 1 == most || length <= count ? length : count;
        pieces[count] = (struct iovec){data, piece};
        data += piece;
        length -= piece;
    }
    return count;
}

static void act(char *line);

/* Lines that threads do. */
static struct later {
    pthread_t thread;
    char *line, *answer;
    atomic_int is_done;
} laters[16];

static void *do_later(void *argument)
{
    struct later *later = argument;
    size_t length;
    out = open_memstream(&later->answer, &length);
    act(later->line);
    fclose(out);
    atomic_store(&later->is_done, 1);
    return NULL;
}

static int set_lock(int fd, char **words)
{
    int writes = !strcmp(words[3], "write");
    if (!strcmp(words[2], "flock"))
        return flock(fd, (writes ? LOCK_EX : LOCK_SH) | LOCK_NB);
    struct flock lock = {.l_type = writes ? F_WRLCK : F_RDLCK,
                         .l_start = strtoull(words[4], NULL, 0),
                         .l_len = strtoull(words[5], NULL, 0)};
    return fcntl(fd, !strcmp(words[2], "ofd") ? F_OFD_SETLK : F_SETLK, &lock);
}

/* In a process of its own: to close the file drops locks. */
static void held(const char *path, const char *how)
{
    int answer[2];
    if (pipe(answer))
        die("pipe");
    pid_t child = fork();
    if (child == 0) {
        int fd = open(path, O_RDWR);
        struct flock lock = {.l_type = F_WRLCK};
        if (!strcmp(how, "flock"))
            dprintf(answer[1], "%s", flock(fd, LOCK_EX | LOCK_NB) ? "write 0 0" : "none");
        else if (fd < 0 || fcntl(fd, F_GETLK, &lock))
            dprintf(answer[1], "%s", strerrorname_np(errno));
        else if (lock.l_type == F_UNLCK)
            dprintf(answer[1], "none");
        else
            dprintf(answer[1], "%s %lld %lld", lock.l_type == F_WRLCK ? "write" : "read", (long long)lock.l_start,
                    (long long)lock.l_len);
        _exit(0);
    }
    close(answer[1]);
    char text[64] = "";
    for (size_t done = 0; done < sizeof text - 1;) {
        ssize_t more = read(answer[0], text + done, sizeof text - 1 - done);
        if (more <= 0)
            break;
        done += more;
    }
    close(answer[0]);
    waitpid(child, NULL, 0);
    fprintf(out, "%s\n", text);
}

static int open_flags(const char *letters)
{
    int flags = strchr(letters, 'w') ? O_RDWR : O_RDONLY;
    flags |= strchr(letters, 'a') ? O_APPEND : 0;
    flags |= strchr(letters, 'd') ? O_DIRECT : 0;
    return strchr(letters, 'p') ? O_PATH : flags;
}

static void act(char *line)
{
    static unsigned started;
    if (!strncmp(line, "later ", 6)) {
        struct later *later = &laters[started % 16];
        *later = (struct later){.line = strdup(line + 6)};
        if (pthread_create(&later->thread, NULL, do_later, later))
            die("pthread_create");
        fprintf(out, "%u\n", started++ % 16);
        return;
    }
    char *words[6] = {"", "", "", "", "", ""};
    for (int i = 0; i < 6 && (words[i] = strsep(&line, " ")); i++)
        ;
    char *verb = words[0];
    if (!strcmp(verb, "swap")) {
        int fd = atoi(words[1]);
        syscall(SYS_close, fd);
        fprintf(out, "%ld\n", syscall(SYS_openat, AT_FDCWD, words[3], open_flags(words[2])));
        return;
    }
    if (!strcmp(verb, "open")) {
        int fd = open(words[2], open_flags(words[1]));
        if (fd < 0)
            fprintf(out, "%s\n", strerrorname_np(errno));
        else
            fprintf(out, "%d\n", fd);
        return;
    }
    if (!strcmp(verb, "held")) {
        held(words[1], words[2]);
        return;
    }
    int fd = atoi(words[1]);
    if (!strcmp(verb, "lock")) {
        int result = set_lock(fd, words);
        fprintf(out, "%s\n", result ? strerrorname_np(errno) : "good");
        return;
    }
    if (!strcmp(verb, "ioctl")) {
        void *argument = map(65536);
        int result = ioctl(fd, strtoul(words[2], NULL, 0), argument);
        fprintf(out, "%s\n", result < 0 ? strerrorname_np(errno) : "good");
        munmap(argument, 65536);
        return;
    }
    if (!strcmp(verb, "pass")) {
        unsigned char *argument = map(65536);
        from_hex(words[3], argument, 65536);
        int result = ioctl(fd, strtoul(words[2], NULL, 0), argument);
        if (result < 0)
            fprintf(out, "%s\n", strerrorname_np(errno));
        else
            fprintf(out, "%d\n", result);
        munmap(argument, 65536);
        return;
    }
    if (!strcmp(verb, "timeout")) {
        atomic_store(&timeout, strtoul(words[1], NULL, 0));
        fprintf(out, "%u\n", timeout);
        return;
    }
    if (!strcmp(verb, "done")) {
        fprintf(out, "%s\n", atomic_load(&laters[fd].is_done) ? "yes" : "no");
        return;
    }
    if (!strcmp(verb, "join")) {
        struct later *later = &laters[fd];
        pthread_join(later->thread, NULL);
        fprintf(out, "%s", later->answer);
        free(later->answer);
        free(later->line);
        return;
    }
    if (!strcmp(verb, "read") || !strcmp(verb, "write")) {
        size_t length = strtoul(words[3], NULL, 0);
        unsigned char *data = map(length);
        off_t offset = strtoull(words[2], NULL, 0);
        int reads = !strcmp(verb, "read");
        if (!reads)
            memset(data, strtoul(words[4], NULL, 16), length);
        ssize_t moved = reads ? pread(fd, data, length, offset) : pwrite(fd, data, length, offset);
        if (moved < 0)
            fprintf(out, "%s", strerrorname_np(errno));
        else if (reads)
            print_hex(data, moved);
        else
            fprintf(out, "%zd", moved);
        fprintf(out, "\n");
        munmap(data, length);
        return;
    }
    unsigned char cdb[64], sense[64] = {0};
    struct sg_io_hdr header = {.cmdp = cdb, .sbp = sense, .mx_sb_len = sizeof sense};
    header.cmd_len = from_hex(words[2], cdb, sizeof cdb);
    int gives = !strcmp(verb, "give");
    size_t length = gives ? strlen(words[3]) / 2 : strtoul(words[3] ? words[3] : "0", NULL, 0), room = length + 65536;
    unsigned char *data = map(room);
    struct iovec pieces[256];
    int result;
    if (!strcmp(verb, "none")) {
        result = command(fd, &header, SG_DXFER_NONE, NULL, 0);
    } else if (!strcmp(verb, "in")) {
        result = command(fd, &header, SG_DXFER_FROM_DEV, data, length);
    } else if (gives) {
        result = command(fd, &header, SG_DXFER_TO_DEV, data, from_hex(words[3], data, room));
    } else {
        memset(data, strtoul(words[4], NULL, 16), length);
        void *from = data;
        if (!strcmp(verb, "list")) {
            header.iovec_count = pieces_of(from, length, pieces, 256);
            from = pieces;
        }
        result = command(fd, &header, SG_DXFER_TO_DEV, from, length);
    }
    print_outcome(result, &header);
    if (!strcmp(verb, "in") && result == 0) {
        fprintf(out, " ");
        print_hex(data, length - header.resid);
    }
    fprintf(out, "\n");
    munmap(data, room);
}

/* Numbered blocks. */

#define PLACE 4096

static const unsigned char fua = 0x08;
static unsigned first, last, writers;

/* The n-th 4096 bytes, by a CDB of ten bytes; a WRITE where there is data. */
static int ten(int fd, struct sg_io_hdr *header, unsigned char code, unsigned char flags, unsigned number, void *data)
{
    unsigned block = data ? number * (PLACE / 512) : 0;
    unsigned char count = data ? PLACE / 512 : 0;
    unsigned char cdb[10] = {code, flags, block >> 24, block >> 16, block >> 8, block, 0, 0, count};
    memcpy(header->cmdp, cdb, header->cmd_len = sizeof cdb);
    return command(fd, header, data ? SG_DXFER_TO_DEV : SG_DXFER_NONE, data, data ? PLACE : 0);
}

/* The same by ATA PASS-THROUGH(16): a command by DMA, or one without data; 48-bit addresses. */
static int ata(int fd, struct sg_io_hdr *header, unsigned char code, unsigned number, void *data)
{
    unsigned block = data ? number * (PLACE / 512) : 0;
    unsigned char cdb[16] = {0x85, data ? 6 << 1 | 1 : 3 << 1 | 1, data ? 0x06 : 0};
    cdb[6] = data ? PLACE / 512 : 0;
    cdb[7] = block >> 24;
    cdb[8] = block;
    cdb[10] = block >> 8;
    cdb[12] = block >> 16;
    cdb[13] = 0x40;
    cdb[14] = code;
    memcpy(header->cmdp, cdb, header->cmd_len = sizeof cdb);
    return command(fd, header, data ? SG_DXFER_TO_DEV : SG_DXFER_NONE, data, data ? PLACE : 0);
}

/* How a number gets onto the medium; some do for several at once. */
typedef int way(int fd, struct sg_io_hdr *header, unsigned number, void *data);

static int write_fua(int fd, struct sg_io_hdr *header, unsigned number, void *data)
{
    return ten(fd, header, 0x2a, fua, number, data);
}

static int write_verify(int fd, struct sg_io_hdr *header, unsigned number, void *data)
{
    return ten(fd, header, 0x2e, 0, number, data);
}

static int write_cached(int fd, struct sg_io_hdr *header, unsigned number, void *data)
{
    return ten(fd, header, 0x2a, 0, number, data);
}

static int synchronize(int fd, struct sg_io_hdr *header, unsigned number, void *data)
{
    return ten(fd, header, 0x35, 0, number, data);
}

static int ata_fua(int fd, struct sg_io_hdr *header, unsigned number, void *data)
{
    return ata(fd, header, 0x3d, number, data);
}

static int ata_cached(int fd, struct sg_io_hdr *header, unsigned number, void *data)
{
    return ata(fd, header, 0x35, number, data);
}

static int ata_flush(int fd, struct sg_io_hdr *header, unsigned number, void *data)
{
    return ata(fd, header, 0xea, number, data);
}

static int pwrite_cached(int fd, struct sg_io_hdr *header, unsigned number, void *data)
{
    (void)header;
    return pwrite(fd, data, PLACE, (off_t)number * PLACE) == PLACE ? 0 : -1;
}

static int pwrite_sync(int fd, struct sg_io_hdr *header, unsigned number, void *data)
{
    (void)header, (void)number, (void)data;
    return fdatasync(fd);
}

/* A write, and what follows after some of them. "cached" promises nothing. */
static const struct {
    const char *name;
    way *write, *settle;
} ways[] = {
    {"fua", write_fua, NULL},          {"sync", write_cached, synchronize},   {"verify", write_verify, NULL},
    {"ata-fua", ata_fua, NULL},        {"ata-flush", ata_cached, ata_flush},  {"cached", write_cached, NULL},
    {"pwrite", pwrite_cached, pwrite_sync},
};

struct writer {
    const char *way, *path;
    unsigned index;
};

static void *writer(void *argument)
{
    struct writer *self = argument;
    size_t i = 0;
    while (strcmp(ways[i].name, self->way))
        if (++i == sizeof ways / sizeof *ways)
            die(self->way);
    int fd = open(self->path, O_RDWR);
    if (fd < 0)
        die(self->path);
    out = stdout;
    uint64_t data[PLACE / sizeof(uint64_t)];
    unsigned char cdb[16], sense[64];
    unsigned unsettled[8], count = 0;
    for (unsigned number = first + self->index; number < last; number += writers) {
        for (size_t j = 0; j < PLACE / sizeof *data; j++)
            data[j] = number;
        struct sg_io_hdr header = {.cmdp = cdb, .sbp = sense, .mx_sb_len = sizeof sense};
        int result = ways[i].write(fd, &header, number, data);
        unsettled[count++] = number;
        int good = !result && !header.status && !header.host_status;
        /* After one, two, three... of them. */
        if (good && ways[i].settle && count <= number / writers % 7 && number + writers < last)
            continue;
        if (good && ways[i].settle) {
            header = (struct sg_io_hdr){.cmdp = cdb, .sbp = sense, .mx_sb_len = sizeof sense};
            result = ways[i].settle(fd, &header, number, NULL);
            good = !result && !header.status && !header.host_status;
        }
        if (!good) {
            flockfile(stdout);
            printf("failed %u ", number);
            print_outcome(result, &header);
            printf("\n");
            funlockfile(stdout);
            return NULL;
        }
        for (unsigned j = 0; j < count; j++)
            printf("acknowledged %u\n", unsettled[j]);
        count = 0;
    }
    return NULL;
}

static int number_blocks(char **arguments)
{
    first = strtoul(arguments[0], NULL, 0);
    last = first + strtoul(arguments[1], NULL, 0);
    struct writer all[16];
    pthread_t threads[16];
    for (char **pair = arguments + 2; pair[0] && pair[1] && writers < 16; pair += 2, writers++)
        all[writers] = (struct writer){pair[0], pair[1], writers};
    for (unsigned i = 0; i < writers; i++)
        if (pthread_create(&threads[i], NULL, writer, &all[i]))
            die("pthread_create");
    for (unsigned i = 0; i < writers; i++)
        pthread_join(threads[i], NULL);
    printf("end\n");
    return 0;
}

/* Increments. */

static unsigned block, times;
static atomic_int threads_left;

static void *incrementer(void *path)
{
    int fd = open(path, O_RDWR);
    if (fd < 0)
        die(path);
    unsigned char data[8192], sense[64];
    unsigned char capacity[10] = {0x25}, read[10] = {0x28}, swap[16] = {0x89};
    struct sg_io_hdr header = {.cmdp = capacity, .cmd_len = 10, .sbp = sense, .mx_sb_len = sizeof sense};
    if (command(fd, &header, SG_DXFER_FROM_DEV, data, 8) || header.status)
        die("READ CAPACITY");
    unsigned length = data[6] << 8 | data[7];
    read[5] = swap[9] = block;
    read[8] = swap[13] = 1;
    for (unsigned done = 0; done < times;) {
        header = (struct sg_io_hdr){.cmdp = read, .cmd_len = 10, .sbp = sense, .mx_sb_len = sizeof sense};
        if (command(fd, &header, SG_DXFER_FROM_DEV, data, length) || header.status)
            die("READ");
        memcpy(data + length, data, length);
        uint64_t number;
        memcpy(&number, data, sizeof number);
        number++;
        /* At both ends, so that a block that is half written is seen. */
        memcpy(data + length, &number, sizeof number);
        memcpy(data + 2 * length - sizeof number, &number, sizeof number);
        header = (struct sg_io_hdr){.cmdp = swap, .cmd_len = 16, .sbp = sense, .mx_sb_len = sizeof sense};
        if (command(fd, &header, SG_DXFER_TO_DEV, data, 2 * length))
            die("COMPARE AND WRITE");
        if (!header.status && !header.host_status)
            done++;
        else if (header.status != 8 && (header.status != 2 || (sense[2] & 15) != 14)) {
            fprintf(stderr, "status %x, host %x, sense %x/%02x/%02x\n", header.status, header.host_status,
                    sense[2] & 15, sense[12], sense[13]);
            exit(3);
        }
    }
    atomic_fetch_sub(&threads_left, 1);
    return NULL;
}

static int increment(char **arguments)
{
    block = atoi(arguments[0]);
    times = atoi(arguments[1]);
    int count = atoi(arguments[2]), forks = 0;
    char **paths = arguments + 3;
    if (*paths && !strcmp(*paths, "forks")) {
        forks = 1;
        paths++;
    }
    /* Who waits for ever ends by a signal. */
    alarm(30);
    pthread_t threads[64];
    int number = 0;
    while (paths[number])
        number++;
    atomic_store(&threads_left, count);
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, incrementer, paths[i % number]))
            die("pthread_create");
    pid_t children[64];
    int born = 0;
    while (forks && atomic_load(&threads_left) && born < 64) {
        children[born] = fork();
        if (children[born] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            pause();
            _exit(0);
        }
        born++;
        usleep(500);
    }
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    while (born-- > 0) {
        kill(children[born], SIGKILL);
        waitpid(children[born], NULL, 0);
    }
    return 0;
}

/* Hostility. */

static unsigned asked, wrong;

static void expect(int fine, const char *what, const char *which, long value)
{
    asked++;
    if (!fine && ++wrong <= 150)
        printf("%s, %s, %ld: %s\n", what, which, value, errno ? strerrorname_np(errno) : "success");
}

struct bad {
    const char *name;
    void *address;
    int readable;
};

static struct bad bad[9];

static void make_bad_addresses(void)
{
    char *memory = map(3 * PAGE);
    mprotect(memory, PAGE, PROT_READ);
    mprotect(memory + 2 * PAGE, PAGE, PROT_NONE);
    char *last = memory + 2 * PAGE;
    struct bad all[] = {
        {"null", NULL, 0},
        {"one", (void *)1, 0},
        {"read-only", memory, 1},
        {"guarded", memory + 2 * PAGE, 0},
        {"unmapped", (void *)0x200000, 0},
        {"the last byte of a page", last - 1, 0},
        {"kernel", (void *)0xffffffff80000000, 0},
        {"not canonical", (void *)0x8000000000000000, 0},
        {"the last address", (void *)-1, 0},
    };
    memcpy(bad, all, sizeof all);
}

/* Commands that move data: CDB, direction and length. */
static const struct {
    const char *name;
    unsigned char cdb[16];
    int cdb_length, direction;
    unsigned length;
} movers[] = {
    {"INQUIRY", {0x12, 0, 0, 0, 96}, 6, SG_DXFER_FROM_DEV, 96},
    {"MODE SENSE", {0x1a, 0, 0x3f, 0, 96}, 6, SG_DXFER_FROM_DEV, 96},
    {"READ", {0x28, 0, 0, 0, 0, 0, 0, 0, 8}, 10, SG_DXFER_FROM_DEV, 4096},
    {"READ CAPACITY", {0x25}, 10, SG_DXFER_FROM_DEV, 8},
    {"REPORT LUNS", {0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16}, 12, SG_DXFER_FROM_DEV, 16},
    {"WRITE", {0x2a, 0, 0, 0, 0, 0, 0, 0, 8}, 10, SG_DXFER_TO_DEV, 4096},
    {"WRITE AND VERIFY", {0x2e, 2, 0, 0, 0, 0, 0, 0, 8}, 10, SG_DXFER_TO_DEV, 4096},
    {"VERIFY", {0x2f, 2, 0, 0, 0, 0, 0, 0, 8}, 10, SG_DXFER_TO_DEV, 4096},
    {"VERIFY (3)", {0x2f, 6, 0, 0, 0, 0, 0, 0, 8}, 10, SG_DXFER_TO_DEV, 512},
    {"WRITE SAME", {0x41, 0, 0, 0, 0, 0, 0, 0, 8}, 10, SG_DXFER_TO_DEV, 512},
    {"UNMAP", {0x42, 0, 0, 0, 0, 0, 0, 0, 24}, 10, SG_DXFER_TO_DEV, 24},
    {"MODE SELECT", {0x55, 0x10, 0, 0, 0, 0, 0, 0, 8}, 10, SG_DXFER_TO_DEV, 8},
    {"COMPARE AND WRITE", {0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4}, 16, SG_DXFER_TO_DEV, 4096},
    {"ORWRITE", {0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8}, 16, SG_DXFER_TO_DEV, 4096},
};

static const struct sg_io_hdr fresh = {.interface_id = 'S', .timeout = 10000};

/* Each pointer of each command in turn is bad. */
static void bad_pointers(int fd)
{
    unsigned char *data = map(8192), sense[64];
    for (size_t i = 0; i < sizeof movers / sizeof *movers; i++) {
        unsigned char cdb[16];
        memcpy(cdb, movers[i].cdb, sizeof cdb);
        /* The superuser's alone. */
        if ((cdb[0] == 0x89 || cdb[0] == 0x8b) && geteuid() != 0)
            continue;
        struct sg_io_hdr good = fresh;
        good.cmdp = cdb;
        good.cmd_len = movers[i].cdb_length;
        good.dxfer_direction = movers[i].direction;
        good.dxfer_len = movers[i].length;
        good.dxferp = data;
        good.sbp = sense;
        good.mx_sb_len = sizeof sense;
        int reads = good.dxfer_direction == SG_DXFER_FROM_DEV;
        /* A list of one block descriptor, of no blocks. */
        memset(data, 0, 8192);
        data[3] = movers[i].length == 24 ? 16 : 0;
        for (size_t j = 0; j < sizeof bad / sizeof *bad; j++) {
            errno = 0;
            int result = ioctl(fd, SG_IO, bad[j].address);
            expect(result < 0 && (errno == EFAULT || (errno == EINVAL && bad[j].readable)), movers[i].name,
                   "bad header", j);

            struct sg_io_hdr header = good;
            header.cmdp = bad[j].address;
            errno = 0;
            /* What can be read is TEST UNIT READY. */
            result = ioctl(fd, SG_IO, &header);
            expect(bad[j].readable ? result == 0 : result < 0 && errno == EFAULT, movers[i].name, "bad CDB", j);

            header = good;
            header.dxferp = bad[j].address;
            errno = 0;
            result = ioctl(fd, SG_IO, &header);
            int fine = !reads && bad[j].readable;
            expect(fine ? result == 0 : result < 0 && errno == EFAULT, movers[i].name, "bad data", j);

            header.iovec_count = 4;
            errno = 0;
            result = ioctl(fd, SG_IO, &header);
            /* An empty list, where it can be read. */
            expect(result < 0 && errno == (bad[j].readable ? EINVAL : EFAULT), movers[i].name, "bad list", j);

            struct iovec pieces[3] = {{data, 7}, {bad[j].address, movers[i].length - 7}, {data, 4096}};
            header.dxferp = pieces;
            header.iovec_count = 3;
            errno = 0;
            result = ioctl(fd, SG_IO, &header);
            /* At the last byte of a page there is room for one. */
            fine |= movers[i].length <= 8;
            expect(fine ? 1 : result < 0 && errno == EFAULT, movers[i].name, "bad piece", j);

            /* There is sense data. */
            header = good;
            header.sbp = bad[j].address;
            unsigned char refused[6] = {0x12, 0, 1};
            header.cmdp = refused;
            header.cmd_len = 6;
            header.dxfer_direction = SG_DXFER_NONE;
            header.dxfer_len = 0;
            errno = 0;
            result = ioctl(fd, SG_IO, &header);
            if (bad[j].address)
                expect(result < 0 && errno == EFAULT, movers[i].name, "bad sense buffer", j);
            else
                expect(result == 0 && header.status == 2 && header.sb_len_wr == 0, movers[i].name,
                       "no sense buffer", j);
        }
        /* The buffer ends with the last byte that is moved, and nothing is touched before it. */
        unsigned char *room = map(4 * PAGE);
        mprotect(room + 3 * PAGE, PAGE, PROT_NONE);
        memset(room, 0xa5, 3 * PAGE);
        struct sg_io_hdr header = good;
        header.dxferp = room + 3 * PAGE - movers[i].length;
        errno = 0;
        int result = ioctl(fd, SG_IO, &header);
        expect(result == 0, movers[i].name, "at the end of memory", 0);
        unsigned char *at = room;
        while (at < (unsigned char *)header.dxferp && *at == 0xa5)
            at++;
        expect(at == header.dxferp, movers[i].name, "touched before the buffer", at - room);
        munmap(room, 4 * PAGE);
    }
}

/* READ into memory that holds its own header or CDB, and can hold only a part of the data. */
static void overlapping(int fd)
{
    unsigned char *memory = map(2 * PAGE), *at = memory + PAGE / 2, read[10] = {0x28, 0, 0, 0, 0, 0, 0, 0, 8};
    mprotect(memory + PAGE, PAGE, PROT_NONE);
    for (int holds_header = 0; holds_header < 2; holds_header++) {
        struct sg_io_hdr elsewhere = fresh, *header = holds_header ? (void *)at : &elsewhere;
        *header = fresh;
        header->cmdp = holds_header ? read : memcpy(at, read, sizeof read);
        header->cmd_len = sizeof read;
        header->dxfer_direction = SG_DXFER_FROM_DEV;
        header->dxferp = at;
        header->dxfer_len = PAGE;
        errno = 0;
        int result = ioctl(fd, SG_IO, header);
        expect(result < 0 && errno == EFAULT, "READ", holds_header ? "over its header" : "over its CDB", PAGE);
    }
    munmap(memory, 2 * PAGE);
}

static void lengths(int fd)
{
    unsigned char cdb[256] = {0x12, 0, 0, 0, 96}, *data = map(16 << 20), sense[256];
    struct sg_io_hdr good = fresh;
    good.cmdp = cdb;
    good.cmd_len = 6;
    good.dxfer_direction = SG_DXFER_FROM_DEV;
    good.dxferp = data;
    good.dxfer_len = 96;
    good.sbp = sense;
    for (int length = 0; length < 256; length++) {
        struct sg_io_hdr header = good;
        header.cmd_len = length;
        errno = 0;
        int result = ioctl(fd, SG_IO, &header);
        int number = length < 6 ? EMSGSIZE : length > 32 ? EINVAL : 0;
        expect(number ? result < 0 && errno == number : result == 0, "INQUIRY", "CDB length", length);

        header = good;
        header.mx_sb_len = length;
        cdb[2] = 1;
        memset(sense, 0xa5, sizeof sense);
        errno = 0;
        result = ioctl(fd, SG_IO, &header);
        cdb[2] = 0;
        int written = length < 18 ? length : 18;
        expect(result == 0 && header.status == 2 && header.sb_len_wr == written, "refused INQUIRY",
               "room for sense data", length);
        for (int i = written; i < 256; i++)
            if (sense[i] != 0xa5)
                expect(0, "refused INQUIRY", "sense data behind its room", length);
    }
    /* The largest transfer of the kernel's own disks is less than 2 GiB. */
    for (unsigned bit = 0; bit < 32; bit++)
        for (int more = -1; more <= 1; more++) {
            unsigned length = (1u << bit) + more;
            struct sg_io_hdr header = good;
            header.dxfer_len = length;
            memset(data, 0xa5, 256);
            errno = 0;
            int result = ioctl(fd, SG_IO, &header);
            unsigned moved = length < 96 ? length : 96;
            int fine = result == 0 && header.status == 0 && header.resid == (int)(length - moved);
            /* Into a shorter buffer the host adapter moves nothing, or all there is room for. */
            if (length < 96 && result == 0)
                fine = 1;
            expect(length > 16u << 20 ? result < 0 && errno == EIO : fine || errno == EIO, "INQUIRY",
                   "data length", length);
            for (unsigned i = moved; i < 256; i++)
                if (data[i] != 0xa5)
                    expect(0, "INQUIRY", "data behind its room", length);
        }
    for (int direction = -12; direction <= 12; direction++) {
        struct sg_io_hdr header = good;
        header.dxfer_direction = direction;
        errno = 0;
        int result = ioctl(fd, SG_IO, &header);
        int known = direction == -2 || direction == -3 || direction == -4;
        expect(known ? result == 0 : result < 0 && errno == EINVAL, "INQUIRY", "direction", direction);
    }
    for (int version = 0; version < 256; version++) {
        struct sg_io_hdr header = good;
        header.interface_id = version;
        errno = 0;
        int result = ioctl(fd, SG_IO, &header);
        expect(version == 'S' ? result == 0 : result < 0 && errno == EINVAL, "INQUIRY", "interface", version);
    }
    munmap(data, 16 << 20);
}

static void lists(int fd)
{
    struct iovec *pieces = (void *)map(65536 * sizeof *pieces);
    unsigned char *data = map(1 << 20), write[10] = {0x2a}, read[10] = {0x28}, inquiry[6] = {0x12, 0, 0, 0, 96};
    unsigned char *seen = map(1 << 20);
    write[7] = read[7] = 0x01;
    unsigned length = 256 * 512;
    for (unsigned i = 0; i < length; i++)
        data[i] = i * 7 + i / 251;
    struct sg_io_hdr out = fresh;
    out.cmdp = write;
    out.cmd_len = 10;
    out.dxfer_direction = SG_DXFER_TO_DEV;
    out.dxferp = data;
    out.dxfer_len = length;
    if (ioctl(fd, SG_IO, &out) || out.status)
        die("WRITE");
    struct sg_io_hdr in = out;
    in.cmdp = read;
    in.dxfer_direction = SG_DXFER_FROM_DEV;
    in.dxferp = pieces;
    /* So many empty pieces, one byte, the rest, and again empty ones up to a count. */
    static const unsigned empties[] = {0, 1, 30, 31, 32, 33, 63, 64, 65, 500, 1000, 1021};
    for (size_t i = 0; i < sizeof empties / sizeof *empties; i++)
        for (unsigned count = empties[i] + 3; count <= 1024; count += count < 64 ? 1 : 319) {
            memset(pieces, 0, 65536 * sizeof *pieces);
            memset(seen, 0xa5, 1 << 20);
            unsigned at = empties[i];
            pieces[at] = (struct iovec){seen, 1};
            pieces[at + 2] = (struct iovec){seen + 1, length - 1};
            struct sg_io_hdr header = in;
            header.iovec_count = count;
            errno = 0;
            int result = ioctl(fd, SG_IO, &header);
            expect(result == 0 && !header.status && !header.host_status && header.resid == 0 &&
                       !memcmp(seen, data, length) && seen[length] == 0xa5,
                   "READ", "empty pieces before the data", empties[i]);
        }
    /* Pieces of so many bytes, read and written. */
    for (unsigned size = 128; size <= 4096; size += size < 160 ? 1 : 397) {
        memset(pieces, 0, 65536 * sizeof *pieces);
        memset(seen, 0xa5, 1 << 20);
        unsigned count = 0;
        for (unsigned at = 0; at < length; at += size, count++)
            pieces[count] = (struct iovec){seen + at, length - at < size ? length - at : size};
        struct sg_io_hdr header = in;
        header.iovec_count = count;
        errno = 0;
        int result = ioctl(fd, SG_IO, &header);
        expect(result == 0 && header.resid == 0 && !memcmp(seen, data, length), "READ", "pieces of bytes", size);
        for (unsigned i = 0; i < length; i++)
            data[i] = seen[i] = seen[i] * 3 + 1;
        header = out;
        header.dxferp = pieces;
        header.iovec_count = count;
        errno = 0;
        result = ioctl(fd, SG_IO, &header);
        expect(result == 0 && header.resid == 0, "WRITE", "pieces of bytes", size);
    }
    /* More than a list may have; the list itself is long enough. */
    for (unsigned count = 1024; count < 65536; count += 4032) {
        for (unsigned i = 0; i < 65536; i++)
            pieces[i] = (struct iovec){seen + i % 4096, 128};
        struct sg_io_hdr header = in;
        header.iovec_count = count;
        errno = 0;
        int result = ioctl(fd, SG_IO, &header);
        expect(count > 1024 ? result < 0 && errno == EINVAL : result == 0, "READ", "pieces", count);
    }
    /* Lengths whose sum is no number, where the data that is asked for fits into the first. */
    for (int i = 0; i < 64; i++) {
        struct sg_io_hdr header = in;
        header.cmdp = inquiry;
        header.cmd_len = 6;
        header.dxfer_len = 96;
        header.iovec_count = 4;
        pieces[0] = (struct iovec){seen, 96};
        pieces[1] = (struct iovec){seen, (size_t)1 << i};
        pieces[2] = (struct iovec){seen, (size_t)-1 >> (i % 8)};
        pieces[3] = (struct iovec){seen, (size_t)-1};
        errno = 0;
        int result = ioctl(fd, SG_IO, &header);
        expect(result == 0 ? header.resid == 0 : errno == EINVAL || errno == EFAULT, "INQUIRY", "huge pieces", i);
    }
    munmap(pieces, 65536 * sizeof *pieces);
}

static uint64_t state;

static uint64_t chance(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Anything at all; what is not the request's stays as it is. */
static void random_requests(int fd, int count)
{
    static const unsigned char codes[] = {
        0x00, 0x03, 0x08, 0x0a, 0x12, 0x15, 0x1a, 0x1b, 0x1d, 0x1e, 0x25, 0x28, 0x2a, 0x2e, 0x2f, 0x34,
        0x35, 0x37, 0x41, 0x42, 0x4d, 0x55, 0x5a, 0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91, 0x93,
        0x9c, 0x9e, 0xa0, 0xa3, 0xa8, 0xaa, 0xae, 0xaf, 0xb7, 0x85, 0xa1, 0x7f, 0x5e, 0x5f, 0x3b, 0x3c,
    };
    size_t room = 1 << 20;
    unsigned char *memory = map(room + 2 * PAGE), *data = memory + PAGE, sense[256];
    struct iovec pieces[64];
    for (int i = 0; i < count; i++) {
        unsigned char cdb[64] = {0};
        int sparse = chance() % 4;
        for (size_t j = 0; j < sizeof cdb; j++)
            cdb[j] = sparse && chance() % 4 ? 0 : chance() >> 40;
        cdb[0] = chance() % 16 ? codes[chance() % sizeof codes] : chance() >> 40;
        if (cdb[0] == 0x9e || cdb[0] == 0xa3)
            cdb[1] = chance() % 2 ? 0x10 + 2 * (chance() % 2) : 0x0c + chance() % 2;
        struct sg_io_hdr header = fresh;
        header.cmd_len = chance() % 32 ? (cdb[0] < 0x20 ? 6 : cdb[0] < 0x60 ? 10 : 16) : chance();
        header.cmdp = chance() % 64 ? cdb : bad[chance() % 9].address;
        header.dxfer_direction = chance() % 32 ? -2 - (int)(chance() % 3) : (int)chance();
        static const unsigned usual[] = {0, 8, 24, 96, 512, 1024, 4096, 65536};
        header.dxfer_len = chance() % 4 ? usual[chance() % 8] : chance() % 65536;
        unsigned length = header.dxfer_len;
        if (chance() % 64 == 0)
            header.dxfer_len = chance();
        /* The end of the buffer is followed by bytes that must stay. */
        size_t start = room - length;
        memset(memory, 0x5a, PAGE);
        memset(data + room, 0x5a, PAGE);
        for (unsigned j = 0; j < length && j < 64; j++)
            data[start + j] = chance() % 4 ? 0 : chance();
        header.dxferp = chance() % 32 ? data + start : bad[chance() % 9].address;
        if (header.dxfer_len != length)
            header.dxferp = bad[chance() % 9].address;
        if (chance() % 4 == 0) {
            header.iovec_count = 1 + chance() % 64;
            for (int j = 0; j < 64; j++) {
                size_t at = length ? chance() % length : 0;
                pieces[j].iov_base = chance() % 64 ? data + start + at : bad[chance() % 9].address;
                pieces[j].iov_len = chance() % 8 ? chance() % (length - at + 1) : 0;
            }
            header.dxferp = pieces;
        }
        memset(sense, 0x5a, sizeof sense);
        header.sbp = chance() % 32 ? sense : bad[chance() % 9].address;
        header.mx_sb_len = chance() % 2 ? 64 : chance();
        header.flags = chance();
        struct sg_io_hdr before = header;
        errno = 0;
        int result = ioctl(fd, SG_IO, &header);
        char name[16];
        snprintf(name, sizeof name, "%02x", cdb[0]);
        if (result == 0) {
            expect(header.resid >= 0 && (unsigned)header.resid <= header.dxfer_len, name, "residual count", i);
            expect(header.sb_len_wr <= before.mx_sb_len, name, "length of sense data", i);
            memcpy(&header.status, &before.status, sizeof header - offsetof(struct sg_io_hdr, status));
        }
        expect(!memcmp(&header, &before, sizeof header), name, "header", i);
        size_t j = before.mx_sb_len;
        while (j < sizeof sense && sense[j] == 0x5a)
            j++;
        expect(j >= sizeof sense, name, "bytes behind the sense data", i);
        for (j = 0; j < PAGE && memory[j] == 0x5a && data[room + j] == 0x5a; j++)
            ;
        expect(j == PAGE, name, "bytes around the data", i);
    }
}

static int hostile(char **arguments)
{
    int fd = open(arguments[1], O_RDWR);
    if (fd < 0)
        die(arguments[1]);
    state = strtoul(arguments[0], NULL, 0) * 0x9e3779b97f4a7c15 + 1;
    make_bad_addresses();
    bad_pointers(fd);
    overlapping(fd);
    lengths(fd);
    lists(fd);
    random_requests(fd, 20000);
    printf("%u requests, %u wrong\n", asked, wrong);
    return wrong != 0;
}

int main(int count, char **arguments)
{
    if (count > 5 && !strcmp(arguments[1], "increment"))
        return increment(arguments + 2);
    if (count == 4 && !strcmp(arguments[1], "hostile"))
        return hostile(arguments + 2);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count > 5 && !strcmp(arguments[1], "number"))
        return number_blocks(arguments + 2);
    static char line[1 << 20];
    out = stdout;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        act(line);
    }
    return 0;
}
