/* What a supervisor must get right: it is linked statically, so that no library reaches it.
 *
 *   supervised idlun PATH...          prints what SCSI_IOCTL_GET_IDLUN returns for each
 *   supervised table PATH             the same in a thread with a descriptor table of its own
 *   supervised leader PATH            the same in a thread when the first thread has ended
 *   supervised descriptors PATH       the same of descriptors that cannot be asked
 *   supervised storm COUNT FLAGS PATH asks under a storm of signals
 *   supervised blocked kill PATH      a child that waits for its answer is killed
 *   supervised blocked reuse PATH     another process gets its number
 *   supervised blocked serve PATH     what it waits for comes from this process, which asks too
 *   supervised many COUNT PATH        asks in as many processes
 *   supervised stalled PATH           asks while page faults of another call are not handled
 *   supervised lines PATH             asks for each line of its input
 *   supervised rights PATH            writes through a descriptor that is open for reading
 *   supervised write BLOCK PATH       writes this block
 *   supervised become USER PATH       asks as root, as the real user, and as this one, each without execve(2)
 *   supervised exchanged PATH OWN     writes while the descriptor is exchanged for one with other flags
 *   supervised shortened PATH OWN     writes from a list that becomes shorter; how many bytes of PATH are in OWN
 *   supervised shared PROGRAM PATH    asks in a process that shares this one's memory, and there again by a PROGRAM
 *   supervised attack PROCESS         what the kernel says of each way to reach another process
 *   supervised keys                   whose the session keyring is
 *   supervised session WORD...        executes a program with a session keyring of this user's
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <scsi/sg.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define GET_IDLUN 0x5382
#define BLOCK 512
/* What COMPARE AND WRITE locks. */
#define LOCKED_BYTE (1LL << 62)

static const char *idlun(int fd)
{
    int numbers[2] = { 0 };
    return ioctl(fd, GET_IDLUN, numbers) ? strerrorname_np(errno) : numbers[0] ? "answered" : "zero";
}

static int opened(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

static void *in_thread(void *path)
{
    if (unshare(CLONE_FILES))
        perror("unshare");
    if (dup2(opened(path, O_RDWR), 60) != 60)
        perror("dup2");
    puts(idlun(60));
    return NULL;
}

static int table(char *path)
{
    pthread_t thread;
    dup2(opened("/dev/null", O_RDWR), 60);
    pthread_create(&thread, NULL, in_thread, path);
    pthread_join(thread, NULL);
    puts(idlun(60));
    return 0;
}

static void *after_leader(void *path)
{
    char state[64] = "", name[64];
    int fd = opened(path, O_RDWR);
    snprintf(name, sizeof name, "/proc/%d/stat", getpid());
    while (!strstr(state, ") Z")) {
        FILE *file = fopen(name, "r");
        if (!file || !fgets(state, sizeof state, file))
            abort();
        fclose(file);
    }
    puts(idlun(fd));
    fflush(stdout);
    _exit(0);
}

static int descriptors(const char *path)
{
    int fd = opened(path, O_RDONLY | O_DIRECT);
    printf("O_PATH %s\n", idlun(opened(path, O_PATH)));
    printf("closed %s\n", idlun(777));
    printf("O_DIRECT %s\n", idlun(fd));
    printf("bad address %s\n", ioctl(fd, GET_IDLUN, 8) ? strerrorname_np(errno) : "answered");
    char *constant = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("constant %s\n", ioctl(fd, GET_IDLUN, constant) ? strerrorname_np(errno) : "answered");
    return 0;
}

static void handle(int signal)
{
    (void)signal;
}

static int storm(long count, int flags, const char *path)
{
    int fd = opened(path, O_RDWR);
    struct sigaction action = { .sa_handler = handle, .sa_flags = flags };
    struct itimerval often = { { 0, 50 }, { 0, 50 } }, never = { { 0, 0 }, { 0, 0 } };
    long interrupted = 0;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (long i = 0; i < count; i++) {
        int numbers[2];
        if (ioctl(fd, GET_IDLUN, numbers)) {
            if (errno != EINTR)
                perror("ioctl");
            interrupted++;
        }
    }
    setitimer(ITIMER_REAL, &never, NULL);
    printf("%ld\n", count - interrupted);
    return 0;
}

/* COMPARE AND WRITE of a block of zeros to one of ones. The lock keeps it waiting. */
static struct sg_io_hdr header;
static unsigned char cdb[16] = { 0x89, [13] = 1 }, sense[32], data[2 * BLOCK];

static pid_t blocked_child(int fd)
{
    memset(data + BLOCK, 1, BLOCK);
    header = (struct sg_io_hdr){
        .interface_id = 'S', .dxfer_direction = SG_DXFER_TO_DEV, .cmd_len = sizeof cdb, .cmdp = cdb,
        .dxfer_len = sizeof data, .dxferp = data, .mx_sb_len = sizeof sense, .sbp = sense,
        .timeout = 100000, .duration = 77777,
    };
    pid_t child = fork();
    if (!child) {
        int failed = ioctl(fd, SG_IO, &header);
        _exit(failed || header.status || header.host_status);
    }
    /* Until it waits for its answer. */
    char name[64], line[64];
    snprintf(name, sizeof name, "/proc/%d/syscall", child);
    for (;;) {
        FILE *file = fopen(name, "r");
        if (!file)
            abort();
        line[0] = 0;
        if (fgets(line, sizeof line, file) && !strncmp(line, "16 ", 3)) {
            fclose(file);
            return child;
        }
        fclose(file);
    }
}

static int first_byte(int fd)
{
    unsigned char byte = 0;
    if (pread(fd, &byte, 1, 0) != 1)
        perror("pread");
    return byte;
}

/* fork(2) with a number, where root may choose it; with the next one otherwise. */
static pid_t fork_as(pid_t number)
{
    struct clone_args arguments = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&number, .set_tid_size = 1 };
    pid_t child = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    return child < 0 ? fork() : child;
}

