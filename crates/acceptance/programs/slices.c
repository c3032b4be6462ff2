/* slices: short runs of system calls, for scripts/bench, which asks several of these programs in turn.
 *
 * Each line of the standard input is one run: PATH CALL NUMBER THREADS COUNT. Each of THREADS threads makes COUNT calls:
 *
 *   ioctl         NUMBER is the request
 *   pread|pwrite  of NUMBER bytes at random places
 *   read|write    the same by SG_IO
 *
 * Prints the nanoseconds that one call took: of elapsed time divided by all calls, and of the process's processor time.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <scsi/sg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 16, LONGEST = 1 << 20 };

static char path[4096], call[16];
static int fd;
static unsigned long number;
static long count;
static off_t places;
static struct work {
    unsigned char *buffer;
    /* Goes on from run to run, so that the processor has none of the places in its caches. */
    uint64_t random;
} works[THREADS];
static pthread_barrier_t barrier;

static void send_command(int writing, void *buffer, off_t place)
{
    uint64_t lba = (uint64_t)place / 512, blocks = number / 512;
    unsigned char sense[32], cdb[10] = {writing ? 0x2a : 0x28, 0, lba >> 24, lba >> 16, lba >> 8, lba, 0, blocks >> 8, blocks};
    struct sg_io_hdr header = {.interface_id = 'S', .dxfer_direction = writing ? SG_DXFER_TO_DEV : SG_DXFER_FROM_DEV,
        .cmd_len = sizeof cdb, .mx_sb_len = sizeof sense, .dxfer_len = number, .dxferp = buffer, .cmdp = cdb, .sbp = sense,
        .timeout = 20000};
    if (ioctl(fd, SG_IO, &header) || header.status || header.host_status || header.resid)
        errx(1, "%s: SG_IO: status %d, host %d, resid %d", path, header.status, header.host_status, header.resid);
}

static void *run(void *argument)
{
    struct work *work = argument;
    void *buffer = work->buffer;
    uint64_t random = work->random;
    int is_ioctl = !strcmp(call, "ioctl"), is_command = call[0] != 'p', writing = strstr(call, "write") != NULL;
    pthread_barrier_wait(&barrier);
    for (long i = 0; i < count; i++) {
        if (is_ioctl) {
            ioctl(fd, number, buffer);
            continue;
        }
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        off_t place = (off_t)(random % (uint64_t)places) * (off_t)number;
        if (is_command)
            send_command(writing, buffer, place);
        else if ((writing ? pwrite(fd, buffer, number, place) : pread(fd, buffer, number, place)) != (ssize_t)number)
            err(1, "%s: %s", path, call);
    }
    work->random = random;
    return NULL;
}

static double now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(void)
{
    int threads;
    for (int i = 0; i < THREADS; i++) {
        if (posix_memalign((void **)&works[i].buffer, 4096, LONGEST))
            errx(1, "no memory");
        memset(works[i].buffer, 0, LONGEST);
        works[i].random = 88172645463325252 + 7919 * i;
    }
    while (scanf("%4095s %15s %li %i %li", path, call, (long *)&number, &threads, &count) == 5) {
        pthread_t ids[THREADS];
        fd = open(path, strcmp(call, "ioctl") ? O_RDWR : O_RDONLY);
        if (fd < 0)
            err(1, "%s", path);
        if (threads < 1 || threads > THREADS || pthread_barrier_init(&barrier, NULL, threads + 1))
            errx(2, "%d threads", threads);
        if (strcmp(call, "ioctl")) {
            if (number < 512 || number > LONGEST || (places = lseek(fd, 0, SEEK_END) / (off_t)number) < 1)
                errx(2, "%s: not one place of %lu bytes", path, number);
        }
        for (int i = 0; i < threads; i++)
            if (pthread_create(&ids[i], NULL, run, &works[i]))
                errx(1, "pthread_create");
        double processor = now(CLOCK_PROCESS_CPUTIME_ID), elapsed = now(CLOCK_MONOTONIC);
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < threads; i++)
            pthread_join(ids[i], NULL);
        elapsed = now(CLOCK_MONOTONIC) - elapsed;
        processor = now(CLOCK_PROCESS_CPUTIME_ID) - processor;
        printf("%.0f %.0f\n", elapsed / count / threads, processor / count / threads);
        fflush(stdout);
        pthread_barrier_destroy(&barrier);
        close(fd);
    }
    return 0;
}
