import { pagesOf, withPages } from './arm64-filter.ts';

/** Where addresses of a program went; infinite for none. */
export type Addresses = {
  /** The address of an offset of the source, and of the content. */
  readonly sourceAt: (offset: number) => number;
  readonly contentAt: (offset: number) => number;
  readonly moved: (address: number) => number;
};

const PAGE = 4096;
/** How many instructions after one that takes a page its use is looked for. */
const REACH = 3;

/**
 * Predicts the addresses in AArch64 code that moved (FORMAT.md section 6.1, mode 3; Arm Architecture
 * Reference Manual for A-profile, chapter C4). `bytes` are changed, `old` is a copy of them; they stand
 * at `position` in the source and at `made` in the content.
 */
export function predictArm64(
  { sourceAt, contentAt, moved }: Addresses,
  bytes: Buffer,
  old: Buffer,
  position: number,
  made: number,
): void {
  for (let i = (4 - (position % 4)) % 4; i + 4 <= old.length; i += 4) {
    const word = old.readInt32LE(i);
    const isBranch = (word & 0x7c000000) === 0x14000000;
    const isPage = !isBranch && (word & 0x9f000000) === (0x90000000 | 0);
    if (!isBranch && !isPage) continue;
    const from = sourceAt(position + i);
    const to = contentAt(made + i);
    if (!Number.isFinite(from) || !Number.isFinite(to)) continue;
    if (isBranch) {
      const target = moved(from + 4 * ((word << 6) >> 6));
      if (!Number.isFinite(target)) continue;
      const distance = Math.floor((target - to) / 4);
      bytes.writeInt32LE((word & ~0x3ffffff) | (distance & 0x3ffffff), i);
      continue;
    }
    const use = useOf(old, i, word & 31);
    const page = Math.floor(from / PAGE) + pagesOf(word);
    const target = moved(page * PAGE + use.offset);
    if (!Number.isFinite(target)) continue;
    const pages = Math.floor(target / PAGE) - Math.floor(to / PAGE);
    bytes.writeInt32LE(withPages(word, pages), i);
    const low = target - Math.floor(target / PAGE) * PAGE;
    if (use.at === 0 || low % 2 ** use.scale !== 0) continue;
    const user = old.readInt32LE(use.at);
    bytes.writeInt32LE((user & ~0x3ffc00) | ((low >> use.scale) << 10), use.at);
  }
}

/** The instruction that adds to a page in a register: where, by how many bytes, in units of 2^scale. */
function useOf(old: Buffer, i: number, register: number) {
  const end = Math.min(old.length - 4, i + 4 * REACH);
  for (let at = i + 4; at <= end; at += 4) {
    const word = old.readInt32LE(at);
    if (((word >> 5) & 31) !== register) continue;
    const scale = scaleOf(word);
    if (scale >= 0) return { at, scale, offset: ((word >> 10) & 0xfff) * 2 ** scale };
  }
  return { at: 0, scale: 0, offset: 0 };
}

/** Of ADD and of loads and stores with an unsigned offset; -1 for anything else. */
function scaleOf(word: number): number {
  if ((word & ~0x3fffff) === (0x91000000 | 0)) return 0;
  if ((word & 0x3b000000) !== 0x39000000) return -1;
  const size = word >>> 30;
  return size === 0 && (word & 0x04800000) === 0x04800000 ? 4 : size;
}
