# Runs in the guest, in place of kiwi: what a build does to its share, under the kernel's own
# virtio-fs driver.
cd /bundle || return 1
check() {
    "$@" || { echo "share check failed: $*" >>$log; exit 1; }
}
same() {
    [ "$1" = "$2" ] || { echo "share check failed: '$1' is not '$2'" >>$log; exit 1; }
}
(
    head -c 9000001 /dev/urandom >/tmp/data
    check cp /tmp/data data
    check cmp data /tmp/data
    check dd if=/tmp/data of=odd bs=12345 conv=fsync
    check cmp odd /tmp/data
    check mv odd moved
    check cmp moved /tmp/data
    check ln moved hard
    same "$(stat -c %h moved)" 2
    check rm moved
    check cmp hard /tmp/data
    check ln -s hard soft
    same "$(readlink soft)" hard
    check cmp soft /tmp/data

    # An open file outlives its name.
    exec 5<hard
    check rm hard
    same "$(sha256sum <&5)" "$(sha256sum </tmp/data)"
    exec 5<&-

    check mkdir -p a/b/c
    check mv a/b/c a/d
    check [ -d a/d ]
    check rmdir a/b
    check [ ! -e a/b ]

    # Ownership and modes that the host user cannot set.
    echo x >owned
    check chown 1234:567 owned
    check chmod 4751 owned
    same "$(stat -c %u:%g:%a owned)" 1234:567:4751
    check mknod node c 1 3
    same "$(stat -c %t:%T:%F node)" "1:3:character special file"
    check mkfifo fifo
    check [ -p fifo ]
    chmod 000 owned
    same "$(stat -c %a owned)" 0
    check cat owned >/dev/null

    # Many files, seen by readdir.
    check mkdir many
    i=0
    while [ $i -lt 300 ]; do
        : >many/$i
        i=$((i + 1))
    done
    same "$(ls many | wc -l)" 300
    check rm -r many
    check [ ! -e many ]

    check truncate -s 100M sparse
    same "$(stat -c %s sparse)" 104857600
    check rm -rf data soft a owned node fifo sparse
    echo "all share checks passed" >>$log
) || return 1
touch /result/image
