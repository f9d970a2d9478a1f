/*
 * A hostile guest: /init of a ramdisk, which takes all devices from the kernel's drivers. Writes
 * garbage into configuration spaces, registers, rings and buffers for some seconds
 * ("scribble=SECONDS" on the kernel command line), then powers the machine off. With "long=MIB" it
 * gives the console one buffer of so many MiB instead, and says how long a reset then takes.
 *
 * Buffers that a device may write to lie in pages of this program or beyond all memory, so
 * that the guest rarely kills itself. Virtio 1.2, sections 2.7, 4.1.4.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DEVICES = 32, PAGES = 64, BAR = 0x4000, TABLE = 0x2000, ENTRIES = 16 };
enum { COMMON = 1, NOTIFY, ISR, DEVICE, WINDOW };

struct device {
    int config;
    volatile uint8_t *bar;
    uint32_t part[6];
    int window;
};

static struct device devices[DEVICES];
static int count;
static uint8_t *pages;
static uint64_t physical[PAGES];
static uint64_t state = 88172645463325252u;

/* xorshift64 (Marsaglia, Xorshift RNGs, 2003). */
static uint64_t rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t below(uint64_t limit)
{
    return rnd() % limit;
}

static void find_parts(struct device *device)
{
    uint8_t space[256] = {0};
    if (pread(device->config, space, sizeof space, 0) < 64)
        return;
    for (int at = space[0x34], n = 0; at >= 0x40 && at < 0xf0 && n < 48; at = space[at + 1], n++) {
        uint32_t offset;
        memcpy(&offset, space + at + 8, 4);
        if (space[at] == 9 && space[at + 3] >= COMMON && space[at + 3] <= WINDOW)
            device->part[space[at + 3]] = offset;
        if (space[at] == 9 && space[at + 3] == WINDOW)
            device->window = at;
    }
}

/* Takes a device from the kernel's driver: the kernel maps no BAR for us that a driver has. */
static void unbind(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver/unbind", name);
    int file = open(path, O_WRONLY);
    if (file < 0)
        return;
    if (write(file, name, strlen(name)) < 0)
        printf("cannot unbind %s\n", name);
    close(file);
}

static void find_devices(void)
{
    DIR *dir = opendir("/sys/bus/pci/devices");
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) && count < DEVICES) {
        char path[300];
        struct device *device = &devices[count];
        if (entry->d_name[0] == '.')
            continue;
        unbind(entry->d_name);
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/config", entry->d_name);
        device->config = open(path, O_RDWR);
        uint16_t command = 6;
        if (device->config < 0 || pwrite(device->config, &command, 2, 4) != 2)
            continue;
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/resource0", entry->d_name);
        int bar = open(path, O_RDWR);
        void *at = bar < 0 ? MAP_FAILED : mmap(NULL, BAR, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);
        if (at == MAP_FAILED)
            continue;
        device->bar = at;
        find_parts(device);
        count++;
    }
}

static void find_pages(void)
{
    int map = open("/proc/self/pagemap", O_RDONLY);
    pages = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
    for (int i = 0; i < PAGES; i++) {
        uint64_t entry = 0;
        pages[i * 4096] = 1;
        if (pread(map, &entry, 8, ((uintptr_t)pages / 4096 + i) * 8) != 8 || !(entry & 1ull << 63)) {
            puts("no page map");
            exit(1);
        }
        physical[i] = (entry & ((1ull << 55) - 1)) * 4096;
    }
}

/* An address for a device: most often in one of our pages. */
static uint64_t address(void)
{
    switch (below(16)) {
    case 0: return 0xfffffffffffff000u + below(4096);
    case 1: return 1ull << (33 + below(31));
    case 2: return 0xc0000000u + below(0x40000000u);
    default: return physical[below(PAGES)] + (below(2) ? 0 : below(4096));
    }
}

