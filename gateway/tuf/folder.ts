import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Metadata, Root, Targets } from '@tufjs/models';
import { SnapgateError } from '../../shared/errors.ts';
import { encodeMetadata, parseMetadata } from '../../shared/tuf/metadata.ts';
import { isDelegatedRole, maxBytes, roleFile, roleOfFile } from '../../shared/tuf/roles.ts';
import { writeFileWhole } from '../layout/write-file.ts';

/** Largest target that is served, in bytes: a manifest. */
const MAX_TARGET = 4 * 1024 * 1024;
const TARGET_PATH = /^[a-z0-9._/-]+\/[0-9a-f]{64}\.[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;

/** A role that people sign: it is edited and signed beside what is published, then published. */
export type OfflineRole = Metadata<Root> | Metadata<Targets>;

/**
 * A TUF repository in a folder: `metadata` and `targets` are what clients read, in the layout that
 * every web server can serve; `staged` holds what is not signed by enough keys yet. Files appear
 * whole or not at all.
 */
export class TufFolder {
  readonly dir: string;

  private constructor(dir: string) {
    this.dir = dir;
  }

  /** Opens a repository. Throws METADATA_MISSING. */
  static async open(dir: string): Promise<TufFolder> {
    if ((await stat(join(dir, 'metadata')).catch(() => undefined))?.isDirectory()) {
      return new TufFolder(dir);
    }
    throw new SnapgateError('METADATA_MISSING', 'there is no TUF repository', {
      where: dir,
      hint: 'Make one with snapgate tuf init.',
    });
  }

  /** Opens a repository, or makes an empty one. */
  static async openOrCreate(dir: string): Promise<TufFolder> {
    return TufFolder.open(dir).catch(() => TufFolder.create(dir));
  }

  /** Makes a new repository. Throws USAGE where there is one. */
  static async create(dir: string): Promise<TufFolder> {
    if ((await stat(join(dir, 'metadata')).catch(() => undefined)) !== undefined) {
      throw new SnapgateError('USAGE', 'there is a TUF repository already', {
        where: dir,
        hint: 'See it with snapgate tuf status; change its keys with snapgate tuf rotate.',
      });
    }
    for (const name of ['targets', 'staged', 'metadata']) {
      await mkdir(join(dir, name), { recursive: true });
    }
    return new TufFolder(dir);
  }

  /** Versions of a role that are published, oldest first. */
  async versions(role: string): Promise<number[]> {
    const names = await readdir(join(this.dir, 'metadata'));
    return names
      .filter((name) => roleOfFile(name) === role)
      .map((name) => Number.parseInt(name, 10))
      .sort((a, b) => a - b);
  }

  /** A published file of metadata, undefined when there is none of this name. */
  async metadata(name: string): Promise<Buffer | undefined> {
    const role = roleOfFile(name);
    return role === undefined ? undefined : readBounded(this.#published(name), maxBytes(role));
  }

  /** The newest published file of a role. */
  async latest(role: string): Promise<Buffer | undefined> {
    const version = role === 'timestamp' ? 1 : (await this.versions(role)).at(-1);
    return version === undefined ? undefined : this.metadata(roleFile(role, version));
  }

  async publish(role: string, version: number, bytes: Uint8Array): Promise<void> {
    await writeWhole(this.#published(roleFile(role, version)), bytes);
  }

  /** A target by the name of its file, with its hash; undefined when there is none. */
  async target(name: string): Promise<Buffer | undefined> {
    if (!TARGET_PATH.test(name) || name.split('/').some((part) => /^\.*$/.test(part))) {
      return undefined;
    }
    return readBounded(join(this.dir, 'targets', name), MAX_TARGET);
  }

  async putTarget(name: string, bytes: Uint8Array): Promise<void> {
    const path = join(this.dir, 'targets', name);
    await mkdir(dirname(path), { recursive: true });
    await writeWhole(path, bytes);
  }

  /** The roles that are staged, root first. */
  async staged(): Promise<Map<string, OfflineRole>> {
    const names = await readdir(join(this.dir, 'staged')).catch(() => []);
    const roles = names.filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -5));
    const known = roles.filter((role) => isDelegatedRole(role)).sort();
    const found = new Map<string, OfflineRole>();
    for (const role of ['root', 'targets', ...known]) {
      const bytes = await readBounded(this.#staged(role), maxBytes(role));
      if (bytes === undefined) continue;
      const where = this.#staged(role);
      const parse = () => parseMetadata('targets', bytes, where);
      found.set(role, role === 'root' ? parseMetadata('root', bytes, where) : parse());
    }
    return found;
  }

  async stage(role: string, metadata: OfflineRole): Promise<void> {
    await mkdir(join(this.dir, 'staged'), { recursive: true });
    await writeWhole(this.#staged(role), encodeMetadata(metadata));
  }

  async unstage(role: string): Promise<void> {
    await rm(this.#staged(role), { force: true });
  }

  #published(name: string): string {
    return join(this.dir, 'metadata', name);
  }

  #staged(role: string): string {
    return join(this.dir, 'staged', `${role}.json`);
  }
}

/** Reads a whole small file; undefined when there is none. Throws LIMIT_EXCEEDED. */
async function readBounded(path: string, limit: number): Promise<Buffer | undefined> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
  try {
    const { size } = await file.stat();
    if (size <= limit) return await file.readFile();
    throw new SnapgateError('LIMIT_EXCEEDED', `more than ${limit} bytes`, { where: path });
  } finally {
    await file.close();
  }
}

/** A file appears whole or not at all. */
async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  await writeFileWhole(`${path}.${randomBytes(6).toString('hex')}.tmp`, path, [bytes]);
}
