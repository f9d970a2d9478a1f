/*
 * /init of a small guest: says what it finds on its console, writes a file into the share "one", and
 * powers off, or resets with "reset" on the kernel command line.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

/* Interrupts of the lines of /proc/interrupts that have both words. */
static unsigned long interrupts(const char *controller, const char *name)
{
    char line[4096];
    unsigned long all = 0;
    FILE *file = fopen("/proc/interrupts", "r");
    while (file && fgets(line, sizeof line, file)) {
        char *at = strchr(line, ':');
        unsigned long one;
        int len;
        if (!at || !strstr(line, controller) || !strstr(line, name))
            continue;
        for (at++; sscanf(at, " %lu%n", &one, &len) == 1; at += len)
            all += one;
    }
    if (file)
        fclose(file);
    return all;
}

int main(void)
{
    char cmdline[4096] = "";
    struct sysinfo info = {0};
    time_t now = time(NULL);

    mkdir("/proc", 0755);
    mkdir("/one", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    sysinfo(&info);
    printf("guest: %ld CPUs, %lu MiB, year %d\n", sysconf(_SC_NPROCESSORS_ONLN),
           (unsigned long)info.totalram >> 20, gmtime(&now)->tm_year + 1900);
    if (mount("one", "/one", "virtiofs", 0, NULL) == 0) {
        FILE *file = fopen("/one/answer", "w");
        if (file && fputs("written by the guest\n", file) >= 0 && fclose(file) == 0)
            printf("guest: share\n");
    }
    printf("guest: %lu messages by the ITS, %lu by the frame\n",
           interrupts("ITS-", "virtio"), interrupts("GICv2m-", "virtio"));
    fflush(stdout);
    int file = open("/proc/cmdline", O_RDONLY);
    if (file >= 0 && read(file, cmdline, sizeof cmdline - 1) < 0)
        perror("cmdline");
    sync();
    reboot(strstr(cmdline, "reset") ? RB_AUTOBOOT : RB_POWER_OFF);
    return 1;
}
