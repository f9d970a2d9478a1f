//! Wire format of FUSE 7.38: structures, opcodes and flags.
//!
//! Source of every number here: Linux `include/uapi/linux/fuse.h`. All integers are in the
//! byte order of the machine; the structures have no implicit padding, which the size
//! assertion next to each one proves.

use vm_memory::ByteValued;

/// Major version of the protocol.
pub const KERNEL_VERSION: u32 = 7;
/// Newest minor version that is supported.
pub const KERNEL_MINOR_VERSION: u32 = 38;
/// Oldest minor version that is accepted: 7.27 (Linux 4.18), older than any kernel with virtio-fs.
pub const MIN_KERNEL_MINOR_VERSION: u32 = 27;
/// Node id of the root directory.
pub const ROOT_ID: u64 = 1;

macro_rules! wire {
    ($(#[$doc:meta])* $name:ident = $size:literal { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, Default)]
        #[allow(missing_docs)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }
        const _: () = assert!(size_of::<$name>() == $size);
        const _: () = assert!(0 $(+ size_of::<$ty>())* == $size, "no implicit padding");
        // SAFETY: repr(C), only integers and arrays of them, no padding (asserted above), so
        // every bit pattern is a valid value and every byte is initialised.
        unsafe impl ByteValued for $name {}
    };
}

wire! {
    /// `struct fuse_attr`: what `stat` shows.
    Attr = 88 {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64,
        atimensec: u32, mtimensec: u32, ctimensec: u32,
        mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32, flags: u32,
    }
}
wire! {
    /// `struct fuse_in_header`: start of every request.
    InHeader = 40 {
        len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32,
        total_extlen: u16, padding: u16,
    }
}
wire! {
    /// `struct fuse_out_header`: start of every reply; `error` is 0 or a negative errno.
    OutHeader = 16 { len: u32, error: i32, unique: u64, }
}
wire! {
    /// `struct fuse_entry_out`
    EntryOut = 128 {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64,
        entry_valid_nsec: u32, attr_valid_nsec: u32, attr: Attr,
    }
}
wire! {
    /// `struct fuse_attr_out`
    AttrOut = 104 { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr, }
}
wire! {
    /// `struct fuse_forget_in`
    ForgetIn = 8 { nlookup: u64, }
}
wire! {
    /// `struct fuse_forget_one`
    ForgetOne = 16 { nodeid: u64, nlookup: u64, }
}
wire! {
    /// `struct fuse_batch_forget_in`, followed by `count` times [`ForgetOne`]
    BatchForgetIn = 8 { count: u32, dummy: u32, }
}
wire! {
    /// `struct fuse_getattr_in`
    GetattrIn = 16 { flags: u32, dummy: u32, fh: u64, }
}
wire! {
    /// `struct fuse_mknod_in`
    MknodIn = 16 { mode: u32, rdev: u32, umask: u32, padding: u32, }
}
wire! {
    /// `struct fuse_mkdir_in`
    MkdirIn = 8 { mode: u32, umask: u32, }
}
wire! {
    /// `struct fuse_rename_in`
    RenameIn = 8 { newdir: u64, }
}
wire! {
    /// `struct fuse_rename2_in`
    Rename2In = 16 { newdir: u64, flags: u32, padding: u32, }
}
wire! {
    /// `struct fuse_link_in`
    LinkIn = 8 { oldnodeid: u64, }
}
wire! {
    /// `struct fuse_setattr_in`
    SetattrIn = 88 {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64,
        atime: u64, mtime: u64, ctime: u64, atimensec: u32, mtimensec: u32, ctimensec: u32,
        mode: u32, unused4: u32, uid: u32, gid: u32, unused5: u32,
    }
}
wire! {
    /// `struct fuse_open_in`
    OpenIn = 8 { flags: u32, open_flags: u32, }
}
wire! {
    /// `struct fuse_create_in`
    CreateIn = 16 { flags: u32, mode: u32, umask: u32, open_flags: u32, }
}
wire! {
    /// `struct fuse_open_out`
    OpenOut = 16 { fh: u64, open_flags: u32, padding: u32, }
}
wire! {
    /// `struct fuse_release_in`
    ReleaseIn = 24 { fh: u64, flags: u32, release_flags: u32, lock_owner: u64, }
}
wire! {
    /// `struct fuse_flush_in`
    FlushIn = 24 { fh: u64, unused: u32, padding: u32, lock_owner: u64, }
}
wire! {
    /// `struct fuse_read_in`
    ReadIn = 40 {
        fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32,
        padding: u32,
    }
}
wire! {
    /// `struct fuse_write_in`
    WriteIn = 40 {
        fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32,
        padding: u32,
    }
}
wire! {
    /// `struct fuse_write_out`
    WriteOut = 8 { size: u32, padding: u32, }
}
wire! {
    /// `struct fuse_kstatfs`, which is all of `struct fuse_statfs_out`
    StatfsOut = 80 {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64,
        bsize: u32, namelen: u32, frsize: u32, padding: u32, spare: [u32; 6],
    }
}
wire! {
    /// `struct fuse_fsync_in`
    FsyncIn = 16 { fh: u64, fsync_flags: u32, padding: u32, }
}
wire! {
    /// The first 8 bytes of `struct fuse_setxattr_in`, all there is without `SETXATTR_EXT`
    SetxattrIn = 8 { size: u32, flags: u32, }
}
wire! {
    /// What `SETXATTR_EXT` appends to [`SetxattrIn`]
    SetxattrExtIn = 8 { setxattr_flags: u32, padding: u32, }
}
wire! {
    /// `struct fuse_getxattr_in`
    GetxattrIn = 8 { size: u32, padding: u32, }
}
wire! {
    /// `struct fuse_getxattr_out`
    GetxattrOut = 8 { size: u32, padding: u32, }
}
wire! {
    /// `struct fuse_access_in`
    AccessIn = 8 { mask: u32, padding: u32, }
}
wire! {
    /// The first 16 bytes of `struct fuse_init_in`, all there is before minor 36
    InitIn = 16 { major: u32, minor: u32, max_readahead: u32, flags: u32, }
}
wire! {
    /// What `INIT_EXT` appends to [`InitIn`]
    InitExtIn = 48 { flags2: u32, unused: [u32; 11], }
}
wire! {
    /// `struct fuse_init_out`
    InitOut = 64 {
        major: u32, minor: u32, max_readahead: u32, flags: u32,
        max_background: u16, congestion_threshold: u16, max_write: u32, time_gran: u32,
        max_pages: u16, map_alignment: u16, flags2: u32, unused: [u32; 7],
    }
}
wire! {
    /// `struct fuse_fallocate_in`
    FallocateIn = 32 { fh: u64, offset: u64, length: u64, mode: u32, padding: u32, }
}
wire! {
    /// `struct fuse_dirent` without the name that follows it
    Dirent = 24 { ino: u64, off: u64, namelen: u32, kind: u32, }
}
wire! {
    /// `struct fuse_lseek_in`
    LseekIn = 24 { fh: u64, offset: u64, whence: u32, padding: u32, }
}
wire! {
    /// `struct fuse_lseek_out`
    LseekOut = 8 { offset: u64, }
}
wire! {
    /// `struct fuse_copy_file_range_in`
    CopyFileRangeIn = 56 {
        fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64,
        flags: u64,
    }
}

/// `enum fuse_opcode`, as far as supported.
#[allow(missing_docs)]
pub mod opcode {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const ACCESS: u32 = 34;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const IOCTL: u32 = 39;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const COPY_FILE_RANGE: u32 = 47;
    pub const SYNCFS: u32 = 50;
    pub const TMPFILE: u32 = 51;
}

/// Flags of INIT: `flags` in the lower half, `flags2` in the upper.
#[allow(missing_docs)]
pub mod init {
    pub const ASYNC_READ: u64 = 1 << 0;
    pub const ATOMIC_O_TRUNC: u64 = 1 << 3;
    pub const BIG_WRITES: u64 = 1 << 5;
    pub const DONT_MASK: u64 = 1 << 6;
    pub const AUTO_INVAL_DATA: u64 = 1 << 12;
    pub const DO_READDIRPLUS: u64 = 1 << 13;
    pub const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub const ASYNC_DIO: u64 = 1 << 15;
    pub const WRITEBACK_CACHE: u64 = 1 << 16;
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    pub const HANDLE_KILLPRIV: u64 = 1 << 19;
    pub const POSIX_ACL: u64 = 1 << 20;
    pub const MAX_PAGES: u64 = 1 << 22;
    pub const CACHE_SYMLINKS: u64 = 1 << 23;
    pub const EXPLICIT_INVAL_DATA: u64 = 1 << 25;
    pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub const SETXATTR_EXT: u64 = 1 << 29;
    pub const INIT_EXT: u64 = 1 << 30;
}

/// `valid` bits of SETATTR (`FATTR_*`).
#[allow(missing_docs)]
pub mod fattr {
    pub const MODE: u32 = 1 << 0;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const FH: u32 = 1 << 6;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
    pub const KILL_SUIDGID: u32 = 1 << 11;
}

/// `open_flags` that an OPEN, CREATE or OPENDIR reply may carry (`FOPEN_*`).
#[allow(missing_docs)]
pub mod fopen {
    pub const KEEP_CACHE: u32 = 1 << 1;
    pub const CACHE_DIR: u32 = 1 << 3;
    pub const NOFLUSH: u32 = 1 << 5;
    pub const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
}

/// GETATTR carries a valid file handle (`FUSE_GETATTR_FH`).
pub const GETATTR_FH: u32 = 1 << 0;
/// WRITE comes from a process without the right to keep set-id bits (`FUSE_WRITE_KILL_SUIDGID`).
pub const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// OPEN comes from a process without the right to keep set-id bits (`FUSE_OPEN_KILL_SUIDGID`).
pub const OPEN_KILL_SUIDGID: u32 = 1 << 0;
/// FSYNC of the data only (`FUSE_FSYNC_FDATASYNC`).
pub const FSYNC_FDATASYNC: u32 = 1 << 0;
/// Setting this ACL must clear the set-group-id bit (`FUSE_SETXATTR_ACL_KILL_SGID`).
pub const SETXATTR_ACL_KILL_SGID: u32 = 1 << 0;
