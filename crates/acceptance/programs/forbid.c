/* forbid CALL ERRNO PROGRAM [ARGUMENT]...: runs a program in which a system call fails, as it does in some sandboxes.
 *
 * CALL: seccomp, process_vm_readv or pidfd_getfd
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    unsigned call = !strcmp(argv[1], "seccomp") ? SYS_seccomp
        : !strcmp(argv[1], "pidfd_getfd") ? SYS_pidfd_getfd : SYS_process_vm_readv;
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | atoi(argv[2])),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof steps / sizeof *steps, steps };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("prctl");
        return 1;
    }
    execvp(argv[3], argv + 3);
    perror(argv[3]);
    return 1;
}
