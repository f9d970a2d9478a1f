/*
 * A program for the guest that does what its shell cannot: attacker MODE [ARGUMENT]...
 *
 *   deep FOLDER LEVELS     makes a tree of folders, each in the one before
 *   many FOLDER FILES      makes files and keeps the kernel from forgetting them: each stays open as
 *                          long as this program may open any, and is looked up again and again
 *   lists FOLDER FOLDERS   opens a folder, which has entries, so many times, reads of it and keeps it open
 *   socket PATH            makes a socket
 *
 * Prints what it reached, and why no more.
 */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* The kernel lets go of what it knows of the share, so that the share may do so, too. */
static void forget(void)
{
    for (int times = 0; times < 3; times++) {
        int file = open("/proc/sys/vm/drop_caches", O_WRONLY);
        if (file >= 0 && write(file, "2", 1) != 1)
            perror("drop_caches");
        close(file);
    }
}

/*
 * Each chain of folders takes the tree so far to its end and becomes the tree, so that few folders are
 * in use at any time.
 */
static int deep(const char *folder, long levels)
{
    enum { CHAIN = 500 };
    long level = 0;
    int top = open(folder, O_RDONLY | O_DIRECTORY);
    if (top < 0)
        return 1;
    while (level < levels) {
        if (fchdir(top) || mkdir("new", 0755) || chdir("new"))
            break;
        long length = 0;
        while (length < CHAIN && !mkdir("d", 0755) && !chdir("d"))
            length++;
        if (length < CHAIN || (level && renameat(top, "tree", AT_FDCWD, "d")))
            break;
        if (fchdir(top) || renameat(top, "new", top, "tree"))
            break;
        level += length;
        forget();
    }
    printf("deep: %ld levels: %s\n", level, strerror(errno));
    return level < levels;
}

static void raise_limit(void)
{
    struct rlimit limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int many(const char *folder, long files)
{
    long opened = 0, named = 0;
    int refused = 0;
    raise_limit();
    for (long number = 0; number < files; number++) {
        char path[300];
        struct stat stat_buffer;
        snprintf(path, sizeof path, "%s/f%ld", folder, number);
        if (open(path, O_RDWR | O_CREAT, 0644) >= 0) {
            opened++;
            continue;
        }
        refused = errno;
        /* A name alone is remembered as well. */
        if (mknod(path, S_IFREG | 0644, 0) == 0 || stat(path, &stat_buffer) == 0)
            named++;
    }
    printf("many: %ld opened, %ld named: %s\n", opened, named, strerror(refused));
    fflush(stdout);
    return 0;
}

static int lists(const char *folder, long folders)
{
    long opened = 0;
    int refused = 0;
    raise_limit();
    for (long number = 0; number < folders; number++) {
        DIR *list = opendir(folder);
        if (!list) {
            refused = errno;
            continue;
        }
        if (readdir(list))
            opened++;
    }
    printf("lists: %ld opened: %s\n", opened, strerror(refused));
    fflush(stdout);
    return 0;
}

static int make_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    return bind(listener, (struct sockaddr *)&address, sizeof address) != 0;
}

int main(int count, char **words)
{
    const char *mode = count > 2 ? words[1] : "";
    long number = count > 3 ? atol(words[3]) : 0;
    if (!strcmp(mode, "deep"))
        return deep(words[2], number);
    if (!strcmp(mode, "many"))
        return many(words[2], number);
    if (!strcmp(mode, "lists"))
        return lists(words[2], number);
    if (!strcmp(mode, "socket"))
        return make_socket(words[2]);
    return 2;
}
