import { putWord, wordAt } from './bytes.ts';

const PAGE = 4096;

/**
 * Adds `sign` times where they stand to the operands of AArch64 code that count from there (FORMAT.md
 * section 6.2, filter 2; Arm Architecture Reference Manual for A-profile, chapter C4): those of BL in
 * instructions, and those of ADRP in pages. What is changed stays such an instruction, so the same is
 * found when it is taken back. `shift` is from a place in `bytes` to that in the content.
 */
export function shiftArm64(
  bytes: Uint8Array,
  start: number,
  end: number,
  shift: number,
  sign: number,
): void {
  for (let i = start + ((4 - ((start + shift) % 4)) % 4); i + 4 <= end; i += 4) {
    const top = bytes[i + 3] as number;
    if ((top & 0xfc) === 0x94) {
      const word = wordAt(bytes, i);
      const operand = word + sign * ((i + shift) / 4);
      putWord(bytes, i, (word & ~0x3ffffff) | (operand & 0x3ffffff));
    } else if ((top & 0x9f) === 0x90) {
      const word = wordAt(bytes, i);
      const operand = pagesOf(word) + sign * Math.floor((i + shift) / PAGE);
      putWord(bytes, i, withPages(word, operand));
    }
  }
}

/** The pages that ADRP adds, signed. */
export function pagesOf(word: number): number {
  const high = (word >> 5) & 0x7ffff;
  return (((high << 2) | ((word >>> 29) & 3)) << 11) >> 11;
}

/** An ADRP with other pages, of which the lowest 21 bits count. */
export function withPages(word: number, pages: number): number {
  return (word & ~0x60ffffe0) | ((pages & 3) << 29) | ((pages & 0x1ffffc) << 3);
}
