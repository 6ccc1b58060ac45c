import { isRepositoryPattern } from '../policy/repository-pattern.ts';

/** The roles that every repository has (TUF specification 1.0, section 2.1). */
export const TOP_ROLES = ['root', 'targets', 'snapshot', 'timestamp'] as const;
export type TopRole = (typeof TOP_ROLES)[number];

/** Largest files that are read, in bytes. A root of ten keys is below 4 KiB. */
export const MAX_BYTES = {
  root: 64 * 1024,
  timestamp: 16 * 1024,
  snapshot: 1024 * 1024,
  targets: 4 * 1024 * 1024,
} as const;

/** Most roots that are followed in one refresh; the next one goes on from there. */
export const MAX_ROOTS = 64;
/** Most delegated roles that are looked through for one channel. */
export const MAX_DELEGATIONS = 32;

/** How deep beneath a pattern such as `os/*` repositories may lie. */
const MAX_DEPTH = 4;
const ROLE = /^[a-z0-9][a-z0-9_-]{0,63}$/;
const FILE = /^(?:[1-9][0-9]{0,15}\.([a-z0-9][a-z0-9_-]{0,63})|timestamp)\.json$/;

/** Whether a text can name a delegated role; it becomes part of file names. */
export function isDelegatedRole(text: string): boolean {
  return ROLE.test(text) && !(TOP_ROLES as readonly string[]).includes(text);
}

/** Name of the file of one version of a role; that of the timestamp is always the same. */
export function roleFile(role: string, version: number): string {
  return role === 'timestamp' ? 'timestamp.json' : `${version}.${role}.json`;
}

/** The role that a file is of, or undefined for what is no name of such a file. */
export function roleOfFile(name: string): string | undefined {
  const found = FILE.exec(name);
  return found === null ? undefined : (found[1] ?? 'timestamp');
}

/** Largest size of a role's file, in bytes. */
export function maxBytes(role: string): number {
  return role in MAX_BYTES ? MAX_BYTES[role as TopRole] : MAX_BYTES.targets;
}

/** The target path of a channel: what a tag of a repository means is stated under it. */
export function channelPath(repository: string, tag: string): string {
  return `${repository}/${tag}`;
}

/**
 * Name of a target's file when snapshots are consistent: its hash is put before the last part of
 * its path (TUF specification 1.0, section 6.2).
 */
export function targetFile(path: string, hash: string): string {
  const slash = path.lastIndexOf('/') + 1;
  return `${path.slice(0, slash)}${hash}.${path.slice(slash)}`;
}

/**
 * The path patterns of TUF for the channels of all repositories that a repository pattern covers.
 * A `*` of TUF stands for one part of a path only, so `os/*` becomes several, down to four parts
 * beneath it.
 */
export function delegatedPaths(pattern: string): string[] {
  if (!isRepositoryPattern(pattern)) throw new Error(`not a repository pattern: ${pattern}`);
  if (pattern !== '*' && !pattern.endsWith('/*')) return [`${pattern}/*`];
  return Array.from({ length: MAX_DEPTH }, (_, depth) => `${pattern}${'/*'.repeat(depth + 1)}`);
}