static int blocked(const char *how, const char *path)
{
    int fd = opened(path, O_RDWR), locker = opened(path, O_RDWR), status;
    struct flock lock = { .l_type = F_WRLCK, .l_start = LOCKED_BYTE, .l_len = 1 }, unlock = lock;
    unlock.l_type = F_UNLCK;
    if (fcntl(locker, F_OFD_SETLK, &lock))
        perror("lock");
    pid_t child = blocked_child(fd);
    if (!strcmp(how, "serve")) {
        for (int i = 0; i < 100; i++)
            if (strcmp(idlun(fd), "answered"))
                puts("not answered");
        fcntl(locker, F_OFD_SETLK, &unlock);
        waitpid(child, &status, 0);
        printf("status %d, byte %d\n", status, first_byte(fd));
        return 0;
    }
    /* The supervisor has the command when it answers another that came later. */
    idlun(fd);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    printf("signal %d\n", WTERMSIG(status));
    if (!strcmp(how, "reuse")) {
        pid_t victim;
        for (;;) {
            /* The addresses that the child gave are those of the same variables in the victim. */
            victim = fork_as(child);
            if (!victim) {
                if (getpid() != child)
                    _exit(0);
                raise(SIGSTOP);
                _exit(header.duration != 77777 || header.info || header.sb_len_wr);
            }
            if (victim == child)
                break;
            waitpid(victim, NULL, 0);
        }
        waitpid(victim, &status, WUNTRACED);
        fcntl(locker, F_OFD_SETLK, &unlock);
        /* The same command waits for the other one's turn. */
        for (int i = 0; i < 100; i++)
            ioctl(fd, SG_IO, &header);
        kill(victim, SIGCONT);
        waitpid(victim, &status, 0);
        printf("victim %d\n", status);
        return 0;
    }
    /* The attempt at the lock that the command makes at this moment ends before this one gives up. */
    header.timeout = 500;
    ioctl(fd, SG_IO, &header);
    fcntl(locker, F_OFD_SETLK, &unlock);
    puts(idlun(fd));
    /* The command of a process that is gone is not carried out later. */
    for (int i = 0; i < 100 && !first_byte(fd); i++)
        usleep(1000);
    printf("byte %d\n", first_byte(fd));
    return 0;
}

static int many(long count, const char *path)
{
    int fd = opened(path, O_RDWR), bad = 0;
    for (long started = 0, ended = 0; ended < count; ended++) {
        for (; started < count && started - ended < 50; started++)
            if (!fork())
                _exit(strcmp(idlun(fd), "answered") != 0);
        int status;
        wait(&status);
        bad += status != 0;
    }
    printf("%d\n", bad);
    return 0;
}

static const char *written(int fd, unsigned block)
{
    static char text[64];
    unsigned char write_command[10] = { 0x2a, [4] = block / 256, [5] = block, [8] = 1 };
    struct sg_io_hdr write_header = {
        .interface_id = 'S', .dxfer_direction = SG_DXFER_TO_DEV, .cmd_len = sizeof write_command,
        .cmdp = write_command, .dxfer_len = BLOCK, .dxferp = data, .mx_sb_len = sizeof sense,
        .sbp = sense, .timeout = 100000,
    };
    memset(data, 7, BLOCK);
    if (ioctl(fd, SG_IO, &write_header))
        return strerrorname_np(errno);
    snprintf(text, sizeof text, "status %d, sense %d", write_header.status | write_header.host_status, sense[2]);
    return text;
}

