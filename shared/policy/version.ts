/** A version that can be compared: its numbers, and what stands after a hyphen. */
export type Version = {
  readonly numbers: readonly bigint[];
  readonly pre: readonly string[];
};

const VERSION =
  /^v?(\d{1,32}(?:\.\d{1,32}){0,15})(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?$/;
const MAX_VERSION = 256;

/**
 * Reads a version: numbers with dots between them, as many as there are, and optionally a hyphen and
 * what comes before the release (`2026.4.1`, `v1.0.0-rc.2`, `41.20261101.0`). What follows a plus
 * sign does not count. Undefined for any other text.
 */
export function parseVersion(text: string): Version | undefined {
  const found = text.length > MAX_VERSION ? null : VERSION.exec(text);
  if (found === null) return undefined;
  const [, numbers = '', pre] = found;
  return { numbers: numbers.split('.').map(BigInt), pre: pre?.split('.') ?? [] };
}

/**
 * Compares versions by the order of SemVer 2.0, section 11, for any count of numbers; a number that
 * is missing is 0. Negative when `a` is older, positive when it is newer.
 */
export function compareVersions(a: Version, b: Version): number {
  const length = Math.max(a.numbers.length, b.numbers.length);
  for (let i = 0; i < length; i += 1) {
    const order = compare(a.numbers[i] ?? 0n, b.numbers[i] ?? 0n);
    if (order !== 0) return order;
  }
  if (a.pre.length === 0 || b.pre.length === 0) return b.pre.length - a.pre.length;
  for (let i = 0; i < Math.min(a.pre.length, b.pre.length); i += 1) {
    const order = comparePre(a.pre[i] ?? '', b.pre[i] ?? '');
    if (order !== 0) return order;
  }
  return a.pre.length - b.pre.length;
}

/** Numbers compare as numbers, and come before words. */
function comparePre(a: string, b: string): number {
  const isNumber = (text: string) => /^\d+$/.test(text);
  if (isNumber(a) && isNumber(b)) return compare(BigInt(a), BigInt(b));
  if (isNumber(a) !== isNumber(b)) return isNumber(a) ? -1 : 1;
  return compare(a, b);
}

function compare<T extends bigint | string>(a: T, b: T): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
