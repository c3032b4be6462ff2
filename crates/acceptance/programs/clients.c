/* clients: does what a line of its standard input says, answers with one line, and so on to the end of the input.
 *
 * RESULT is the return value of a call, a space, and the name of the errno or "-". Numbers may be hexadecimal.
 *
 *   open HOW PATH         HOW: open open64 openat openat64 creat creat64 fopen fopen64 freopen freopen64 rdwr append path
 *   close HOW FD          HOW: close fclose close_range bad_close_range closefrom
 *   dup HOW FD            HOW: dup dup2 dup3 dupfd dupfd_cloexec dupfd64; the new descriptor
 *   dup2 FD FD            the second becomes the first
 *   receive PATH          a descriptor that another process opened and sent over a socket
 *   exec                  executes itself anew; the open descriptors stay
 *   get FD REQUEST BYTES  RESULT and that many bytes of a buffer that held 0xee
 *   set FD REQUEST VALUE  RESULT; the argument is the address of an int
 *   range FD REQUEST N    RESULT; the argument is the address of two numbers: N and 512
 *   value FD REQUEST N    RESULT; the argument is the number itself
 *   bad FD REQUEST WHERE  RESULT; WHERE: an address, "read-only", or "end-N": N bytes before memory ends
 *   errno FD REQUEST      return value and errno, which was 4242 before
 *   vfork FD              RESULT of GET_IDLUN in a vfork(2) child
 *   signals FD            the same in handlers on a small stack while the main program asks too
 *   threads FD            the same in eight threads at once
 *   cancel FIFO           cancels a thread that waits in open(2)
 *   early                 what early.c found before this program began
 *   sandbox CALL ERRNO    a system call, by number, fails from now on
 *   leader FD             RESULT of GET_IDLUN in a thread after the first one has ended, which ends the program
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCSI_IOCTL_GET_IDLUN 0x5382
#define HDIO_GETGEO 0x301

static FILE *streams[1024];
static char **arguments;

static void die(const char *what)
{
    perror(what);
    exit(3);
}

static void result(long value)
{
    printf("%ld %s", value, value < 0 ? strerrorname_np(errno) : "-");
}

static int keep(FILE *stream)
{
    if (!stream)
        return -1;
    streams[fileno(stream)] = stream;
    return fileno(stream);
}

/* The flags are variables, so that a fortified build calls __open_2 and its kin. */
static int open_as(const char *how, const char *path)
{
    volatile int read_only = O_RDONLY, read_write = O_RDWR, bare = O_PATH;
    if (!strcmp(how, "open"))
        return open(path, read_only);
    if (!strcmp(how, "open64"))
        return open64(path, read_only);
    if (!strcmp(how, "openat"))
        return openat(AT_FDCWD, path, read_only);
    if (!strcmp(how, "openat64"))
        return openat64(AT_FDCWD, path, read_only);
    if (!strcmp(how, "creat"))
        return creat(path, 0666);
    if (!strcmp(how, "creat64"))
        return creat64(path, 0666);
    if (!strcmp(how, "fopen"))
        return keep(fopen(path, "r"));
    if (!strcmp(how, "fopen64"))
        return keep(fopen64(path, "r"));
    if (!strcmp(how, "freopen"))
        return keep(freopen(path, "r", fopen("/dev/null", "r")));
    if (!strcmp(how, "freopen64"))
        return keep(freopen64(path, "r", fopen("/dev/null", "r")));
    if (!strcmp(how, "rdwr"))
        return open(path, read_write);
    if (!strcmp(how, "append"))
        return open(path, read_write | O_APPEND);
    if (!strcmp(how, "path"))
        return open(path, bare);
    die(how);
    return -1;
}

static int close_as(const char *how, int fd)
{
    if (!strcmp(how, "close"))
        return close(fd);
    if (!strcmp(how, "fclose"))
        return fclose(streams[fd]);
    if (!strcmp(how, "close_range"))
        return close_range(fd, fd, 0);
    if (!strcmp(how, "bad_close_range"))
        return close_range(fd, fd, 1 << 30);
    if (!strcmp(how, "closefrom")) {
        closefrom(fd);
        return 0;
    }
    die(how);
    return -1;
}

