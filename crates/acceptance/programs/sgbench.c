/* sgbench PATH[=OTHER] direct|cached read|write random|sequential BYTES THREADS ROUNDS COUNT: SG_IO on PATH against pread(2) or
 * pwrite(2) there, or on another device of that size.
 *
 * In each round each thread moves COUNT times BYTES by one way, then by the other; which is first changes from round to
 * round. Prints, for each round, the elapsed time of pread or pwrite divided by that of SG_IO: 1 is equally fast.
 */
#define _GNU_SOURCE
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

static int fd, other, writing, sequential, block;
static size_t bytes;
static off_t places;
static long count;
static pthread_barrier_t barrier;

static void by_command(void *buffer, off_t place)
{
    uint64_t lba = (uint64_t)place / block, blocks = bytes / block;
    unsigned char sense[32], cdb[10] = {writing ? 0x2a : 0x28, 0, lba >> 24, lba >> 16, lba >> 8, lba, 0, blocks >> 8, blocks};
    struct sg_io_hdr header = {
        .interface_id = 'S',
        .dxfer_direction = writing ? SG_DXFER_TO_DEV : SG_DXFER_FROM_DEV,
        .cmd_len = sizeof cdb,
        .mx_sb_len = sizeof sense,
        .dxfer_len = bytes,
        .dxferp = buffer,
        .cmdp = cdb,
        .sbp = sense,
        .timeout = 20000,
    };
    if (ioctl(fd, SG_IO, &header) || header.status || header.host_status || header.resid)
        errx(1, "SG_IO: status %d, host %d, resid %d", header.status, header.host_status, header.resid);
}

static void by_call(void *buffer, off_t place)
{
    if ((writing ? pwrite(other, buffer, bytes, place) : pread(other, buffer, bytes, place)) != (ssize_t)bytes)
        err(1, writing ? "pwrite" : "pread");
}

struct work {
    void (*way)(void *, off_t);
    uint64_t random;
    void *buffer;
};

static void *move(void *argument)
{
    struct work *work = argument;
    uint64_t random = work->random;
    pthread_barrier_wait(&barrier);
    for (long i = 0; i < count; i++) {
        if (sequential)
            random++;
        else
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        work->way(work->buffer, (off_t)(random % (uint64_t)places) * (off_t)bytes);
    }
    return NULL;
}

static double elapsed(void (*way)(void *, off_t), int threads, void **buffers, uint64_t seed)
{
    pthread_t ids[64];
    struct work work[64];
    struct timespec before, after;
    for (int i = 0; i < threads; i++) {
        work[i] = (struct work){way, seed + 7919 * i, buffers[i]};
        if (pthread_create(&ids[i], NULL, move, &work[i]))
            errx(1, "pthread_create");
    }
    pthread_barrier_wait(&barrier);
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    return (after.tv_sec - before.tv_sec) + 1e-9 * (after.tv_nsec - before.tv_nsec);
}

int main(int argc, char **argv)
{
    if (argc != 9)
        errx(2, "usage: sgbench PATH[=OTHER] direct|cached read|write random|sequential BYTES THREADS ROUNDS COUNT");
    int threads = atoi(argv[6]), rounds = atoi(argv[7]);
    int flags = O_RDWR | (strcmp(argv[2], "direct") ? 0 : O_DIRECT);
    void *buffers[64];
    char *second = strchr(argv[1], '=');
    if (second)
        *second++ = 0;
    writing = argv[3][0] == 'w';
    sequential = argv[4][0] == 's';
    bytes = strtoul(argv[5], NULL, 0);
    count = atol(argv[8]);
    fd = open(argv[1], flags);
    other = open(second ? second : argv[1], flags);
    unsigned char capacity[8], cdb[10] = {0x25};
    struct sg_io_hdr header = {.interface_id = 'S', .dxfer_direction = SG_DXFER_FROM_DEV, .cmd_len = 10,
                               .dxfer_len = 8, .dxferp = capacity, .cmdp = cdb};
    if (other < 0)
        err(1, "%s", second ? second : argv[1]);
    if (fd < 0 || ioctl(fd, SG_IO, &header) || header.status)
        err(1, "%s: is no listed device", argv[1]);
    block = capacity[6] << 8 | capacity[7];
    places = lseek(other, 0, SEEK_END) / (off_t)bytes;
    if (threads < 1 || threads > 64 || places < 1 || pthread_barrier_init(&barrier, NULL, threads + 1))
        errx(2, "too many threads, or too small a device");
    for (int i = 0; i < threads; i++)
        if (posix_memalign(&buffers[i], 4096, bytes))
            errx(1, "no memory");
    for (int round = 0; round < rounds; round++) {
        uint64_t seed = 88172645463325252 + round;
        double call = 0, command = 0;
        if (round % 2)
            command = elapsed(by_command, threads, buffers, seed);
        call = elapsed(by_call, threads, buffers, seed);
        if (!(round % 2))
            command = elapsed(by_command, threads, buffers, seed);
        printf("%.4f\n", call / command);
    }
    return 0;
}
