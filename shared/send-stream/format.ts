import type { TarTime } from '../tar/entry.ts';

/**
 * The btrfs send stream: the instructions from which `btrfs receive` makes a subvolume. All integers
 * are little-endian.
 *
 * ```
 * stream    = MAGIC (13 bytes), u32 version, command...
 * command   = u32 size of its attributes, u16 code, u32 crc, attribute...
 * attribute = u16 code, u16 size, bytes
 * ```
 *
 * The crc is CRC32C, starting at 0 and not inverted, over the whole command with the crc field as
 * zeros. In version 2 the attribute `data` has no size: it is the last of its command and reaches to
 * its end. Paths are bytes relative to the subvolume's root, whose own path is empty; here they are
 * strings of one byte a character (latin1). Source: `fs/btrfs/send.h` of Linux, "btrfs-send-stream"
 * of the btrfs documentation.
 */
export const MAGIC = Buffer.from('btrfs-stream\0', 'latin1');
export const STREAM_HEADER_BYTES = 17;
export const COMMAND_HEADER_BYTES = 10;

/** How the value of an attribute is written. */
type Kind = 'text' | 'bytes' | 'u64' | 'u32' | 'time';
type Values = {
  text: string;
  bytes: Uint8Array;
  /** A safe integer. */
  u64: number;
  u32: number;
  /** s64 seconds since 1970 and u32 nanoseconds. */
  time: TarTime;
};

export const ATTRIBUTES = {
  uuid: { code: 1, kind: 'bytes' },
  ctransid: { code: 2, kind: 'u64' },
  ino: { code: 3, kind: 'u64' },
  size: { code: 4, kind: 'u64' },
  mode: { code: 5, kind: 'u64' },
  uid: { code: 6, kind: 'u64' },
  gid: { code: 7, kind: 'u64' },
  rdev: { code: 8, kind: 'u64' },
  ctime: { code: 9, kind: 'time' },
  mtime: { code: 10, kind: 'time' },
  atime: { code: 11, kind: 'time' },
  xattrName: { code: 13, kind: 'text' },
  xattrValue: { code: 14, kind: 'bytes' },
  path: { code: 15, kind: 'text' },
  to: { code: 16, kind: 'text' },
  target: { code: 17, kind: 'text' },
  offset: { code: 18, kind: 'u64' },
  data: { code: 19, kind: 'bytes' },
  cloneUuid: { code: 20, kind: 'bytes' },
  cloneCtransid: { code: 21, kind: 'u64' },
  clonePath: { code: 22, kind: 'text' },
  cloneOffset: { code: 23, kind: 'u64' },
  length: { code: 24, kind: 'u64' },
  fileLength: { code: 27, kind: 'u64' },
  unencodedLength: { code: 28, kind: 'u64' },
  unencodedOffset: { code: 29, kind: 'u64' },
  compression: { code: 30, kind: 'u32' },
} as const satisfies Record<string, { code: number; kind: Kind }>;

/** Name of an attribute. */
export type Attribute = keyof typeof ATTRIBUTES;

/** Commands and the attributes that each must have. `rdev` of nodes that are no devices is 0. */
export const COMMANDS = {
  subvol: { code: 1, attributes: ['path', 'uuid', 'ctransid'] },
  snapshot: { code: 2, attributes: ['path', 'uuid', 'ctransid', 'cloneUuid', 'cloneCtransid'] },
  mkfile: { code: 3, attributes: ['path', 'ino'] },
  mkdir: { code: 4, attributes: ['path', 'ino'] },
  mknod: { code: 5, attributes: ['path', 'ino', 'rdev', 'mode'] },
  mkfifo: { code: 6, attributes: ['path', 'ino', 'rdev', 'mode'] },
  mksock: { code: 7, attributes: ['path', 'ino', 'rdev', 'mode'] },
  symlink: { code: 8, attributes: ['path', 'ino', 'target'] },
  rename: { code: 9, attributes: ['path', 'to'] },
  link: { code: 10, attributes: ['path', 'target'] },
  unlink: { code: 11, attributes: ['path'] },
  rmdir: { code: 12, attributes: ['path'] },
  setXattr: { code: 13, attributes: ['path', 'xattrName', 'xattrValue'] },
  removeXattr: { code: 14, attributes: ['path', 'xattrName'] },
  write: { code: 15, attributes: ['path', 'offset', 'data'] },
  clone: {
    code: 16,
    attributes: [
      ...(['path', 'offset', 'length', 'cloneUuid'] as const),
      ...(['cloneCtransid', 'clonePath', 'cloneOffset'] as const),
    ],
  },
  truncate: { code: 17, attributes: ['path', 'size'] },
  chmod: { code: 18, attributes: ['path', 'mode'] },
  chown: { code: 19, attributes: ['path', 'uid', 'gid'] },
  utimes: { code: 20, attributes: ['path', 'atime', 'mtime', 'ctime'] },
  end: { code: 21, attributes: [] },
  /** Announces an extent without its data (`btrfs send --no-data`). */
  updateExtent: { code: 22, attributes: ['path', 'offset', 'size'] },
  /** Version 2 only. */
  encodedWrite: {
    code: 25,
    attributes: [
      ...(['path', 'offset', 'fileLength', 'unencodedLength'] as const),
      ...(['unencodedOffset', 'compression', 'data'] as const),
    ],
  },
} as const satisfies Record<string, { code: number; attributes: readonly Attribute[] }>;

/** Name of a command. */
export type CommandName = keyof typeof COMMANDS;

/** One command, named by `op`, with the values of its attributes. */
export type SendCommand = {
  [Name in CommandName]: { readonly op: Name } & {
    readonly [A in (typeof COMMANDS)[Name]['attributes'][number]]: Values[(typeof ATTRIBUTES)[A]['kind']];
  };
}[CommandName];

/** An attribute's value, of whatever kind. */
export type AttributeValue = Values[Kind];

/** Most bytes of file content in one `write` of version 1, whose attributes are below 64 KiB. */
export const MAX_WRITE_BYTES = 48 * 1024;

/** The device number as the kernel encodes it for user space (`new_encode_dev`). */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}