static int rights(const char *path)
{
    int fd = opened(path, O_RDONLY);
    printf("user %d, %s, %s\n", geteuid(), idlun(fd), written(fd, 0));
    return 0;
}

static int become(long user, const char *path)
{
    int fd = opened(path, O_RDWR);
    puts(idlun(fd));
    if (seteuid(getuid()))
        perror("seteuid");
    puts(idlun(fd));
    if (seteuid(0) || seteuid(user))
        perror("seteuid");
    printf("%s, %s\n", idlun(fd), written(fd, 0));
    if (seteuid(0) || setgid(user) || setuid(user))
        perror("setuid");
    printf("%s, %s\n", idlun(fd), written(fd, 0));
    return 0;
}

static struct iovec pieces[2] __attribute__((aligned(4096)));

static void *shorten(void *unused)
{
    for (;;)
        for (int i = 0; i < 1000; i++)
            ((volatile struct iovec *)pieces)[1].iov_len = i < 500 ? 7 * BLOCK : 0;
    return unused;
}

static int shortened(const char *path, const char *own)
{
    static unsigned char command[10] = { 0x28, [8] = 8 }, blocks[8 * BLOCK], found[8 * BLOCK];
    struct sg_io_hdr read_header = {
        .interface_id = 'S', .dxfer_direction = SG_DXFER_FROM_DEV, .cmd_len = sizeof command, .cmdp = command,
        .dxfer_len = sizeof blocks, .dxferp = blocks, .timeout = 1000,
    }, write_header = read_header;
    unsigned char write_command[10] = { 0x2a, [8] = 8 };
    int fd = opened(path, O_RDONLY), own_fd = opened(own, O_RDWR), count = 0;
    pthread_t thread;
    write_header.dxfer_direction = SG_DXFER_TO_DEV;
    write_header.cmdp = write_command;
    write_header.dxferp = pieces;
    write_header.iovec_count = 2;
    pieces[0] = (struct iovec){ found, BLOCK };
    pieces[1] = (struct iovec){ found + BLOCK, 7 * BLOCK };
    pthread_create(&thread, NULL, shorten, NULL);
    for (int i = 0; i < 3000; i++) {
        ioctl(fd, SG_IO, &read_header);
        memset(found, 0, sizeof found);
        ioctl(own_fd, SG_IO, &write_header);
        if (pread(own_fd, found, sizeof found, 0) != sizeof found)
            perror("pread");
        for (unsigned at = 0; at < sizeof found; at++)
            count += found[at] && found[at] == blocks[at];
    }
    printf("%d\n", count);
    return 0;
}

static char **shared_words;

static int shared(void *unused)
{
    (void)unused;
    puts(idlun(opened(shared_words[3], O_RDWR)));
    execl(shared_words[2], shared_words[2], "mapped", shared_words[3], NULL);
    _exit(1);
}

/* Into memory that its parent does not have at this address. */
static int mapped(const char *path)
{
    int *numbers = mmap((void *)(1L << 44), 4096, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    puts(ioctl(opened(path, O_RDWR), GET_IDLUN, numbers) ? strerrorname_np(errno) : "answered");
    return 0;
}

static int exchanged_for[2];

static void *exchange(void *unused)
{
    for (;;)
        for (int i = 0; i < 2; i++)
            dup2(exchanged_for[i], 60);
    return unused;
}

/* The one that gives no rights is open on PATH, the one for writing on a file of the program's own. */
static int exchanged(const char *path, const char *own)
{
    int count = 0;
    pthread_t thread;
    exchanged_for[0] = opened(path, O_PATH);
    exchanged_for[1] = opened(own, O_RDWR);
    pthread_create(&thread, NULL, exchange, NULL);
    for (int i = 0; i < 5000; i++)
        count += !strcmp(written(60, 0), "status 0, sense 0");
    printf("%d\n", count);
    return 0;
}

static void reached(const char *how, long result)
{
    printf("%s %s\n", how, result < 0 ? strerrorname_np(errno) : "done");
}

static int attack(pid_t process)
{
    static const char *const files[] = { "mem", "maps", "environ", "fd", "auxv", "syscall" };
    char name[64], byte;
    struct iovec ours = { &byte, 1 }, theirs = { &data, 1 };
    struct rlimit limit = { 0, 0 };
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(name, sizeof name, "/proc/%d/%s", process, files[i]);
        int fd = open(name, O_RDONLY);
        reached(files[i], fd < 0 ? fd : read(fd, &byte, 1) < 0 && errno != EISDIR ? -1 : 0);
    }
    reached("PTRACE_SEIZE", ptrace(PTRACE_SEIZE, process, NULL, NULL));
    reached("process_vm_readv", process_vm_readv(process, &ours, 1, &theirs, 1, 0));
    reached("pidfd_getfd", syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, process, 0), 0, 0));
    reached("prlimit", prlimit(process, RLIMIT_NOFILE, &limit, NULL));
    reached("SIGSTOP", kill(process, SIGSTOP));
    reached("SIGKILL", kill(process, SIGKILL));
    return 0;
}