static int dup_as(const char *how, int fd)
{
    if (!strcmp(how, "dup"))
        return dup(fd);
    if (!strcmp(how, "dup2"))
        return dup2(fd, 50);
    if (!strcmp(how, "dup3"))
        return dup3(fd, 51, O_CLOEXEC);
    if (!strcmp(how, "dupfd"))
        return fcntl(fd, F_DUPFD, 60);
    if (!strcmp(how, "dupfd_cloexec"))
        return fcntl(fd, F_DUPFD_CLOEXEC, 70);
    if (!strcmp(how, "dupfd64"))
        return fcntl64(fd, F_DUPFD, 80);
    die(how);
    return -1;
}

static int receive(const char *path)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        die("socketpair");
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char byte = 0;
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    pid_t child = fork();
    if (child == 0) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof fd),
            .cmsg_level = SOL_SOCKET,
            .cmsg_type = SCM_RIGHTS,
        };
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
        _exit(sendmsg(pair[0], &message, 0) != 1);
    }
    int fd = -1;
    if (recvmsg(pair[1], &message, 0) == 1)
        memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    waitpid(child, NULL, 0);
    close(pair[0]);
    close(pair[1]);
    return fd;
}

static void *bad_address(const char *where)
{
    size_t page = sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    if (!strcmp(where, "read-only")) {
        mprotect(memory, page, PROT_READ);
        return memory;
    }
    if (!strncmp(where, "end-", 4)) {
        munmap(memory + page, page);
        return memory + page - strtoul(where + 4, NULL, 0);
    }
    munmap(memory, 2 * page);
    return (void *)strtoul(where, NULL, 0);
}

/* Both decisive questions, with the answers that a listed SCSI disk gives. */
static int is_listed(int fd)
{
    unsigned address[2] = {~0u, ~0u};
    unsigned char geometry[16] = {0};
    return ioctl(fd, SCSI_IOCTL_GET_IDLUN, address) == 0 && address[0] != ~0u &&
           ioctl(fd, HDIO_GETGEO, geometry) == 0 && geometry[0] != 0 && geometry[1] != 0;
}

static void in_vfork_child(int fd)
{
    volatile int number = 0;
    pid_t child = vfork();
    if (child == 0) {
        unsigned address[2];
        number = ioctl(fd, SCSI_IOCTL_GET_IDLUN, address) < 0 ? errno : 0;
        _exit(0);
    }
    waitpid(child, NULL, 0);
    errno = number;
    result(number ? -1 : 0);
}

static int handled_fd;
static atomic_int handled, failed;

static void handler(int signal)
{
    (void)signal;
    int number = errno;
    if (!is_listed(handled_fd))
        atomic_fetch_add(&failed, 1);
    atomic_fetch_add(&handled, 1);
    errno = number;
}

static void in_signal_handlers(int fd)
{
    /* The size that sysconf(3) names for a usual handler, with nothing mapped below it. */
    size_t page = sysconf(_SC_PAGESIZE), size = (sysconf(_SC_SIGSTKSZ) + page - 1) / page * page;
    char *memory = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE))
        die("mmap");
    stack_t stack = {.ss_sp = memory + page, .ss_size = size};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART};
    struct itimerval soon = {{0, 0}, {0, 0}};
    handled_fd = fd;
    atomic_store(&handled, 0);
    atomic_store(&failed, 0);
    if (sigaltstack(&stack, NULL) || sigaction(SIGALRM, &action, NULL))
        die("signals");
    /* At another moment of the request each time. A timer that repeats itself would let nothing but handlers run where an answer
       takes longer than its interval. */
    while (atomic_load(&handled) < 1000) {
        soon.it_value.tv_usec = 1 + atomic_load(&handled) % 50;
        if (setitimer(ITIMER_REAL, &soon, NULL))
            die("setitimer");
        if (!is_listed(fd))
            atomic_fetch_add(&failed, 1);
    }
    printf("%d failed", atomic_load(&failed));
}

static void *asker(void *unused)
{
    (void)unused;
    for (int i = 0; i < 2000; i++)
        if (!is_listed(handled_fd))
            atomic_fetch_add(&failed, 1);
    return NULL;
}

static void in_threads(int fd)
{
    pthread_t threads[8];
    handled_fd = fd;
    atomic_store(&failed, 0);
    for (int i = 0; i < 8; i++)
        if (pthread_create(&threads[i], NULL, asker, NULL))
            die("pthread_create");
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    printf("%d failed", atomic_load(&failed));
}

static atomic_int waiting;

static void *opener(void *path)
{
    atomic_store(&waiting, gettid());
    return (void *)(intptr_t)open(path, O_RDONLY);
}

