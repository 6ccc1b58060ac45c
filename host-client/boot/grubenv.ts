import { SnapgateError } from '../../shared/errors.ts';

/** Size of GRUB's environment block in bytes: GRUB rewrites it in place and can never make it longer. */
const SIZE = 1024;
const HEADER = '# GRUB Environment Block\n';

/** Reads an environment block (GRUB manual, "The GRUB environment block"). Throws BOOT_INVALID. */
export function parseGrubenv(block: Buffer): Map<string, string> {
  const text = block.toString('latin1');
  if (block.length !== SIZE || !text.startsWith(HEADER)) {
    throw new SnapgateError('BOOT_INVALID', 'not a GRUB environment block', {
      hint: 'Make a new one with grub-editenv FILE create.',
    });
  }
  const values = new Map<string, string>();
  for (const line of text.slice(HEADER.length).split('\n')) {
    const equals = line.indexOf('=');
    if (equals > 0 && !line.startsWith('#')) {
      values.set(line.slice(0, equals), line.slice(equals + 1).replace(/\\(.)/g, '$1'));
    }
  }
  return values;
}

/** Writes an environment block. Throws BOOT_INVALID when the values do not fit. */
export function formatGrubenv(values: ReadonlyMap<string, string>): Buffer {
  const lines = [...values].map(([name, value]) => `${name}=${value.replace(/[\\\n]/g, '\\$&')}\n`);
  const text = `${HEADER}${lines.join('')}`;
  if (Buffer.byteLength(text, 'latin1') > SIZE) {
    throw new SnapgateError('BOOT_INVALID', 'too many values for a GRUB environment block');
  }
  return Buffer.from(text.padEnd(SIZE, '#'), 'latin1');
}