static void *ask_into(void *page)
{
    static const char *path;
    if (!path) {
        path = page;
        return NULL;
    }
    ioctl(opened(path, O_RDWR), SG_IO, page);
    return NULL;
}

/* Nobody handles the page faults, in each of several calls: others are answered meanwhile. */
static int stalled(char *path)
{
    enum { CALLS = 8 };
    long size = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, CALLS * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int faults = syscall(SYS_userfaultfd, O_CLOEXEC), fd = opened(path, O_RDWR);
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register area = {
        .range = { (unsigned long)pages, CALLS * size }, .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    if (faults < 0 || ioctl(faults, UFFDIO_API, &api) || ioctl(faults, UFFDIO_REGISTER, &area))
        return perror("userfaultfd"), 1;
    ask_into(path);
    for (int i = 0; i < CALLS; i++) {
        pthread_t thread;
        struct uffd_msg fault;
        pthread_create(&thread, NULL, ask_into, pages + i * size);
        if (read(faults, &fault, sizeof fault) != sizeof fault)
            perror("read");
        puts(idlun(fd));
    }
    return 0;
}

int main(int count, char **words)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count >= 3 && !strcmp(words[1], "idlun")) {
        for (int i = 2; i < count; i++)
            puts(idlun(opened(words[i], O_RDWR)));
        return 0;
    }
    if (count == 3 && !strcmp(words[1], "table"))
        return table(words[2]);
    if (count == 3 && !strcmp(words[1], "leader")) {
        pthread_t thread;
        pthread_create(&thread, NULL, after_leader, words[2]);
        pthread_exit(NULL);
    }
    if (count == 3 && !strcmp(words[1], "descriptors"))
        return descriptors(words[2]);
    if (count == 5 && !strcmp(words[1], "storm"))
        return storm(atol(words[2]), atoi(words[3]), words[4]);
    if (count == 4 && !strcmp(words[1], "blocked"))
        return blocked(words[2], words[3]);
    if (count == 3 && !strcmp(words[1], "stalled"))
        return stalled(words[2]);
    if (count == 4 && !strcmp(words[1], "many"))
        return many(atol(words[2]), words[3]);
    if (count == 3 && !strcmp(words[1], "rights"))
        return rights(words[2]);
    if (count == 4 && !strcmp(words[1], "write")) {
        puts(written(opened(words[3], O_RDWR), atoi(words[2])));
        return 0;
    }
    if (count == 4 && !strcmp(words[1], "become"))
        return become(atol(words[2]), words[3]);
    if (count == 4 && !strcmp(words[1], "shared")) {
        static char stack[1 << 16] __attribute__((aligned(16)));
        shared_words = words;
        waitpid(clone(shared, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL), NULL, 0);
        return 0;
    }
    if (count == 3 && !strcmp(words[1], "mapped"))
        return mapped(words[2]);
    if (count == 4 && !strcmp(words[1], "shortened"))
        return shortened(words[2], words[3]);
    if (count == 4 && !strcmp(words[1], "exchanged"))
        return exchanged(words[2], words[3]);
    if (count == 2 && !strcmp(words[1], "keys")) {
        char text[256] = "";
        syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, text, sizeof text);
        strtok(text, ";");
        puts(strtok(NULL, ";"));
        return 0;
    }
    if (count >= 3 && !strcmp(words[1], "session")) {
        if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0)
            perror("keyctl");
        execvp(words[2], words + 2);
        perror(words[2]);
        return 1;
    }
    if (count == 3 && !strcmp(words[1], "attack"))
        return attack(atoi(words[2]));
    if (count == 3 && !strcmp(words[1], "lines")) {
        char line[256];
        int fd = opened(words[2], O_RDWR);
        while (fgets(line, sizeof line, stdin))
            puts(idlun(fd));
        return 0;
    }
    return 2;
}
