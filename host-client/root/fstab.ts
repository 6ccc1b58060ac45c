/** One file system that snaphost mounts on a machine it installed. */
export type Mount = {
  /** What is mounted: `UUID=...`. */
  readonly device: string;
  /** Where: an absolute path. */
  readonly at: string;
  readonly type: string;
  readonly options: string;
};

const BEGIN = '# snaphost: written for each deployment; lines outside of this block are kept';
const END = '# snaphost: end';

/**
 * Puts `mounts` into an fstab(5): the block that an earlier deployment has left is replaced, other
 * lines stay as they are, but for those that mount something at the same places.
 */
export function withMounts(fstab: string, mounts: readonly Mount[]): string {
  const places = new Set(mounts.map(({ at }) => at));
  const kept: string[] = [];
  let inside = false;
  for (const line of fstab.split('\n')) {
    if (line === BEGIN) inside = true;
    else if (line === END) inside = false;
    else if (!inside && !places.has(placeOf(line) ?? '')) kept.push(line);
  }
  while (kept.at(-1)?.trim() === '') kept.pop();
  const ours = mounts.map(
    ({ device, at, type, options }) => `${device} ${at} ${type} ${options} 0 0`,
  );
  return [...kept, BEGIN, ...ours, END, ''].join('\n');
}

function placeOf(line: string): string | undefined {
  if (/^\s*(#|$)/.test(line)) return undefined;
  const place = line.trim().split(/\s+/)[1];
  return place === '/' ? place : place?.replace(/\/+$/, '');
}
