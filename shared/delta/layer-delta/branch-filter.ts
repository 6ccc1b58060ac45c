import { shiftArm64 } from './arm64-filter.ts';
import { putWord, wordAt } from './bytes.ts';

/** How LITERAL's bytes stand in the delta (FORMAT.md section 6.2). */
export const FILTER = { NONE: 0, X86_64: 1, ARM64: 2 } as const;
/** Longest LITERAL with a filter. */
export const MAX_FILTERED = 65_536;

/** Operands in [-RANGE, RANGE) are changed, and stay in it: so the reader sees which ones were. */
const RANGE = 1 << 24;
/** Leading bits that a number in that range does not need. */
const SPARE = 7;

/**
 * Makes the operands of code that count from where they stand count from the start of the content, so
 * that what is called from many places looks the same in each. Changes `length` bytes from `start`,
 * which stand at `position` of the content. `filter` says of which machine the code is.
 */
export function filterCode(
  filter: number,
  bytes: Uint8Array,
  start: number,
  length: number,
  position: number,
): void {
  shifterOf(filter)(bytes, start, start + length, position - start, 1);
}

/** Takes back what {@link filterCode} did. */
export function unfilterCode(
  filter: number,
  bytes: Uint8Array,
  start: number,
  length: number,
  position: number,
): void {
  shifterOf(filter)(bytes, start, start + length, position - start, -1);
}

/** What changes the operands of a machine's code. */
function shifterOf(filter: number): typeof shiftArm64 {
  return filter === FILTER.ARM64 ? shiftArm64 : shiftOperands;
}

/** `shift` is from a place in `bytes` to that in the content. */
function shiftOperands(
  bytes: Uint8Array,
  start: number,
  end: number,
  shift: number,
  sign: number,
): void {
  for (let i = start; i < end; ) {
    const at = operandAt(bytes, i, end);
    i += 1;
    if (at === 0) continue;
    const value = wordAt(bytes, at);
    // Also an operand that stays is passed over: what stands in it may not change.
    i = at + 4;
    if (value < -RANGE || value >= RANGE) continue;
    putWord(bytes, at, ((value + sign * (i + shift)) << SPARE) >> SPARE);
  }
}

/**
 * Where the operand of an instruction at `i` stands, or 0: CALL, and MOV and LEA of eight bytes with
 * an address that counts from the next instruction. Looks at nothing before `i`, which may be changed.
 */
function operandAt(bytes: Uint8Array, i: number, end: number): number {
  const byte = bytes[i] as number;
  let at = 0;
  if (byte === 0xe8) at = i + 1;
  else if ((byte & 0xf8) === 0x48 && i + 3 < end) {
    const opcode = bytes[i + 1] as number;
    if ((opcode === 0x8b || opcode === 0x8d) && ((bytes[i + 2] as number) & 0xc7) === 0x05) {
      at = i + 3;
    }
  }
  return at + 4 <= end ? at : 0;
}