static void cancel(char *fifo)
{
    pthread_t thread;
    atomic_store(&waiting, 0);
    if (pthread_create(&thread, NULL, opener, fifo))
        die("pthread_create");
    /* proc(5): the number of the system call in which a thread waits. */
    for (long number = 0; number != SYS_openat && number != SYS_open;) {
        char name[64], line[128];
        snprintf(name, sizeof name, "/proc/self/task/%d/syscall", atomic_load(&waiting));
        int fd = atomic_load(&waiting) ? syscall(SYS_openat, AT_FDCWD, name, O_RDONLY) : -1;
        ssize_t length = syscall(SYS_read, fd, line, sizeof line - 1);
        line[length > 0 ? length : 0] = 0;
        number = strtol(line, NULL, 10);
        syscall(SYS_close, fd);
        sched_yield();
    }
    void *value;
    pthread_cancel(thread);
    pthread_join(thread, &value);
    printf(value == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
}

static void sandbox(unsigned call, unsigned number)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | number),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
        die("seccomp");
    printf("sandboxed");
}

static void *last_thread(void *leader)
{
    unsigned address[2];
    pthread_join((pthread_t)leader, NULL);
    result(ioctl(handled_fd, SCSI_IOCTL_GET_IDLUN, address));
    printf("\n");
    exit(0);
}

static void act(char *verb, char *one, char *two, char *three)
{
    static unsigned char buffer[4096];
    int fd = one ? atoi(one) : -1;
    unsigned long request = two ? strtoul(two, NULL, 0) : 0, number = three ? strtoul(three, NULL, 0) : 0;
    if (!strcmp(verb, "open")) {
        result(open_as(one, two));
    } else if (!strcmp(verb, "close")) {
        result(close_as(one, atoi(two)));
    } else if (!strcmp(verb, "dup")) {
        result(dup_as(one, atoi(two)));
    } else if (!strcmp(verb, "dup2")) {
        result(dup2(fd, atoi(two)));
    } else if (!strcmp(verb, "receive")) {
        result(receive(one));
    } else if (!strcmp(verb, "exec")) {
        execve("/proc/self/exe", arguments, environ);
        die("execve");
    } else if (!strcmp(verb, "get")) {
        memset(buffer, 0xee, sizeof buffer);
        result(ioctl(fd, request, buffer));
        printf(" ");
        for (unsigned long i = 0; i < number; i++)
            printf("%02x", buffer[i]);
    } else if (!strcmp(verb, "set")) {
        int value = number;
        result(ioctl(fd, request, &value));
    } else if (!strcmp(verb, "value")) {
        result(ioctl(fd, request, number));
    } else if (!strcmp(verb, "bad")) {
        void *address = bad_address(three);
        result(ioctl(fd, request, address));
    } else if (!strcmp(verb, "errno")) {
        memset(buffer, 0, sizeof buffer);
        errno = 4242;
        int value = ioctl(fd, request, buffer);
        printf("%d %d", value, errno);
    } else if (!strcmp(verb, "vfork")) {
        in_vfork_child(fd);
    } else if (!strcmp(verb, "signals")) {
        in_signal_handlers(fd);
    } else if (!strcmp(verb, "threads")) {
        in_threads(fd);
    } else if (!strcmp(verb, "cancel")) {
        cancel(one);
    } else if (!strcmp(verb, "sandbox")) {
        sandbox(fd, request);
    } else if (!strcmp(verb, "leader")) {
        pthread_t thread;
        handled_fd = fd;
        if (pthread_create(&thread, NULL, last_thread, (void *)pthread_self()))
            die("pthread_create");
        pthread_exit(NULL);
    } else if (!strcmp(verb, "range")) {
        unsigned long long range[2] = {number, 512};
        result(ioctl(fd, request, range));
    } else if (!strcmp(verb, "early")) {
        const char *found = getenv("EARLY");
        printf("%s", found ? found : "nothing");
    } else {
        die(verb);
    }
}

int main(int argc, char **argv)
{
    static char line[8192];
    (void)argc;
    arguments = argv;
    /* Unbuffered, so that exec loses no line. */
    setvbuf(stdin, NULL, _IONBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        char *verb = strtok(line, " \n"), *one = strtok(NULL, " \n"), *two = strtok(NULL, " \n");
        if (!strcmp(verb, "exec"))
            printf("executed\n"), fflush(stdout);
        act(verb, one, two, strtok(NULL, " \n"));
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
