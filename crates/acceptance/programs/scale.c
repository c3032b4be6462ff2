/* scale THREADS DESCRIPTORS REQUESTS PATH...: many requests on many descriptors by many threads.
 *
 * Descriptors are opened on the paths in turn. Each thread makes REQUESTS requests, on one descriptor after the other: BLKGETSIZE64,
 * and every 16th time a READ(10) of the first block, which begins with the number of the path, big-endian. The N-th path has N+1
 * MiB. Prints how much larger the process is afterwards than it was after a tenth of all that, in KiB.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <scsi/sg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int *fds, descriptors, paths;
static long requests;

static void read_block(int fd, int path)
{
    unsigned char block[512], sense[32], cdb[10] = {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0};
    struct sg_io_hdr header = {.interface_id = 'S', .dxfer_direction = SG_DXFER_FROM_DEV, .cmd_len = sizeof cdb,
        .mx_sb_len = sizeof sense, .dxfer_len = sizeof block, .dxferp = block, .cmdp = cdb, .sbp = sense, .timeout = 20000};
    if (ioctl(fd, SG_IO, &header) || header.status || header.resid)
        errx(1, "READ(10): status %d, host %d, resid %d", header.status, header.host_status, header.resid);
    if (block[0] << 8 == (path & 0xff00) && block[1] == (path & 0xff))
        return;
    errx(1, "path %d reads as path %d", path, block[0] << 8 | block[1]);
}

static void *ask(void *argument)
{
    for (long i = 0, at = (intptr_t)argument; i < requests; i++, at++) {
        int which = (int)(at % descriptors), path = which % paths;
        uint64_t bytes = 0;
        if (i % 16 == 0)
            read_block(fds[which], path);
        else if (ioctl(fds[which], BLKGETSIZE64, &bytes) || bytes != (uint64_t)(path + 1) << 20)
            errx(1, "path %d has %llu bytes", path, (unsigned long long)bytes);
    }
    return NULL;
}

static void run(int threads, long each)
{
    pthread_t ids[1024];
    requests = each;
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, ask, (void *)(intptr_t)(i * 61)))
            errx(1, "pthread_create");
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
}

/* Memory that the process has, and what is mapped, in KiB (proc(5)). */
static long size(const char *name)
{
    char line[256];
    long found = -1;
    FILE *file = fopen("/proc/self/status", "re");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)))
            found = atol(line + strlen(name));
    fclose(file);
    return found;
}

int main(int argc, char **argv)
{
    if (argc < 5)
        errx(2, "usage: scale THREADS DESCRIPTORS REQUESTS PATH...");
    int threads = atoi(argv[1]);
    descriptors = atoi(argv[2]);
    paths = argc - 4;
    struct rlimit limit = {descriptors + 64, descriptors + 64};
    if (threads < 1 || threads > 1024 || setrlimit(RLIMIT_NOFILE, &limit))
        err(2, "%d threads, %d descriptors", threads, descriptors);
    fds = calloc(descriptors, sizeof *fds);
    for (int i = 0; i < descriptors; i++)
        if ((fds[i] = open(argv[4 + i % paths], O_RDONLY)) < 0)
            err(1, "%s", argv[4 + i % paths]);
    long all = atol(argv[3]);
    run(threads, all / 10);
    long resident = size("VmRSS:"), mapped = size("VmSize:");
    run(threads, all - all / 10);
    printf("resident %ld mapped %ld\n", size("VmRSS:") - resident, size("VmSize:") - mapped);
    return 0;
}
