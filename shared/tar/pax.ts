import { SnapgateError } from '../errors.ts';
import type { TarTime } from './entry.ts';

/** The records of a pax extended header, in order; values hold one byte per character (latin1). */
export type PaxRecords = readonly (readonly [key: string, value: string])[];

/**
 * Parses `LENGTH KEY=VALUE\n` records (POSIX pax, "Extended Header"). Throws TAR_INVALID.
 */
export function parsePax(data: Buffer): PaxRecords {
  const records: [string, string][] = [];
  let at = 0;
  while (at < data.length) {
    const space = data.indexOf(0x20, at);
    const length =
      space < 0 || space - at > 10 ? Number.NaN : Number(data.toString('latin1', at, space));
    const end = at + length;
    const valid = Number.isInteger(length) && end > space + 1 && end <= data.length;
    if (!valid || data[end - 1] !== 0x0a) {
      throw new SnapgateError('TAR_INVALID', 'a pax record is malformed');
    }
    const equals = data.indexOf(0x3d, space);
    if (equals < 0 || equals >= end - 1 || equals === space + 1) {
      throw new SnapgateError('TAR_INVALID', 'a pax record has no key');
    }
    records.push([
      data.toString('latin1', space + 1, equals),
      data.toString('latin1', equals + 1, end - 1),
    ]);
    at = end;
  }
  return records;
}

/** A whole number of a pax record. Throws TAR_INVALID. */
export function paxInteger(key: string, value: string): number {
  const number = Number(value);
  if (/^-?\d+$/.test(value) && Number.isSafeInteger(number)) return number;
  throw new SnapgateError('TAR_INVALID', `pax record ${key} is not a number`);
}

/** A time of a pax record: seconds with any number of decimals, also before 1970. Throws TAR_INVALID. */
export function paxTime(key: string, value: string): TarTime {
  const parts = /^(-?)(\d+)(?:\.(\d*))?$/.exec(value);
  const whole = Number(parts?.[2]);
  if (parts === null || !Number.isSafeInteger(whole)) {
    throw new SnapgateError('TAR_INVALID', `pax record ${key} is not a time`);
  }
  const nanoseconds = Number((parts[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (parts[1] === '') return { seconds: whole, nanoseconds };
  if (nanoseconds === 0) return { seconds: whole === 0 ? 0 : -whole, nanoseconds: 0 };
  return { seconds: -whole - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}