/* Descriptors, available entries and requests that are nearly right. */
static void fill_page(void)
{
    uint8_t *page = pages + below(PAGES) * 4096;
    switch (below(4)) {
    case 0: /* descriptors */
        for (int i = 0; i < 256; i++) {
            uint64_t at = address();
            uint32_t len = below(8) ? below(4097 - at % 4096) : rnd();
            uint16_t flags = below(8), next = below(4) ? below(ENTRIES) : rnd();
            memcpy(page + 16 * i, &at, 8);
            memcpy(page + 16 * i + 8, &len, 4);
            memcpy(page + 16 * i + 12, &flags, 2);
            memcpy(page + 16 * i + 14, &next, 2);
        }
        break;
    case 1: { /* a ring */
        uint16_t *words = (uint16_t *)page;
        words[0] = below(2);
        words[1] += below(8) ? below(ENTRIES) : rnd();
        for (int i = 2; i < 64; i++)
            words[i] = below(8) ? below(ENTRIES) : rnd();
        break;
    }
    case 2: /* requests of disks and shares */
        for (int i = 0; i < 4096; i += 4) {
            uint32_t word = below(3) ? below(64) : rnd();
            memcpy(page + i, &word, 4);
        }
        break;
    default:
        for (int i = 0; i < 4096; i += 8) {
            uint64_t word = rnd();
            memcpy(page + i, &word, 8);
        }
    }
}

static void put(struct device *device, uint32_t offset, int width, uint64_t value)
{
    volatile uint8_t *at = device->bar + offset % BAR / width * width;
    switch (width) {
    case 1: *at = value; break;
    case 2: *(volatile uint16_t *)at = value; break;
    case 4: *(volatile uint32_t *)at = value; break;
    default: *(volatile uint64_t *)at = value;
    }
}

/* As a driver starts a device, up to DRIVER_OK, with some things wrong. */
static void start(struct device *device)
{
    uint32_t common = device->part[COMMON];
    put(device, common + 20, 1, 0);
    put(device, common + 20, 1, 3);
    for (uint32_t word = 0; word < 2; word++) {
        put(device, common + 0, 4, word);
        uint32_t offered = *(volatile uint32_t *)(device->bar + common + 4);
        put(device, common + 8, 4, word);
        put(device, common + 12, 4, below(4) ? offered : offered & rnd());
    }
    put(device, common + 20, 1, 11);
    int queues = *(volatile uint16_t *)(device->bar + common + 18);
    for (int queue = 0; queue < queues && queue < 8; queue++) {
        put(device, common + 22, 2, queue);
        put(device, common + 24, 2, below(8) ? ENTRIES : rnd());
        put(device, common + 26, 2, below(4));
        for (int ring = 0; ring < 3; ring++) {
            uint64_t at = address();
            if (below(8))
                at &= ~4095ull;
            put(device, common + 32 + 8 * ring, 4, at);
            put(device, common + 36 + 8 * ring, 4, at >> 32);
        }
        put(device, common + 28, 2, below(16) != 0);
    }
    put(device, common + 20, 1, 15);
}

/* By the window in configuration space (virtio 1.2, section 4.1.4.9): a doorbell, or anything. */
static void look_through_window(struct device *device)
{
    int at = device->window;
    uint32_t offset = below(2) ? device->part[NOTIFY] + 4 * below(6) : below(BAR + 16);
    uint32_t len = below(4) ? 1u << below(3) : rnd(), data = below(2) ? below(6) : rnd();
    if (!at)
        return;
    offset &= below(4) ? ~3u : ~0u;
    if (pwrite(device->config, &offset, 4, at + 8) < 0 || pwrite(device->config, &len, 4, at + 12) < 0)
        return;
    int width = len == 1 || len == 2 ? len : 4;
    if (below(3) ? pwrite(device->config, &data, width, at + 16) : pread(device->config, &data, width, at + 16))
        return;
}

/* Queues that there are not, and the MSI-X table in pieces of any size. */
static void look_beyond(struct device *device)
{
    uint32_t common = device->part[COMMON];
    put(device, common + 22, 2, below(2) ? rnd() : below(8));
    for (int i = 0; i < 8; i++)
        put(device, common + 24 + 2 * below(16), 2, rnd());
    for (int i = 0; i < 8; i++) {
        volatile uint8_t *table = device->bar + TABLE + below(256);
        (void)*table;
        if (!below(4))
            *table = rnd();
    }
}

