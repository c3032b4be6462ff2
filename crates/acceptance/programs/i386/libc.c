/* The C library of i386 programs, as much of it as ioctl-probe.c needs: few machines have one. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

FILE *stderr;

int *__errno_location(void)
{
    static int number;
    return &number;
}

static int call(int number, long first, long second, long third)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third) : "memory");
    if (result < 0 && result >= -4095) {
        errno = -result;
        return -1;
    }
    return result;
}

int open(const char *path, int flags, ...)
{
    return call(SYS_open, (long)path, flags | O_LARGEFILE, 0);
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    return call(SYS_ioctl, fd, request, argument);
}

void *memset(void *to, int byte, size_t length)
{
    for (size_t i = 0; i < length; i++)
        ((unsigned char *)to)[i] = byte;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t length)
{
    for (size_t i = 0; i < length; i++)
        ((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
    return to;
}

char *strchr(const char *text, int letter)
{
    for (; *text != letter; text++)
        if (!*text)
            return NULL;
    return (char *)text;
}

#define NAME(number) [number] = #number

const char *strerrorname_np(int number)
{
    static const char *const names[] = {
        NAME(EPERM), NAME(ENOENT), NAME(EINTR), NAME(EIO), NAME(ENXIO), NAME(EBADF), NAME(EAGAIN), NAME(ENOMEM),
        NAME(EACCES), NAME(EFAULT), NAME(ENOTBLK), NAME(EBUSY), NAME(EEXIST), NAME(ENODEV), NAME(ENOTDIR), NAME(EINVAL),
        NAME(ENOTTY), NAME(EFBIG), NAME(ENOSPC), NAME(EROFS), NAME(EDOM), NAME(ERANGE), NAME(ENOSYS), NAME(EBADE),
        NAME(ENODATA), NAME(EMSGSIZE), NAME(EOVERFLOW), NAME(EOPNOTSUPP), NAME(ETIMEDOUT), NAME(EALREADY),
        NAME(EREMOTEIO), NAME(ENOMEDIUM),
    };
    const char *name = number > 0 && number < (int)(sizeof names / sizeof *names) ? names[number] : NULL;
    return name ? name : "unknown";
}

static char output[4096];
static size_t used;

static void flush(int fd)
{
    for (size_t done = 0; done < used;) {
        int written = call(SYS_write, fd, (long)(output + done), used - done);
        if (written <= 0)
            break;
        done += written;
    }
    used = 0;
}

static void put(char letter)
{
    if (used == sizeof output)
        flush(1);
    output[used++] = letter;
}

static void put_number(unsigned value, unsigned base, int digits)
{
    if (value >= base || digits > 1)
        put_number(value / base, base, digits - 1);
    put("0123456789abcdef"[value % base]);
}

/* %s, %d, %x and %02x. */
static int print(const char *format, va_list arguments)
{
    for (; *format; format++) {
        int digits = 1;
        if (*format != '%') {
            put(*format);
            continue;
        }
        for (format++; *format >= '0' && *format <= '9'; format++)
            digits = *format - '0';
        switch (*format) {
        case 's':
            for (const char *text = va_arg(arguments, const char *); *text; text++)
                put(*text);
            break;
        case 'd': {
            int value = va_arg(arguments, int);
            if (value < 0)
                put('-');
            put_number(value < 0 ? -(unsigned)value : (unsigned)value, 10, digits);
            break;
        }
        case 'x':
            put_number(va_arg(arguments, unsigned), 16, digits);
            break;
        }
    }
    return 0;
}

int printf(const char *restrict format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int result = print(format, arguments);
    va_end(arguments);
    return result;
}

int fprintf(FILE *restrict file, const char *restrict format, ...)
{
    va_list arguments;
    flush(1);
    va_start(arguments, format);
    int result = print(format, arguments);
    va_end(arguments);
    flush(file == stderr ? 2 : 1);
    return result;
}

int main(int, char **);

__attribute__((used)) static void start(long *stack)
{
    int status = main(stack[0], (char **)(stack + 1));
    flush(1);
    call(SYS_exit, status, 0, 0);
}

__asm__(".globl _start\n_start: mov %esp, %eax\nand $-16, %esp\nsub $12, %esp\npush %eax\ncall start\n");