static void scribble(void)
{
    struct device *device = &devices[below(count)];
    uint32_t word = below(2) ? rnd() : below(256);
    uint16_t command = 6;
    switch (below(26)) {
    case 0: /* configuration space; never for long without an answer at the BAR's place */
        if (pwrite(device->config, &word, 4, 0x40 + below(48) * 4) < 0)
            return;
        break;
    case 1:
        if (pread(device->config, &word, 4, below(1024) * 4) < 0 ||
            pwrite(device->config, &command, 2, 4) < 0)
            return;
        break;
    case 2: put(device, rnd(), 1 << below(4), rnd()); break;
    case 3: put(device, device->part[COMMON] + below(64), 1 << below(4), rnd()); break;
    case 4: put(device, device->part[DEVICE] + below(64), 1 << below(4), rnd()); break;
    case 5: (void)*(volatile uint32_t *)(device->bar + below(BAR / 4) * 4); break;
    case 6:
    case 7: start(device); break;
    case 24: look_through_window(device); break;
    case 25: look_beyond(device); break;
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
    case 13: fill_page(); break;
    default: put(device, device->part[NOTIFY] + 4 * below(6), 2, below(6));
    }
}

/* The modern virtio console: its device number (virtio 1.2, section 4.1.2.1). */
static struct device *console(void)
{
    for (int i = 0; i < count; i++) {
        uint16_t number = 0;
        if (pread(devices[i].config, &number, 2, 2) == 2 && number == 0x1043)
            return &devices[i];
    }
    printf("no console among %d devices\n", count);
    exit(1);
}

/* Transmits the memory from 16 MiB on, and resets the device meanwhile. */
static void transmit_and_reset(uint32_t mib)
{
    enum { TRANSMIT = 1 };
    struct device *device = console();
    uint32_t common = device->part[COMMON];
    struct timespec before, after;
    /* One descriptor in the first page, one entry of the ring in the second. */
    uint64_t at = 16 << 20;
    uint32_t len = mib << 20;
    uint16_t one = 1;
    memset(pages, 0, 3 * 4096);
    memcpy(pages, &at, 8);
    memcpy(pages + 8, &len, 4);
    memcpy(pages + 4096 + 2, &one, 2);
    put(device, common + 20, 1, 0);
    put(device, common + 20, 1, 3);
    put(device, common + 8, 4, 1);
    put(device, common + 12, 4, 1);
    put(device, common + 20, 1, 11);
    put(device, common + 22, 2, TRANSMIT);
    put(device, common + 24, 2, ENTRIES);
    for (int ring = 0; ring < 3; ring++) {
        put(device, common + 32 + 8 * ring, 4, physical[ring]);
        put(device, common + 36 + 8 * ring, 4, physical[ring] >> 32);
    }
    put(device, common + 28, 2, 1);
    put(device, common + 20, 1, 15);
    put(device, device->part[NOTIFY] + 4 * TRANSMIT, 2, TRANSMIT);
    usleep(500000);
    clock_gettime(CLOCK_MONOTONIC, &before);
    put(device, common + 20, 1, 0);
    int status = device->bar[common + 20];
    clock_gettime(CLOCK_MONOTONIC, &after);
    printf("RESET %d AFTER %ld MS\n", status,
           (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000);
}

int main(void)
{
    char line[4096] = {0};
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    if (mount("proc", "/proc", "proc", 0, NULL) || mount("sysfs", "/sys", "sysfs", 0, NULL))
        puts("cannot mount");
    int file = open("/proc/cmdline", O_RDONLY);
    if (read(file, line, sizeof line - 1) < 0)
        puts("no command line");
    char *word = strstr(line, "scribble="), *seed = strstr(line, "seed=");
    char *mib = strstr(line, "long=");
    long seconds = word ? atol(word + 9) : 5;
    state += seed ? atol(seed + 5) : 0;
    find_devices();
    find_pages();
    if (mib) {
        transmit_and_reset(atol(mib + 5));
        fflush(stdout);
        reboot(RB_POWER_OFF);
    }
    printf("SCRIBBLING on %d devices\n", count);
    fflush(stdout);
    struct timespec now, start_time;
    clock_gettime(CLOCK_MONOTONIC, &start_time);
    unsigned long long done = 0;
    do {
        for (int i = 0; i < 256 && count; i++, done++)
            scribble();
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start_time.tv_sec < seconds);
    printf("SCRIBBLED %llu\n", done);
    fflush(stdout);
    reboot(RB_POWER_OFF);
    return 1;
}
